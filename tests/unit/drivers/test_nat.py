# SPDX-License-Identifier: Apache-2.0
"""NAT: pools compiled to planes, compared with translations.json.

See cases.py on how new planes are accepted.
"""

from collections.abc import Set
from dataclasses import replace
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from cloudlb.drivers.base import RemoteServers
from cloudlb.drivers.dr import DirectRouting
from cloudlb.drivers.nat import Nat
from cloudlb.model.dataplane import BackendState, Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import (
    ClientAddress,
    Placement,
    Protocol,
    Scheduler,
    Translation,
    remote_server,
)
from cloudlb.model.snapshot import MemberView, PoolView
from tests.planes import VIP4, VIP6, mac, member_id
from tests.unit.drivers.cases import Case, Golden
from tests.views import LAN, member, pool

NAT = Nat()
NETWORK = replace(LAN, vip_range=(ip_network("192.0.2.96/27"), ip_network("2001:db8::100/120")))
SEEN = ("192.0.2.13", "2001:db8::13", "fe80::13")


def seen(number: int, *addresses: str, host: str = "c1", port: int | None = None) -> MemberView:
    """A member whose guest was seen to use these addresses."""
    one = member(number)
    known = tuple(map(ip_address, addresses))
    placement = Placement(host, mac(number), addresses=known)
    return replace(one, member=replace(one.member, port=port), placement=placement)


def view(*members: MemberView, address: Address = VIP4) -> PoolView:
    """A pool behind edge NAT."""
    return PoolView(pool(data_plane="nat", address=address), NETWORK, members)


def by(translation: Translation, *members: MemberView, address: Address = VIP4) -> PoolView:
    """A pool that is translated elsewhere than at the edge."""
    one = view(*members, address=address)
    return replace(one, pool=replace(one.pool, translation=translation))


def told(one: PoolView) -> PoolView:
    """A pool that tells members of clients."""
    return replace(one, pool=replace(one.pool, client_address=ClientAddress.TCP_OPTION))


def remote(number: int, address: str, port: int | None = None) -> MemberView:
    """A server on no host with an agent."""
    own = ip_address(address)
    one = member(number).member
    spec = replace(one, remote=own, server=remote_server(own), port=port)
    return MemberView(spec, None)


PAIR = (seen(3, *SEEN, port=8080), seen(1, "192.0.2.11", host="c2"))
CASES = {
    "director": Case(view(*PAIR)),
    "director, IPv6": Case(view(*PAIR, address=VIP6)),
    "compute": Case(view(*PAIR), "c1"),
    "compute, IPv6": Case(view(*PAIR, address=VIP6), "c1"),
    "compute, the other family only": Case(view(*PAIR, address=VIP6), "c2"),
    "director with a guest": Case(view(seen(3, *SEEN, host="d1", port=8080))),
    "own address unknown": Case(view(seen(3), PAIR[1])),
    "own address unknown, compute": Case(view(seen(3), seen(2, "192.0.2.12")), "c1"),
    "member draining": Case(view(replace(PAIR[0], removing=True), PAIR[1])),
    "member draining, compute": Case(view(replace(PAIR[0], removing=True)), "c1"),
    "member down": Case(view(*PAIR), down=frozenset({member_id(3)})),
    "bystander": Case(view(*PAIR), "c9"),
    "pool removed": Case(replace(view(*PAIR), removing=True)),
    "by the director": Case(by(Translation.DIRECTOR, *PAIR)),
    "by the director, compute": Case(by(Translation.DIRECTOR, *PAIR), "c1"),
    "full": Case(by(Translation.FULL, *PAIR)),
    "full, IPv6": Case(by(Translation.FULL, *PAIR, address=VIP6)),
    "full, clients told": Case(told(by(Translation.FULL, *PAIR))),
    "by the director, clients told": Case(told(by(Translation.DIRECTOR, *PAIR))),
    "a remote server": Case(view(PAIR[0], remote(4, "203.0.113.4", port=8081))),
    "a remote server, compute": Case(view(PAIR[0], remote(4, "203.0.113.4")), "c1"),
    "a remote server, IPv6": Case(view(PAIR[0], remote(4, "2001:db8:1::4"), address=VIP6)),
    "a remote server by the director": Case(
        by(Translation.DIRECTOR, PAIR[0], remote(4, "203.0.113.4"))
    ),
    "full, own address unknown": Case(by(Translation.FULL, seen(3), PAIR[1])),
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The planes that were accepted."""
    return Golden("translations.json", NAT, CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pool_compiles_to_the_golden_plane(golden: Golden, name: str) -> None:
    assert CASES[name].compiled(NAT) == golden.plane(name)


def test_every_golden_plane_has_its_case(golden: Golden) -> None:
    assert golden.names() == set(CASES)


def compiled(view: PoolView, host: str = "d1", down: Set[UUID] = frozenset()) -> Plane:
    plane = NAT.compile(view, host, down)
    assert plane
    return plane


@pytest.mark.requirement("L1")
def test_it_forwards_all_that_direct_routing_does_and_translates_ports() -> None:
    able, dr = NAT.capabilities(), DirectRouting().capabilities()
    assert able.protocols == dr.protocols == set(Protocol)
    assert able.address_families == {4, 6}
    assert able.schedulers == dr.schedulers == set(Scheduler)
    assert able.monitors == dr.monitors
    assert able.port_translation
    assert able.remote_members == RemoteServers()


def test_only_the_own_addresses_of_the_pools_family_are_of_use() -> None:
    members = (
        seen(1, "192.0.2.100", "198.51.100.1", "192.0.2.20", "192.0.2.19", "2001:db8::1"),
        seen(2, "169.254.1.2", "2001:db8::2"),
        seen(3),
    )
    plane = compiled(view(*members))
    assert plane.frontend
    assert [(b.address, b.state) for b in plane.frontend.backends] == [
        (ip_address("192.0.2.19"), BackendState.ACTIVE),
        (None, BackendState.IDLE),
        (None, BackendState.IDLE),
    ]
    assert [g.member_id for g in compiled(view(*members), "c1").guests] == [member_id(1)]


def test_the_guest_has_the_members_port_and_the_director_need_not_know_it() -> None:
    plane = compiled(view(seen(3, *SEEN, host="d1", port=8080)))
    (guest,) = plane.guests
    assert (guest.mode, guest.address, guest.port) == (
        Mode.EDGE_NAT,
        ip_address("192.0.2.13"),
        8080,
    )


def test_a_host_whose_members_are_not_known_yet_has_the_pool_without_guests() -> None:
    plane = compiled(view(seen(3)), "c1")
    assert (plane.frontend, plane.guests) == (None, ())
