# SPDX-License-Identifier: Apache-2.0
"""Whom a director probes, and whom it need not ask."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.ports import Ports
from cloudlb.agents.probe import Target
from cloudlb.agents.targets import switched_off, targets
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.ether import Mac
from cloudlb.model.host import Role, Uplink
from cloudlb.model.pool import Port, Protocol
from cloudlb.model.snapshot import PoolView
from cloudlb.net.link import Link
from tests.planes import NETWORK, VIP4, VIP6, mac, member_id
from tests.views import LAN, member, pool, tcp_monitor, view

BRIDGE = Link(2, "br0", Mac("02:00:00:00:00:02"), kind="bridge")
MONITOR = tcp_monitor()


class Uplinks:
    """The part of the inventory that tells a director's addresses."""

    def uplinks(self) -> tuple[Uplink, ...]:
        addresses = (ip_address("192.0.2.1"), ip_address("fe80::1"))
        return (Uplink("lan", "br0", BRIDGE.mac, addresses),)


@pytest.fixture
def ports() -> Ports:
    """The director's br0 is in the network."""
    made = Ports(
        {"lan": "br0"},
        frozenset({Role.DIRECTOR}),
        MemoryEngine(),
        threading.RLock(),
        lambda: None,
    )
    made.link_changed(BRIDGE)
    made.set_numbers({"lan": NETWORK})
    return made


def _targets(ports: Ports, *views: PoolView) -> dict[UUID, Target]:
    inventory: Any = Uplinks()
    return targets("d1", views, ports, inventory)


def _numbers(members: Iterable[UUID]) -> set[int]:
    return {member.int & 0xFFFF for member in members}


def test_a_target_names_the_whole_way(ports: Ports) -> None:
    found = _targets(ports, view(member(1), monitor=MONITOR))
    assert found == {
        member_id(1): Target(
            member_id(1),
            pool().id,
            MONITOR,
            80,
            "br0",
            BRIDGE.mac,
            mac(1),
            ip_address("192.0.2.1"),
            VIP4 + 1,
        )
    }


def test_ipv6_is_probed_from_the_link_local_address(ports: Ports) -> None:
    (found,) = _targets(ports, view(member(1), monitor=MONITOR, address=VIP6)).values()
    assert found.source == ip_address("fe80::1")


@pytest.mark.parametrize(
    ("monitor_port", "ports_of_pool", "port"),
    [
        (None, (Port(Protocol.UDP, 53), Port(Protocol.TCP, 443), Port(Protocol.TCP, 80)), 443),
        (8080, (Port(Protocol.TCP, 80),), 8080),
    ],
)
def test_the_port_is_the_monitors_or_the_pools_first_of_tcp(
    ports: Ports, monitor_port: int | None, ports_of_pool: tuple[Port, ...], port: int
) -> None:
    one = view(member(1), monitor=tcp_monitor(port=monitor_port), ports=ports_of_pool)
    assert _targets(ports, one)[member_id(1)].port == port


@pytest.mark.parametrize(
    "one",
    [
        view(member(1)),
        view(member(1), monitor=MONITOR, directors=("d2",)),
        view(member(1), monitor=MONITOR, removing=True),
        view(member(1, running=False), monitor=MONITOR),
        view(replace(member(1), placement=None), monitor=MONITOR),
        replace(view(member(1), monitor=MONITOR), network=replace(LAN, number=99)),
    ],
    ids=["no monitor", "not directed", "pool removed", "off", "nowhere", "network not here"],
)
def test_nobody_is_asked(ports: Ports, one: PoolView) -> None:
    assert _targets(ports, one) == {}


@pytest.mark.requirement("L9")
def test_a_removed_member_is_asked_on_for_a_dead_one_does_not_drain(ports: Ports) -> None:
    one = view(member(1, removing=True), member(2), monitor=MONITOR)
    assert _numbers(_targets(ports, one)) == {1, 2}


def test_members_of_all_pools_are_asked(ports: Ports) -> None:
    first = view(member(1), member(2), monitor=MONITOR)
    second = view(member(3, pool_number=2), number=2, monitor=MONITOR)
    assert _numbers(_targets(ports, first, second)) == {1, 2, 3}


def test_a_server_that_is_off_needs_no_question() -> None:
    one = view(
        member(1),
        member(2, running=False),
        replace(member(3), placement=None),
        member(4, running=False, removing=True),
        monitor=MONITOR,
    )
    assert _numbers(switched_off("d1", [one])) == {2, 3}


@pytest.mark.parametrize(
    "one",
    [
        view(member(1, running=False)),
        view(member(1, running=False), monitor=MONITOR, directors=("d2",)),
        view(member(1, running=False), monitor=MONITOR, removing=True),
    ],
    ids=["no monitor", "not directed", "pool removed"],
)
def test_another_pools_servers_are_not_told(one: PoolView) -> None:
    assert switched_off("d1", [one]) == frozenset()
