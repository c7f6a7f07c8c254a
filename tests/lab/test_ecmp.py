# SPDX-License-Identifier: Apache-2.0
"""Several active directors: a client's routes share connections over them, and one vanishes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until
from tests.lab.pairs import FIRST, SECOND, pool_of, unharmed, unplugged


def _route(lab: Lab, pool: dict[str, Any], *directors: str) -> None:
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
def shared(lab: Lab, pool: dict[str, Any]) -> Iterator[None]:
    """The client's connections are shared by addresses and ports over both directors."""
    client = lab.host("client")
    for family in ("ipv4", "ipv6"):
        client.run(["sysctl", "-qw", f"net.{family}.fib_multipath_hash_policy=1"])
    _route(lab, pool, FIRST, SECOND)
    try:
        yield
    finally:
        family = "-6" if ":" in pool["address"] else "-4"
        client.run(["ip", family, "route", "del", pool["address"]])


def received(host: Host) -> int:
    """Frames that have come in by a host's interface in the tenant network."""
    path = "/sys/class/net/eth0/statistics/rx_packets"
    return int(host.run(["cat", path]).stdout)


@pytest.mark.requirement("L8")
@pytest.mark.requirement("L14")
@pytest.mark.parametrize(
    ("scheduler", "version", "gone"),
    [("source_hash", 4, FIRST), ("maglev", 6, SECOND), ("round_robin", 4, SECOND)],
)
def test_any_of_the_active_directors_may_vanish_and_come_back(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], scheduler: str, version: int, gone: str
) -> None:
    pool = pool_of(cloud, scheduler=scheduler, version=version)
    left = SECOND if gone == FIRST else FIRST
    with shared(lab, pool):
        before = [received(host) for host in pair]
        assert Load.count(lab, url(pool), 40)["failed"] == 0
        forwarded = [received(host) - old for host, old in zip(pair, before, strict=True)]
        assert min(forwarded) > 40, "both have their share"
        with unharmed(lab, pool):
            _route(lab, pool, left)
            with unplugged(lab, gone, "lan", "mgmt"):
                wait_until(
                    "the control plane misses it",
                    lambda: not cloud.ok("GET", f"/hosts/{gone}")["host"]["alive"],
                    seconds=30,
                )
            _route(lab, pool, FIRST, SECOND)
