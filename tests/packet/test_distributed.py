# SPDX-License-Identifier: Apache-2.0
"""Two hosts that direct for each other: they choose alike, and pass on at most once."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from uuid import UUID

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from cloudlb.drivers.dpr import DistributedRewriting
from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import Plane
from cloudlb.model.load import Load, borne
from cloudlb.model.network import Address
from cloudlb.model.pool import Forwarding, Placement, Port, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView
from cloudlb.net.bpf.layout import ModeNumber
from tests.packet import tunnels
from tests.packet.conftest import GUEST_MAC, PASS, REDIRECTED, SEED, UPLINK_MAC, Bench
from tests.packet.frames import client_of, ether, ip, tcp
from tests.planes import NETWORK, VIP4, VIP6, mac, member_id, own
from tests.views import LAN, member, pool

DPR = DistributedRewriting()
HOSTS = ("c1", "c2")
HERE, THERE = 17, 18
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
BY_LOAD = pytest.mark.parametrize(
    "scheduler", [scheduler for scheduler in Scheduler if not scheduler.is_hash]
)
WAYS = pytest.mark.parametrize("forwarding", Forwarding)
SCHEDULERS = pytest.mark.parametrize(
    "scheduler", [Scheduler.SOURCE_HASH, Scheduler.FLOW_HASH, Scheduler.MAGLEV]
)
HTTP = Port(Protocol.TCP, 80)


def placed(number: int, host: str) -> MemberView:
    """A member whose guest is on a host."""
    addresses = (own(number, 4), own(number, 6))
    hardware = GUEST_MAC if number == HERE else mac(number)
    return replace(member(number), placement=Placement(host, hardware, addresses=addresses))


def plane(
    host: str,
    *members: MemberView,
    vip: Address = VIP4,
    scheduler: Scheduler = Scheduler.FLOW_HASH,
    forwarding: Forwarding = Forwarding.DR,
) -> Plane:
    """What a host makes of a pool that its members' hosts direct."""
    network = replace(LAN, vip_range=(ip_network(f"{vip}/{vip.max_prefixlen}"),))
    spec = pool(
        address=vip,
        directors=HOSTS,
        virtual_router=9,
        scheduler=scheduler,
        forwarding=forwarding,
    )
    compiled = DPR.compile(PoolView(spec, network, members), host, frozenset())
    assert compiled
    return compiled


@pytest.fixture
def host(bench: Bench) -> Iterator[Bench]:
    """A bench that is one of the hosts, with addresses to send tunnels from."""
    tunnels.attach(bench)
    yield bench
    bench.clear()


def _fresh(bench: Bench, its: Plane) -> None:
    """The bench is a host that knows nothing but its plane."""
    bench.clear()
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    bench.apply(its)


@SCHEDULERS
@FAMILIES
@pytest.mark.requirement("D2")
def test_every_host_sends_a_connection_to_the_same_member_without_a_table(
    host: Bench, vip: Address, scheduler: Scheduler
) -> None:
    members = [placed(HERE, "c1"), *(placed(n, "c2") for n in (THERE, 19, 20))]
    clients = [client_of(vip, n) for n in range(64)]
    chosen = []
    for name in HOSTS:
        its = plane(name, *members, vip=vip, scheduler=scheduler)
        _fresh(host, its)
        chosen.append([host.direct(tcp("S", vip=vip, client=client)) for client in clients])
        assert chosen[-1] == _by_the_model(its, vip, clients)
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == len(members), "all have a share"


def _by_the_model(its: Plane, vip: Address, clients: list[Address]) -> list[int]:
    """The octets of the members' Ethernet addresses that `Bench.direct` tells them by."""
    model = MemoryEngine()
    model.apply(its.pool_id, its)
    numbers = {HERE: int.from_bytes(GUEST_MAC.packed[4:])}
    found = [model.connect(Connection(NETWORK, c, 40000, vip, HTTP), SEED) for c in clients]
    return [numbers.get(m.int & 0xFFFF, m.int & 0xFFFF) for m in found if m]


@pytest.mark.requirement("D2")
@pytest.mark.requirement("D10")
def test_a_packet_in_the_middle_of_a_connection_finds_its_member_at_a_host_that_never_saw_it(
    host: Bench,
) -> None:
    """Its entry host is dead, and had no time to tell."""
    members = [placed(n, "c1" if n % 2 else "c2") for n in range(1, 7)]
    _fresh(host, plane("c1", *members))
    begun = [host.direct(tcp("S", sport=40000 + n)) for n in range(64)]
    _fresh(host, plane("c2", *members))
    assert [host.direct(tcp("PA", sport=40000 + n)) for n in range(64)] == begun


