# SPDX-License-Identifier: Apache-2.0
"""Two directors of a lab in the words of tests: who announces, and what befalls them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until

ALL = ["vm1", "vm2", "vm3", "vm4"]
FIRST, SECOND = "director", "director2"


def pool_of(cloud: Cloud, **spec: Any) -> dict[str, Any]:
    """A pool of both directors, which the first one of them announces."""
    return elected(cloud, lambda: cloud.pool(ALL, **{"directors": [FIRST, SECOND]} | spec))


def elected(cloud: Cloud, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A pool of both directors that is made now, when they have elected."""
    both = [cloud.lab.host(name) for name in (FIRST, SECOND)]
    wait_until("elections for other pools have ended", lambda: not any(map(elects, both)))
    pool = make()
    wait_until("both elect", lambda: all(map(elects, both)))
    wait_until("the first announces", lambda: announcers(cloud, pool) == {pool["directors"][0]})
    return pool


def number(host: Host, name: str) -> int:
    """A process of a director's election, by the file that has its number."""
    return int((host.root / "var/lib/cloudlb/election" / name).read_text())


def kill_election(host: Host) -> None:
    """SIGKILL to all that elects on a host: nobody says goodbye."""
    for name in ("pid", "keepalived.pid", "vrrp.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number(host, name), signal.SIGKILL)


def elects(host: Host) -> bool:
    """Whether its keepalived runs; one that has ended takes its file along."""
    with contextlib.suppress(OSError, ValueError):
        return Path(f"/proc/{number(host, 'vrrp.pid')}").exists()
    return False


def announcer(cloud: Cloud, pool: dict[str, Any]) -> str:
    """The director that announces a pool's address; empty unless there is exactly one."""
    hosts = cloud.ok("GET", f"/pools/{pool['id']}/status")["status"]["hosts"]
    found = [host["host"] for host in hosts if host["announcing"]]
    return found[0] if len(found) == 1 else ""


def neighbour(lab: Lab, pool: dict[str, Any]) -> str:
    """The director that the client sends to, by its Ethernet address."""
    shown = lab.host("client").run(["ip", "neigh", "show", pool["address"]]).stdout
    for name in (FIRST, SECOND):
        if name in {host.name for host in lab.hosts} and lab.host(name).spec.lan_mac in shown:
            return name
    return ""


def announcers(cloud: Cloud, pool: dict[str, Any]) -> set[str]:
    hosts = cloud.ok("GET", f"/pools/{pool['id']}/status")["status"]["hosts"]
    return {host["host"] for host in hosts if host["announcing"]}


def alive(cloud: Cloud, host: str) -> bool:
    return bool(cloud.ok("GET", f"/hosts/{host}")["host"]["alive"])


def switch(lab: Lab, *arguments: str) -> None:
    """A command of ip in the switch."""
    subprocess.run(["ip", "-netns", f"{lab.name}-switch", *arguments], check=True)


@contextlib.contextmanager
def unplugged(lab: Lab, host: str, *bridges: str) -> Iterator[None]:
    """No frame reaches a host, or leaves it, by these networks."""
    for bridge in bridges:
        switch(lab, "link", "set", f"{bridge}-{host}", "down")
    try:
        yield
    finally:
        for bridge in bridges:
            switch(lab, "link", "set", f"{bridge}-{host}", "up")


@contextlib.contextmanager
def cut_off(lab: Lab, host: str, *bridges: str) -> Iterator[None]:
    """The same, and the host does not notice: its links stay up."""
    command = ["bridge", "-netns", f"{lab.name}-switch", "link", "set", "dev"]

    def put(state: str) -> None:
        for bridge in bridges:
            subprocess.run([*command, f"{bridge}-{host}", "state", state], check=True)

    put("disabled")
    try:
        yield
    finally:
        put("forwarding")


def route(lab: Lab, pool: dict[str, Any], *directors: str) -> None:
    """The client's routing has these next hops for a pool's address."""
    is_six = ":" in pool["address"]
    hops = []
    for name in directors:
        spec = lab.host(name).spec
        hops += ["nexthop", "via", str(spec.lan6 if is_six else spec.lan4), "dev", "eth0"]
    target = f"{pool['address']}/{128 if is_six else 32}"
    family = "-6" if is_six else "-4"
    lab.host("client").run(["ip", family, "route", "replace", target, *hops])


@contextlib.contextmanager
def shared(lab: Lab, pool: dict[str, Any], *directors: str) -> Iterator[None]:
    """The client's connections are shared by addresses and ports over these directors."""
    client = lab.host("client")
    for family in ("ipv4", "ipv6"):
        client.run(["sysctl", "-qw", f"net.{family}.fib_multipath_hash_policy=1"])
    route(lab, pool, *directors)
    try:
        yield
    finally:
        family = "-6" if ":" in pool["address"] else "-4"
        client.run(["ip", family, "route", "del", pool["address"]])


@contextlib.contextmanager
def parted(lab: Lab, bridge: str) -> Iterator[None]:
    """The directors do not hear each other on a network; all others do."""
    ports = [f"{bridge}-{name}" for name in (FIRST, SECOND)]
    for port in ports:
        switch(lab, "link", "set", port, "type", "bridge_slave", "isolated", "on")
    try:
        yield
    finally:
        for port in ports:
            switch(lab, "link", "set", port, "type", "bridge_slave", "isolated", "off")


@contextlib.contextmanager
def unharmed(lab: Lab, pool: dict[str, Any]) -> Iterator[None]:
    """Connections that stay, and new ones, while the block runs; none of them breaks."""
    with (
        Load.flows(lab, pool["address"], 20, interval=0.3) as flows,
        Load.requests(lab, url(pool)) as requests,
    ):
        yield
        time.sleep(2)
    for load in (flows, requests):
        assert not harm(load.result), load.result
