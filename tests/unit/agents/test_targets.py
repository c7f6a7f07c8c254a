# SPDX-License-Identifier: Apache-2.0
"""Whom a director probes, and whom it need not ask."""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.hops import Hops
from cloudlb.agents.ports import Ports
from cloudlb.agents.target import Target
from cloudlb.agents.targets import switched_off, targets
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.drivers.dr import DirectRouting
from cloudlb.drivers.nat import Nat
from cloudlb.drivers.tun import Tunnel as TunnelDriver
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.ether import Mac
from cloudlb.model.host import Role, Uplink
from cloudlb.model.network import Address
from cloudlb.model.pool import (
    Monitor,
    MonitorType,
    Port,
    Protocol,
    Translation,
    remote_server,
)
from cloudlb.model.snapshot import MemberView, PoolView
from cloudlb.net.frame import Tunnel
from cloudlb.net.hop import NextHop
from cloudlb.net.link import Link
from tests.planes import NETWORK, VIP4, VIP6, mac, member_id
from tests.views import LAN, member, pool, tcp_monitor, view

BRIDGE = Link(2, "br0", Mac("02:00:00:00:00:02"), kind="bridge")
MONITOR = tcp_monitor()
DIRECTOR: tuple[Address, ...] = (ip_address("192.0.2.1"), ip_address("fe80::1"))
DRIVERS: dict[str, DataPlaneDriver] = {
    "dr": DirectRouting(),
    "nat": Nat(),
    "tun": TunnelDriver(),
}


class Uplinks:
    """The part of the inventory that tells a director's addresses."""

    def __init__(self, addresses: tuple[Address, ...] = DIRECTOR) -> None:
        self._addresses = addresses

    def uplinks(self) -> tuple[Uplink, ...]:
        return (Uplink("lan", "br0", BRIDGE.mac, self._addresses),)


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


def _targets(
    ports: Ports, *views: PoolView, hops: Hops | None = None, host: str = "d1"
) -> dict[UUID, Target]:
    inventory: Any = Uplinks()
    return targets(host, views, DRIVERS, ports, inventory, hops or Hops())


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
            home="c1",
        )
    }


def test_ipv6_is_probed_from_the_link_local_address(ports: Ports) -> None:
    (found,) = _targets(ports, view(member(1), monitor=MONITOR, address=VIP6)).values()
    assert found.source == ip_address("fe80::1")


OWN4, OWN6 = ip_address("192.0.2.13"), ip_address("2001:db8::13")


def _behind_tunnel(*addresses: Address, vip: Address = VIP4) -> PoolView:
    """A pool of one member, which was seen to use these addresses."""
    one = member(1)
    assert one.placement
    seen = replace(one, placement=replace(one.placement, addresses=addresses))
    network = replace(LAN, vip_range=(ip_network("192.0.2.96/27"),))
    return replace(view(seen, monitor=MONITOR, data_plane="tun", address=vip), network=network)


@pytest.mark.requirement("L13")
def test_probes_go_through_the_tunnel_of_the_traffic(ports: Ports) -> None:
    (found,) = _targets(ports, _behind_tunnel(OWN4, OWN6)).values()
    here = ip_address("192.0.2.1")
    assert (found.source, found.tunnel, found.obstacle) == (here, Tunnel(here, OWN4), "")


@pytest.mark.parametrize(
    ("one", "obstacle"),
    [
        (_behind_tunnel(), "no address of its own was seen yet"),
        (_behind_tunnel(OWN6), "interface br0 of the director has no IPv6 address"),
        (
            _behind_tunnel(OWN4, vip=VIP6),
            "interface br0 of the director has no IPv6 address",
        ),
    ],
    ids=["own address unknown", "no outer address", "no inner address"],
)
def test_a_tunnel_that_has_no_two_ends_is_not_probed_for_a_reason(
    ports: Ports, one: PoolView, obstacle: str
) -> None:
    (found,) = _targets(ports, one).values()
    assert (found.source, found.obstacle) == (None, obstacle)


