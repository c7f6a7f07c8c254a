# SPDX-License-Identifier: Apache-2.0
"""Tunnels: pools compiled to planes, compared with tunnels.json; which address is a member's own.

See cases.py on how new planes are accepted.
"""

from collections.abc import Set
from dataclasses import replace
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from cloudlb.drivers.tun import Tunnel
from cloudlb.model.dataplane import BackendState, Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Placement, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView
from tests.planes import VIP4, VIP6, mac, member_id
from tests.unit.drivers.cases import Case, Golden
from tests.views import LAN, member, pool

TUNNEL = Tunnel()
NETWORK = replace(LAN, vip_range=(ip_network("192.0.2.96/27"), ip_network("2001:db8::100/120")))
SEEN = ("192.0.2.13", "2001:db8::13", "fe80::13")


def seen(number: int, *addresses: str, host: str = "c1") -> MemberView:
    """A member whose guest was seen to use these addresses."""
    known = tuple(map(ip_address, addresses))
    return replace(member(number), placement=Placement(host, mac(number), addresses=known))


def view(*members: MemberView, address: Address = VIP4) -> PoolView:
    """A pool behind tunnels."""
    return PoolView(pool(data_plane="tun", address=address), NETWORK, members)


PAIR = (seen(3, *SEEN), seen(1, "192.0.2.11", host="c2"))
CASES = {
    "director": Case(view(*PAIR)),
    "director, IPv6": Case(view(*PAIR, address=VIP6)),
    "compute": Case(view(*PAIR), "c1"),
    "compute, the other family": Case(view(*PAIR, address=VIP6), "c2"),
    "director with a guest": Case(view(seen(3, *SEEN, host="d1"))),
    "own address unknown": Case(view(seen(3), PAIR[1])),
    "own address unknown, compute": Case(view(seen(3), PAIR[1]), "c1"),
    "member draining": Case(view(replace(PAIR[0], removing=True), PAIR[1])),
    "member down": Case(view(*PAIR), down=frozenset({member_id(3)})),
    "bystander": Case(view(*PAIR), "c9"),
    "pool removed": Case(replace(view(*PAIR), removing=True)),
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The planes that were accepted."""
    return Golden("tunnels.json", TUNNEL, CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pool_compiles_to_the_golden_plane(golden: Golden, name: str) -> None:
    assert CASES[name].compiled(TUNNEL) == golden.plane(name)


def test_every_golden_plane_has_its_case(golden: Golden) -> None:
    assert golden.names() == CASES.keys()


def compiled(one: PoolView, down: Set[UUID] = frozenset()) -> Plane:
    plane = TUNNEL.compile(one, "d1", down)
    assert plane
    return plane


@pytest.mark.parametrize(
    ("vip", "addresses", "own"),
    [
        (VIP4, SEEN, "192.0.2.13"),
        (VIP6, SEEN, "2001:db8::13"),
        (VIP4, ("2001:db8::13", "fe80::13"), "2001:db8::13"),
        (VIP6, ("192.0.2.13", "fe80::13"), "192.0.2.13"),
        (VIP4, ("192.0.2.40", "192.0.2.9", "192.0.2.41"), "192.0.2.9"),
        (VIP4, ("192.0.2.97", "192.0.2.130"), "192.0.2.130"),
        (VIP4, ("10.0.0.1", "192.0.2.130"), "192.0.2.130"),
        (VIP4, ("192.0.2.97", "10.0.0.1", "fe80::13", "2001:db8:1::1"), None),
        (VIP6, (), None),
    ],
)
def test_the_own_address_is_the_lowest_that_is_the_members_in_the_network(
    vip: Address, addresses: tuple[str, ...], own: str | None
) -> None:
    for order in (addresses, tuple(reversed(addresses))):
        plane = compiled(view(seen(1, *order, host="d1"), address=vip))
        assert plane.frontend
        (backend,) = plane.frontend.backends
        (guest,) = plane.guests
        assert backend.address == guest.address == (ip_address(own) if own else None)
        assert (backend.mode, guest.mode) == (Mode.TUN, Mode.TUN)


def test_a_member_whose_own_address_is_unknown_waits() -> None:
    plane = compiled(view(seen(1), seen(2, *SEEN)))
    assert plane.frontend
    states = [b.state for b in plane.frontend.backends]
    assert states == [BackendState.IDLE, BackendState.ACTIVE]


@pytest.mark.requirement("L1")
def test_it_can_forward_both_protocols_and_families() -> None:
    able = TUNNEL.capabilities()
    assert able.protocols == {Protocol.TCP, Protocol.UDP}
    assert able.address_families == {4, 6}
    assert able.schedulers == set(Scheduler)
    assert not able.port_translation
    assert able.remote_members
    assert not able.remote_members.same_family
    assert "unpacks tunnels" in able.remote_members.preparation
