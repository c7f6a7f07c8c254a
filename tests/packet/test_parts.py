# SPDX-License-Identifier: Apache-2.0
"""All parts of a datagram reach one member, whatever order they come in."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import permutations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, Raw

from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Number
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.edge import (
    OWN_PORT,
    answer,
    back,
    forget,
    opened,
    own_of,
    there,
    towards,
    translate,
)
from tests.packet.frames import DROP, client_of, ether, ip, tcp, udp
from tests.packet.parts import Wire, parts_of, wire
from tests.packet.tunnels import WAYS, Way, prepare
from tests.planes import VIP4, VIP6, backends, director, mac

pytestmark = pytest.mark.requirement("L12")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
BODY = bytes(range(250)) * 5
MEMBERS = {VIP4: (1, 2, 3, 4), VIP6: (5, 6, 7, 8)}
HELD_OF_ONE, HELD_OCTETS = 48, 1600


def clear(bench: Bench) -> None:
    """Have the programs remember no connection and no part of a datagram."""
    for table in (bench.maps.flows, bench.maps.fragmented, bench.maps.held):
        for key, _ in list(table.items()):
            del table[key]


@pytest.fixture
def pools(shared_bench: Bench) -> Iterator[Bench]:
    """A director of a pool of each family."""
    for vip, numbers in MEMBERS.items():
        shared_bench.apply(director(backends(*numbers), address=vip, pool=vip.version))
    yield shared_bench
    clear(shared_bench)


@pytest.fixture
def uplink() -> Iterator[Wire]:
    """The other end of the uplink."""
    with wire("up1") as end:
        yield end


def datagram(vip: Address, kind: type[Packet], sport: int, identity: int = 7) -> list[bytes]:
    """A client's datagram, or its segment in the middle of a connection, in parts."""
    port, fields = (80, {"flags": "PA"}) if kind is TCP else (53, {})
    transport = kind(sport=sport, dport=port, **fields) / Raw(BODY)
    whole = bytes(ether() / ip(client_of(vip), vip) / transport)
    return parts_of(whole, identity)


def delivered(frames: list[bytes], member: int) -> Counter[bytes]:
    """The frames as the director sends them to a member."""
    return Counter(mac(member).packed + UPLINK_MAC.packed + frame[12:] for frame in frames)


def connected(bench: Bench, vip: Address, kind: type[Packet], sport: int) -> int:
    """The member that a new connection goes to."""
    number = bench.direct(tcp("S", sport, vip) if kind is TCP else udp(sport, vip))
    assert number
    return number


@FAMILIES
@PROTOCOLS
def test_parts_in_order_reach_the_member_of_their_connection(
    pools: Bench, vip: Address, kind: type[Packet]
) -> None:
    for sport in range(40000, 40004):
        member = connected(pools, vip, kind, sport)
        parts = datagram(vip, kind, sport, sport)
        assert len(parts) > 3
        assert [pools.direct(part) for part in parts] == [member] * len(parts)


@FAMILIES
@PROTOCOLS
def test_parts_in_any_order_reach_the_member_of_their_connection(
    pools: Bench, uplink: Wire, vip: Address, kind: type[Packet]
) -> None:
    connected(pools, vip, kind, 40000)
    member = connected(pools, vip, kind, 41000)
    for identity, parts in enumerate(permutations(datagram(vip, kind, 41000)[:4]), 1):
        named = [_named(part, identity) for part in parts]
        uplink.send(named)
        assert Counter(uplink.take(4, mac(member).packed)) == delivered(named, member)
    assert not list(pools.maps.held.items())


def _named(part: bytes, identity: int) -> bytes:
    """The part of another datagram; the director does not look at IPv4's header checksum."""
    if part[12] == 0x08:
        return part[:18] + identity.to_bytes(2) + part[20:]
    return part[:58] + identity.to_bytes(4) + part[62:]


