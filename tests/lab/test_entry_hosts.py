# SPDX-License-Identifier: Apache-2.0
"""Addresses that a host of their own announces, and another one after its death."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, Sniffer, url, wait_until
from tests.lab.pairs import announcers, kill_election, unharmed, unplugged
from tests.lab.spread import HOSTS, bridge_mac, distributed
from tests.soak import choose


@pytest.mark.requirement("D13")
@pytest.mark.parametrize("version", choose([6], [4]))
def test_a_client_that_knows_a_dead_hosts_address_only_is_served_by_the_survivor(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    """Each host has an address of its own; that of the other one is as if nothing had happened.

    The members that serve are on the host that stays, so what is lost is lost on the way.
    """
    first = distributed(cloud, ["vm1", "vm3", "vm4"], version, entry_host=HOSTS[0])
    second = cloud.pool(
        ["vm1", "vm3", "vm4"],
        version,
        data_plane="dpr",
        scheduler="flow_hash",
        entry_host=HOSTS[1],
    )
    for pool in (first, second):
        idle = cloud.members(pool)["vm1"]["id"]
        cloud.change(pool, "PATCH", f"/members/{idle}", {"member": {"weight": 0}})
    for pool, host in zip((first, second), HOSTS, strict=True):
        _wait_for(cloud, pool, host)
    with unharmed(lab, first), unharmed(lab, second):
        with Sniffer(lab, second["address"]) as sniffer:
            with _dead(lab, HOSTS[0]):
                wait_until("the client was told", lambda: _hop(lab, first) == HOSTS[1])
                result = Load.count(lab, url(first), 40)
                assert (result["failed"], set(result["servers"])) == (0, {"vm3", "vm4"})
            wait_until("it is taken back", lambda: _hop(lab, first) == HOSTS[0])
        _wait_for(cloud, first, HOSTS[0])
        result = Load.count(lab, url(first), 40)
        assert (result["failed"], set(result["servers"])) == (0, {"vm3", "vm4"})
    assert {mac for mac, _ in sniffer.claims} <= {bridge_mac(lab, HOSTS[1])}, sniffer.claims


@contextlib.contextmanager
def _dead(lab: Lab, name: str) -> Iterator[None]:
    """All that directs on a host is killed, and nothing reaches it."""
    host = lab.host(name)
    with unplugged(lab, name, "lan", "mgmt"):
        host.service("agent").kill()
        kill_election(host)
        try:
            yield
        finally:
            host.service("agent").start()


def _wait_for(cloud: Cloud, pool: dict[str, Any], host: str) -> None:
    wait_until(f"{host} announces", lambda: announcers(cloud, pool) == {host})


def _hop(lab: Lab, pool: dict[str, Any]) -> str:
    """The host that the client sends to."""
    shown = lab.host("client").run(["ip", "neigh", "show", pool["address"]]).stdout
    return next((name for name in HOSTS if bridge_mac(lab, name) in shown), "")