class TestHosts:
    """A guest's own host probes it for directors elsewhere, as they do."""

    def test_it_asks_its_own_guests_and_tells_the_directors(self, ports: Ports) -> None:
        one = view(member(1, "c1"), member(2, "c2"), monitor=MONITOR, directors=("d1", "d2"))
        as_director = _targets(ports, one)[member_id(1)]
        found = _targets(ports, one, host="c1")
        assert found == {
            member_id(1): replace(as_director, is_directed=False, home="", listeners=("d1", "d2"))
        }

    def test_through_the_tunnel_too(self, ports: Ports) -> None:
        (found,) = _targets(ports, _behind_tunnel(OWN4), host="c1").values()
        assert found.tunnel == Tunnel(ip_address("192.0.2.1"), OWN4)

    def test_one_that_directs_as_well_tells_the_others(self, ports: Ports) -> None:
        one = view(member(1, "c1"), member(2, "d1"), monitor=MONITOR, directors=("c1", "d1"))
        found = _targets(ports, one)
        said = [(found[member_id(n)].home, found[member_id(n)].listeners) for n in (1, 2)]
        assert said == [("c1", ()), ("", ("c1",))]

    def test_the_only_director_tells_nobody(self, ports: Ports) -> None:
        (found,) = _targets(ports, view(member(1, "d1"), monitor=MONITOR)).values()
        assert (found.is_directed, found.home, found.listeners) == (True, "", ())

    def test_of_a_guest_that_it_cannot_probe_it_says_nothing(self, ports: Ports) -> None:
        inventory: Any = Uplinks(())
        one = view(member(1, "c1"), monitor=MONITOR)
        assert targets("c1", [one], DRIVERS, ports, inventory, Hops()) == {}

    def test_that_its_guest_is_off_is_the_directors_word(self) -> None:
        one = view(member(1, "c1", running=False), monitor=MONITOR)
        assert switched_off("c1", [one]) == frozenset()
        assert switched_off("d1", [one]) == {member_id(1)}


def test_a_director_without_an_address_of_the_family_says_so(ports: Ports) -> None:
    inventory: Any = Uplinks(())
    one = view(member(1), monitor=MONITOR)
    (found,) = targets("d1", [one], DRIVERS, ports, inventory, Hops()).values()
    assert found.source is None
    assert found.obstacle == "interface br0 of the director has no IPv4 address"


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


def _behind_nat(monitor: Monitor, *addresses: str) -> PoolView:
    """A pool of one member, which was seen to use these addresses."""
    one = member(1)
    assert one.placement
    known = tuple(map(ip_address, addresses))
    one = replace(one, placement=replace(one.placement, addresses=known))
    return view(one, monitor=monitor, data_plane="nat", address=VIP6)


@pytest.mark.requirement("L13")
@pytest.mark.parametrize(
    ("monitor", "is_service"),
    [
        (MONITOR, True),
        (tcp_monitor(port=80), True),
        (tcp_monitor(port=53), False),
        (tcp_monitor(port=9000), False),
        (tcp_monitor(type=MonitorType.ICMP), False),
        (tcp_monitor(type=MonitorType.UDP), True),
        (tcp_monitor(type=MonitorType.UDP, port=53), True),
        (tcp_monitor(type=MonitorType.UDP, port=80), False),
    ],
)
def test_a_member_behind_nat_is_asked_at_its_own_address_for_what_is_no_service(
    ports: Ports, monitor: Monitor, is_service: bool
) -> None:
    (found,) = _targets(ports, _behind_nat(monitor, "2001:db8::11")).values()
    assert found.address == (VIP6 if is_service else ip_address("2001:db8::11"))
    assert (found.member_mac, found.source) == (mac(1), ip_address("fe80::1"))


@pytest.mark.requirement("L13")
@pytest.mark.parametrize("translation", [Translation.DIRECTOR, Translation.FULL])
@pytest.mark.parametrize(
    ("monitor", "asked"), [(MONITOR, 8080), (tcp_monitor(port=9000), 9000)], ids=["service", "no"]
)
def test_a_member_that_the_director_translates_for_is_asked_at_its_own_end(
    ports: Ports, translation: Translation, monitor: Monitor, asked: int
) -> None:
    one = _behind_nat(monitor, "2001:db8::11")
    (m,) = one.members
    m = replace(m, member=replace(m.member, port=8080))
    one = replace(one, pool=replace(one.pool, translation=translation), members=(m,))
    (found,) = _targets(ports, one).values()
    assert (found.address, found.port) == (ip_address("2001:db8::11"), asked)
    assert (found.member_mac, found.source) == (mac(1), ip_address("fe80::1"))