def counted(bench: Bench, vip: Address) -> Counter[str]:
    """What all members of a pool were given."""
    counters = bench.engine.counters(director((), pool=vip.version).pool_id)
    return Counter(
        connections=sum(c.connections for c in counters),
        packets=sum(c.packets_in for c in counters),
    )


@FAMILIES
def test_a_datagram_whose_parts_come_backwards_is_one_new_connection(
    pools: Bench, uplink: Wire, vip: Address
) -> None:
    parts = datagram(vip, UDP, 42000)
    before = counted(pools, vip)
    uplink.send(reversed(parts))
    uplink.take(len(parts), UPLINK_MAC.packed)
    assert counted(pools, vip) - before == Counter(connections=1, packets=len(parts))


@FAMILIES
def test_datagrams_of_several_clients_do_not_mix(pools: Bench, uplink: Wire, vip: Address) -> None:
    ports = range(43000, 43004)
    members = {port: connected(pools, vip, UDP, port) for port in ports}
    many = {port: datagram(vip, UDP, port, identity=port) for port in ports}
    uplink.send(
        part for parts in zip(*map(reversed, many.values()), strict=True) for part in parts
    )
    expected: Counter[bytes] = Counter()
    for port, parts in many.items():
        expected += delivered(parts, members[port])
    assert Counter(uplink.take(expected.total(), UPLINK_MAC.packed)) == expected


@FAMILIES
def test_parts_of_what_is_refused_are_dropped_and_not_held(pools: Bench, vip: Address) -> None:
    transport = UDP(sport=44000, dport=54) / Raw(BODY)
    first, *rest = parts_of(bytes(ether() / ip(client_of(vip), vip) / transport))
    before = Counter(pools.engine.events())
    for part in (first, *rest):
        assert pools.run("director", part, pools.uplink)[0] == DROP
    counted = Counter(pools.engine.events()) - before
    assert counted == Counter(no_service=1, fragment=len(rest))


@FAMILIES
def test_parts_without_a_first_are_held_within_bounds(pools: Bench, vip: Address) -> None:
    _, later, *_ = datagram(vip, UDP, 45000)
    before = Counter(pools.engine.events())
    for _ in range(HELD_OF_ONE + 3):
        assert pools.run("director", later, pools.uplink)[0] == DROP
    assert Counter(pools.engine.events()) - before == Counter(held=HELD_OF_ONE, fragment=3)
    assert len(list(pools.maps.held.items())) <= HELD_OF_ONE


def test_what_is_larger_than_a_place_is_not_held(pools: Bench) -> None:
    large = ip(client_of(VIP4), VIP4, frag=100, id=9, proto=17) / Raw(bytes(HELD_OCTETS))
    before = Counter(pools.engine.events())
    assert pools.run("director", bytes(ether() / large), pools.uplink)[0] == DROP
    assert Counter(pools.engine.events()) - before == Counter(fragment=1)


@FAMILIES
@pytest.mark.parametrize("came", ["first", "later"])
def test_after_two_seconds_an_identification_is_of_another_datagram(
    pools: Bench, vip: Address, came: str
) -> None:
    first, later, *_ = datagram(vip, UDP, 46000)
    pools.run("director", first if came == "first" else later, pools.uplink)
    second = pools.maps.settings[Number(0)].second
    ((key, known),) = pools.maps.fragmented.items()
    pools.maps.fragmented[key] = known._replace(seen=known.seen - 2 * second)
    before = pools.engine.events()["held"]
    if came == "first":
        assert pools.direct(later) is None
        assert pools.engine.events()["held"] == before + 1
    else:
        assert pools.direct(first), "what waited is not of this datagram"


@FAMILIES
def test_a_whole_datagram_with_a_fragment_header_is_like_any_other(
    pools: Bench, vip: Address
) -> None:
    whole = datagram(vip, UDP, 47000)[0]
    if vip.version == 6:
        whole = whole[:56] + b"\0\0" + whole[58:]
    else:
        whole = whole[:20] + b"\0\0" + whole[22:]
    assert pools.direct(whole) == pools.direct(udp(47000, vip))
    assert not list(pools.maps.fragmented.items())