@WAYS
@FAMILIES
@pytest.mark.requirement("D7")
def test_what_was_passed_on_is_no_other_directors_business(
    host: Bench, vip: Address, forwarding: Forwarding
) -> None:
    """Whatever the other host would have done with it: its only member is another one."""
    _fresh(host, plane("c1", placed(THERE, "c2"), vip=vip, forwarding=forwarding))
    result, passed_on = host.run("director", tcp("S", vip=vip), host.uplink)
    assert result == REDIRECTED
    if forwarding is Forwarding.TUN:  # as if the host were its next hop
        passed_on = UPLINK_MAC.packed + passed_on[6:]
    _fresh(host, plane("c2", placed(HERE, "c2"), vip=vip, forwarding=forwarding))
    assert host.run("director", passed_on, host.uplink) == (PASS, passed_on)
    assert list(host.maps.flows.items()) == []


@FAMILIES
@pytest.mark.requirement("D4")
def test_a_packet_travels_in_another_to_a_member_elsewhere_and_as_it_is_to_the_hosts_own(
    host: Bench, vip: Address
) -> None:
    frame = tcp("S", vip=vip)
    _fresh(host, plane("c1", placed(THERE, "c2"), vip=vip, forwarding=Forwarding.TUN))
    result, out = host.run("director", frame, host.uplink)
    outer = Ether(out)[IP if vip.version == 4 else IPv6]
    assert result == REDIRECTED
    assert (outer.dst, bytes(outer.payload)) == (str(own(THERE, vip.version)), frame[14:])
    _fresh(host, plane("c1", placed(HERE, "c1"), vip=vip, forwarding=Forwarding.TUN))
    result, out = host.run("director", frame, host.uplink)
    assert (result, out[:6], out[14:]) == (REDIRECTED, GUEST_MAC.packed, frame[14:])


@FAMILIES
@pytest.mark.requirement("D4")
def test_a_guest_gets_what_came_in_a_tunnel_and_what_came_without_and_clamps_segments(
    host: Bench, vip: Address
) -> None:
    _fresh(host, plane("c1", placed(HERE, "c1"), vip=vip, forwarding=Forwarding.TUN))
    inside = ip(client_of(vip), vip) / TCP(sport=40000, dport=80, flags="S")
    direct = ether(GUEST_MAC, UPLINK_MAC) / inside
    packed = ether(GUEST_MAC, UPLINK_MAC) / ip(tunnels.DIRECTOR4, own(HERE)) / inside
    if vip.version == 6:
        packed = ether(GUEST_MAC, UPLINK_MAC) / ip(tunnels.DIRECTOR6, own(HERE, 6)) / inside
    for frame in (direct, packed):
        got = host.to_guest(bytes(frame))
        assert got
        assert got[14:] == bytes(inside)
    accepts = TCP(sport=80, dport=40000, flags="SA", options=[("MSS", 1460)])
    said = host.from_guest(bytes(ether(UPLINK_MAC, GUEST_MAC) / ip(vip, client_of(vip)) / accepts))
    assert said
    overhead = 40 if vip.version == 4 else 80
    assert dict(Ether(said)[TCP].options)["MSS"] == 1500 - 20 - overhead


@pytest.mark.requirement("D8")
def test_a_connection_with_the_hosts_own_member_is_told_as_others_reach_it(host: Bench) -> None:
    _fresh(host, plane("c1", placed(HERE, "c1"), forwarding=Forwarding.TUN))
    host.direct(tcp("S"))
    told = [(entry.mode, entry.member) for entry in host.engine.sharing.news()]
    assert told == [(ModeNumber.TUN, member_id(HERE).bytes)]


