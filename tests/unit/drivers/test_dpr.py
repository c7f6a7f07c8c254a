# SPDX-License-Identifier: Apache-2.0
"""Distributed packet rewriting: pools compiled to planes, compared with distributed.json.

See cases.py on how new planes are accepted.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from cloudlb.drivers.dpr import DistributedRewriting
from cloudlb.model.dataplane import BackendState, Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Forwarding, Placement, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView
from tests.planes import VIP4, VIP6, mac, member_id
from tests.unit.drivers.cases import Case, Golden
from tests.views import LAN, member, pool

DPR = DistributedRewriting()
NETWORK = replace(LAN, vip_range=(ip_network("192.0.2.96/27"), ip_network("2001:db8::100/120")))
HOSTS = ("c1", "c2")


def seen(number: int, host: str, *addresses: str) -> MemberView:
    """A member whose guest was seen on a host to use these addresses."""
    known = tuple(map(ip_address, addresses))
    return replace(member(number), placement=Placement(host, mac(number), addresses=known))


PAIR = (seen(1, "c1", "192.0.2.11", "2001:db8::11"), seen(2, "c2", "192.0.2.12", "2001:db8::12"))


def view(forwarding: str, *members: MemberView, address: Address = VIP4) -> PoolView:
    """A pool that its members' hosts direct."""
    spec = pool(
        data_plane="dpr",
        address=address,
        scheduler=Scheduler.FLOW_HASH,
        directors=HOSTS,
        virtual_router=7,
        forwarding=Forwarding(forwarding),
    )
    return PoolView(spec, NETWORK, members or PAIR)


CASES = {
    **{
        f"{way}, {host}, IPv{address.version}": Case(view(way, address=address), host)
        for way in Forwarding
        for host in HOSTS
        for address in (VIP4, VIP6)
    },
    **{
        f"{way}, own address unknown, {host}": Case(view(way, PAIR[0], seen(2, "c2")), host)
        for way in Forwarding
        for host in HOSTS
    },
    "member draining": Case(view("dr", replace(PAIR[0], removing=True), PAIR[1]), "c1"),
    "member down": Case(view("dr"), "c1", frozenset({member_id(1)})),
    "bystander": Case(view("dr"), "c9"),
    "pool removed": Case(replace(view("dr"), removing=True), "c1"),
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The planes that were accepted."""
    return Golden("distributed.json", DPR, CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pool_compiles_to_the_golden_plane(golden: Golden, name: str) -> None:
    assert CASES[name].compiled(DPR) == golden.plane(name)


def test_every_golden_plane_has_its_case(golden: Golden) -> None:
    assert golden.names() == set(CASES)


def compiled(view: PoolView, host: str) -> Plane:
    plane = DPR.compile(view, host, frozenset())
    assert plane
    return plane


def test_it_offers_all_but_what_each_host_would_do_on_its_own() -> None:
    able = DPR.capabilities()
    assert able.schedulers == set(Scheduler)
    assert not able.persistence, "it would bind clients at each host on its own"
    assert able.members_direct
    assert (able.protocols, able.address_families) == (set(Protocol), {4, 6})


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("forwarding", Forwarding)
def test_every_members_host_directs_to_the_same_members_and_serves_its_own(
    forwarding: str,
) -> None:
    planes = [compiled(view(forwarding), host) for host in HOSTS]
    frontends = [plane.frontend for plane in planes]
    assert all(frontends)
    chosen = [
        [(b.member_id, b.weight, b.state) for b in frontend.backends]
        for frontend in frontends
        if frontend
    ]
    assert chosen[0] == chosen[1]
    assert [[g.member_id for g in plane.guests] for plane in planes] == [
        [member_id(1)],
        [member_id(2)],
    ]


@pytest.mark.requirement("D4")
def test_a_tunnel_leads_to_members_elsewhere_and_none_to_the_hosts_own() -> None:
    plane = compiled(view("tun"), "c1")
    assert plane.frontend
    assert [b.mode for b in plane.frontend.backends] == [Mode.DR, Mode.TUN]
    (guest,) = plane.guests
    assert (guest.mode, guest.former) == (Mode.DR, (Mode.TUN,)), "others' tunnels end here"


@pytest.mark.requirement("D2")
def test_hosts_agree_on_a_member_whose_address_only_some_need() -> None:
    unknown = view("tun", PAIR[0], seen(2, "c2"))
    for host in HOSTS:
        plane = compiled(unknown, host)
        assert plane.frontend
        assert [b.state for b in plane.frontend.backends] == [
            BackendState.ACTIVE,
            BackendState.IDLE,
        ]


@pytest.mark.requirement("D3")
@pytest.mark.parametrize("scheduler", Scheduler)
def test_with_any_scheduler_but_a_hash_what_is_not_known_stays_on_the_host(
    scheduler: Scheduler,
) -> None:
    one = view("dr")
    one = replace(one, pool=replace(one.pool, scheduler=scheduler))
    frontend = compiled(one, "c1").frontend
    assert frontend
    assert frontend.keeps_unknown is not scheduler.is_hash