@FAMILIES
def test_a_first_part_without_its_ports_is_dropped(pools: Bench, vip: Address) -> None:
    first = datagram(vip, UDP, 48000)[0]
    ports = 62 if vip.version == 6 else 34
    assert pools.run("director", first[: ports + 6], pools.uplink)[0] == DROP


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_parts_travel_through_the_tunnel_to_the_guest(bench: Bench, way: Way) -> None:
    prepare(bench)
    for part in datagram(way.vip, UDP, 49000):
        _, wrapped = bench.run("director", part, bench.uplink)
        assert wrapped[14] >> 4 == way.own.version
        assert bench.to_guest(wrapped) == wrapped[:12] + part[12:]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_of_parts_too_large_for_the_tunnel_only_the_first_is_answered(
    bench: Bench, way: Way
) -> None:
    prepare(bench)
    transport = UDP(sport=49001, dport=53) / Raw(bytes(3200))
    whole = bytes(ether() / ip(client_of(way.vip), way.vip) / transport)
    for part in parts_of(whole, size=1500):
        bench.run("director", part, bench.uplink)
    events = bench.engine.events()
    assert (events["too_big"], events["too_big_drop"]) == (1, 1)


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A tap whose guest serves a pool of each family at a port of its own."""
    shared_bench.clear()
    translate(shared_bench)
    yield shared_bench
    forget(shared_bench)
    clear(shared_bench)
    shared_bench.clear()


@FAMILIES
@PROTOCOLS
def test_parts_in_any_order_reach_a_guest_behind_edge_nat(
    nat: Bench, vip: Address, kind: type[Packet]
) -> None:
    opened(nat, vip, kind)
    came = parts_of(towards(vip, there(kind, body=BODY)))[:4]
    expected = parts_of(towards(own_of(vip), there(kind, OWN_PORT, BODY)))[:4]
    orders = permutations(range(4))
    with wire("tap0") as host, wire("tap1") as guest:
        for order in orders:
            host.send(came[n] for n in order)
            assert Counter(guest.take(4, UPLINK_MAC.packed)) == Counter(expected)
            clear(nat)


@pytest.fixture
def beyond(nat: Bench) -> Iterator[Wire]:
    """The far end of a bridge that the tap is a port of."""
    commands = """link add br9 type bridge
link add out0 type veth peer name out1
link set out0 master br9 up
link set out1 up
link set br9 up
link set tap0 master br9
"""
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    with wire("out1") as end:
        yield end
    for device in ("br9", "out0"):
        subprocess.run(["ip", "link", "del", device], check=True)


@FAMILIES
@PROTOCOLS
def test_parts_of_an_answer_in_any_order_have_the_pools_address(
    nat: Bench, beyond: Wire, vip: Address, kind: type[Packet]
) -> None:
    opened(nat, vip, kind)
    says = parts_of(answer(own_of(vip), back(kind, OWN_PORT, BODY)))[:4]
    expected = parts_of(answer(vip, back(kind, body=BODY)))[:4]
    with wire("tap1") as guest:
        for order in permutations(range(4)):
            guest.send(says[n] for n in order)
            assert Counter(beyond.take(4, GUEST_MAC.packed)) == Counter(expected)
            clear(nat)


@FAMILIES
@pytest.mark.parametrize("backwards", [False, True])
def test_parts_of_the_guests_own_pass_as_they_are(
    nat: Bench, beyond: Wire, vip: Address, backwards: bool
) -> None:
    says = parts_of(answer(own_of(vip), back(UDP, 4711, BODY)))
    with wire("tap1") as guest:
        guest.send(reversed(says) if backwards else says)
        assert Counter(beyond.take(len(says), GUEST_MAC.packed)) == Counter(says)
