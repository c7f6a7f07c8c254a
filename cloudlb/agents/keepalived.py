# SPDX-License-Identifier: Apache-2.0
"""keepalived's configuration for a host's elections, and what it says of them; pure.

keepalived elects and does nothing else. It wants an address for each virtual router, which it
puts on an interface while it is master: these are loopback addresses that no one sends to, and
the pools' addresses stay on no interface. It runs no script: it writes its transitions into a
FIFO.

The heartbeats of a router take two paths where there are two. The instances of both are a sync
group, of which keepalived makes a master only when every instance wants to be one: so a router
whose heartbeats still come by one path is not taken over. An interface that is down counts on the
pool's network only: who is not reachable there must not announce.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloudlb.agents import candidacy
from cloudlb.agents.candidacy import VirtualRouter
from cloudlb.model.pool import Failover

_PREEMPT_DELAY = 5  # seconds in which one that comes back hears of the connections that there are
_SAID = re.compile(r'(?:GROUP|INSTANCE) "router(\d+)" (\w+)')


def configuration(routers: Sequence[VirtualRouter], interval: float, events: Path) -> str:
    """The text of a configuration; ``interval`` in seconds between two heartbeats."""
    lines = [
        "global_defs {",
        "    router_id cloudlb",
        "    vrrp_version 3",
        "    vrrp_check_unicast_src",
        f"    vrrp_notify_fifo {events}",
        "}",
    ]
    for router in routers:
        lines += _router(router, interval)
    return "\n".join(lines) + "\n"


def _router(router: VirtualRouter, interval: float) -> Iterator[str]:
    name = f"router{router.number}"
    if len(router.paths) == 1:
        yield from _instance(name, router, router.paths[0], interval)
        return
    names = [f"{name}_{place}" for place in range(len(router.paths))]
    yield from (f"vrrp_sync_group {name} {{", "    group {")
    yield from (f"        {one}" for one in names)
    yield from ("    }", "}")
    for one, path in zip(names, router.paths, strict=True):
        yield from _instance(one, router, path, interval)


def _instance(
    name: str, router: VirtualRouter, path: candidacy.Path, interval: float
) -> Iterator[str]:
    yield f"vrrp_instance {name} {{"
    yield from (f"    {line}" for line in _settings(router, path, interval))
    yield "    unicast_peer {"
    yield from (f"        {peer}" for peer in path.peers)
    yield from ("    }", "    virtual_ipaddress {", f"        {_stand_in(router, path)}")
    yield from ("    }", "}")


def _settings(router: VirtualRouter, path: candidacy.Path, interval: float) -> Iterator[str]:
    yield "state BACKUP"
    yield "nopreempt" if router.failover is Failover.STAY else f"preempt_delay {_PREEMPT_DELAY}"
    yield f"interface {path.interface}"
    if path.interface != router.link:
        yield "dont_track_primary"
    if path.source.version == 6:
        yield "native_ipv6"
    yield f"virtual_router_id {router.number}"
    yield f"priority {router.priority}"
    yield f"advert_int {interval:g}"
    yield f"unicast_src_ip {path.source}"


def _stand_in(router: VirtualRouter, path: candidacy.Path) -> str:
    """The address that a router has for keepalived, on the loopback interface of its master."""
    if path.source.version == 6:
        return f"fe80::c10a:{router.number:x}/128 dev lo no_track"
    return f"127.112.0.{router.number}/32 dev lo no_track"


def transition(line: str) -> tuple[int, bool] | None:
    """A router and whether this host is its master, as keepalived writes it; None for the rest.

    An instance of a group speaks for itself only.
    """
    said = _SAID.fullmatch(line.rpartition(" ")[0].strip())
    return (int(said[1]), said[2] == "MASTER") if said else None