def test_a_member_behind_nat_whose_address_is_not_known_cannot_be_asked(ports: Ports) -> None:
    (found,) = _targets(ports, _behind_nat(MONITOR, "192.0.2.11")).values()
    assert (found.source, found.obstacle) == (None, "no address of its own was seen yet")


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


class Neighbours:
    """A kernel that has a way to what it is told of."""

    def __init__(self, **macs: Mac) -> None:
        self.macs = macs
        self.is_routed = True

    def __call__(self, index: int, addresses: Collection[Address]) -> Mapping[Address, NextHop]:
        assert index == BRIDGE.index
        return {
            a: NextHop(a if self.is_routed else None, self.macs.get(f"v{a.version}"))
            for a in addresses
        }


def _remote(data_plane: str, own: Address, vip: Address = VIP4) -> PoolView:
    """A pool of one server that no agent reports."""
    one = replace(member(1).member, remote=own, server=remote_server(own))
    return view(MemberView(one, None), monitor=MONITOR, data_plane=data_plane, address=vip)


@pytest.mark.requirement("L13")
@pytest.mark.requirement("L21")
def test_a_remote_server_is_asked_once_its_next_hop_is_known(ports: Ports) -> None:
    kernel = Neighbours()
    hops = Hops(kernel)
    one = _remote("nat", OWN4)
    assert _targets(ports, one, hops=hops) == {}
    assert not hops.refresh(), "the kernel has just begun to look"
    assert _targets(ports, one, hops=hops) == {}
    kernel.macs["v4"] = mac(9)
    assert hops.refresh()
    (found,) = _targets(ports, one, hops=hops).values()
    assert (found.member_mac, found.address, found.source) == (mac(9), OWN4, DIRECTOR[0])
    assert not hops.refresh()


@pytest.mark.requirement("L21")
def test_a_remote_server_without_a_way_to_it_cannot_be_asked_for_a_reason(ports: Ports) -> None:
    kernel = Neighbours()
    hops = Hops(kernel)
    one = _remote("nat", OWN4)
    _targets(ports, one, hops=hops)
    hops.refresh()
    assert hops.refresh()
    (found,) = _targets(ports, one, hops=hops).values()
    assert (found.source, found.obstacle) == (
        None,
        "nobody answers for 192.0.2.13 on br0 of the director",
    )
    kernel.is_routed = False
    assert hops.refresh()
    (found,) = _targets(ports, one, hops=hops).values()
    assert found.obstacle == "the director has no route to 192.0.2.13 by br0"


@pytest.mark.requirement("L21")
@pytest.mark.parametrize(
    ("data_plane", "own", "address", "tunnel"),
    [
        ("dr", OWN4, VIP4, None),
        ("tun", OWN4, VIP4, Tunnel(DIRECTOR[0], OWN4)),
    ],
)
def test_a_remote_server_is_asked_as_the_traffic_goes(
    ports: Ports, data_plane: str, own: Address, address: Address, tunnel: Tunnel | None
) -> None:
    hops = Hops(Neighbours(v4=mac(9)))
    one = _remote(data_plane, own)
    _targets(ports, one, hops=hops)
    hops.refresh()
    (found,) = _targets(ports, one, hops=hops).values()
    assert (found.member_mac, found.address, found.tunnel) == (mac(9), address, tunnel)


@pytest.mark.requirement("L21")
def test_what_nobody_wants_any_more_is_not_looked_for(ports: Ports) -> None:
    kernel = Neighbours(v4=mac(9))
    hops = Hops(kernel)
    _targets(ports, _remote("nat", OWN4), hops=hops)
    hops.refresh()
    with hops.anew():
        pass
    assert not hops.refresh()
    assert hops.towards(BRIDGE, OWN4).is_asked_for