@SCHEDULERS
@pytest.mark.requirement("D8")
def test_connections_of_a_range_that_moved_stay_with_their_former_member(
    host: Bench, scheduler: Scheduler
) -> None:
    """By whichever host they come: each tells the others what it has begun."""
    few = [placed(HERE, "c1"), placed(THERE, "c2")]
    many = [*few, placed(19, "c2"), placed(20, "c1")]
    clients = [client_of(VIP4, n) for n in range(200)]
    _fresh(host, plane("c1", *few, scheduler=scheduler))
    begun = [host.direct(tcp("S", client=client)) for client in clients]
    told = list(host.engine.sharing.news())
    _fresh(host, plane("c2", *few, scheduler=scheduler))
    host.engine.sharing.adopt(told)
    host.apply(plane("c2", *many, scheduler=scheduler))
    assert [host.direct(tcp("PA", client=client)) for client in clients] == begun
    others = [host.direct(tcp("S", sport=50000, client=client)) for client in clients]
    assert set(others) > set(begun), "new ones go by the new table"


@BY_LOAD
@FAMILIES
@pytest.mark.requirement("D3")
def test_what_is_no_syn_and_not_known_goes_to_the_hosts_own_members(
    host: Bench, vip: Address, scheduler: Scheduler
) -> None:
    """Also while new connections go elsewhere, and though another director may be asked."""
    members = [placed(n, "c1" if n < 3 else "c2") for n in range(1, 6)]
    whole = plane("c1", *members, vip=vip, scheduler=scheduler)
    loads = {"c1": Load(9, 5), "c2": Load(1, 5)}
    _fresh(host, borne(whole, _homes(members), "c1", loads))
    host.engine.sharing.befriend(9, mac(77), [mac(77)], 0.0, 60.0)
    begun = {_begun(host, 40000 + n, vip) for n in range(32)}
    unknown = {host.direct(tcp("PA", vip=vip, sport=50000 + n)) for n in range(32)}
    assert (begun, unknown) == ({3, 4, 5}, {1, 2})


@BY_LOAD
@pytest.mark.requirement("D3")
@pytest.mark.requirement("D5")
def test_a_connection_keeps_its_member_when_loads_have_changed(
    host: Bench, scheduler: Scheduler
) -> None:
    members = [placed(n, "c1" if n < 3 else "c2") for n in range(1, 6)]
    whole = plane("c1", *members, scheduler=scheduler)
    _fresh(host, whole)
    went = []
    for number, own_load in enumerate((1, 9, 2)):
        host.apply(
            borne(whole, _homes(members), "c1", {"c1": Load(own_load, 5), "c2": Load(1, 5)})
        )
        ports = range(40000 + 100 * number, 40016 + 100 * number)
        went.append({port: _begun(host, port) for port in ports})
    assert [set(some.values()) for some in went] == [{1, 2}, {3, 4, 5}, {1, 2}]
    for port, chosen in (pair for some in went for pair in some.items()):
        assert host.direct(tcp("PA", sport=port)) == chosen


@pytest.mark.requirement("D5")
def test_a_syn_that_comes_again_goes_where_it_went_though_loads_have_changed(host: Bench) -> None:
    members = [placed(1, "c1"), placed(2, "c2")]
    whole = plane("c1", *members, scheduler=Scheduler.ROUND_ROBIN)
    _fresh(host, borne(whole, _homes(members), "c1", {"c1": Load(1, 5), "c2": Load(1, 5)}))
    assert host.direct(tcp("S")) == 1
    host.apply(borne(whole, _homes(members), "c1", {"c1": Load(9, 5), "c2": Load(1, 5)}))
    assert (host.direct(tcp("S")), host.direct(tcp("S", sport=40001))) == (1, 2)


@pytest.mark.requirement("D3")
def test_a_pool_whose_members_all_rest_still_serves_what_is_not_known(host: Bench) -> None:
    members = [placed(1, "c1"), placed(2, "c2")]
    resting = [replace(m, member=replace(m.member, weight=0)) for m in members]
    its = plane("c1", *resting, scheduler=Scheduler.ROUND_ROBIN)
    _fresh(host, its)
    assert host.direct(tcp("S")) is None
    assert host.direct(tcp("PA")) == 1
    assert host.engine.observe() == {its.pool_id: its}


def _begun(bench: Bench, port: int, vip: Address = VIP4) -> int | None:
    """The member of a connection that the client has acknowledged, and that counts."""
    chosen = bench.direct(tcp("S", sport=port, vip=vip))
    assert bench.direct(tcp("A", sport=port, vip=vip)) == chosen
    return chosen


def _homes(members: list[MemberView]) -> dict[UUID, str]:
    return {m.member.id: m.placement.host for m in members if m.placement}
