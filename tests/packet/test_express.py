# SPDX-License-Identifier: Apache-2.0
"""The director's short cut in the driver: with a packet of a known connection it does exactly what
the director does, and it touches nothing else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw

from cloudlb.model.dataplane import BackendState, Mode, Plane
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Flow, FlowKey, ModeNumber
from tests.packet.conftest import REDIRECTED, UPLINK_MAC, Bench
from tests.packet.frames import (
    CLIENT6,
    CLIENT_MAC,
    arp,
    client_of,
    echo,
    ether,
    ip,
    solicitation,
    tcp,
    udp,
)
from tests.packet.test_sharing import CLOSING, ESTABLISHED, sharer
from tests.planes import VIP4, VIP6, backend, director, mac, own
from tests.soak import count

XDP_PASS, XDP_TX = 2, 3
ROUTER = 9
SPORT = 40000
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def attached(shared_bench: Bench) -> Iterator[Bench]:
    """A bench whose uplink's driver runs the program."""
    shared_bench.has_express()
    yield shared_bench
    shared_bench.has_express(False)


@pytest.fixture
def express(attached: Bench) -> Iterator[Bench]:
    """The same bench, with nothing left of the test before."""
    yield attached
    attached.clear()
    forget(attached)


def forget(bench: Bench) -> None:
    """No connection is known, and none is news."""
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    list(sharer(bench).news())


def pool(vip: Address = VIP4, **fields: Any) -> Plane:
    """A pool with one member, and several directors so that connections are told."""
    return director([replace(backend(1), **fields)], address=vip, router=ROUTER)


def from_client(vip: Address, transport: Packet, **fields: object) -> bytes:
    """A client's frame."""
    return bytes(ether() / ip(client_of(vip), vip, **fields) / transport)


def opened(bench: Bench, vip: Address, flags: str = "SA") -> None:
    """A client has two connections from its port: of TCP by the flags of its packets, of UDP."""
    for frame in (*(tcp(one, SPORT, vip) for one in flags), udp(SPORT, vip)):
        assert bench.run("director", frame, bench.uplink)[0] == REDIRECTED


def altered(bench: Bench, **fields: int) -> None:
    """All connections have these fields."""
    for key, flow in list(bench.maps.flows.items()):
        bench.maps.flows[key] = flow._replace(**fields)


@dataclass(frozen=True)
class Outcome:
    """A packet's frame to its member; what is remembered, renewed, counted and told after it."""

    sent: bytes
    flows: dict[FlowKey, Flow]
    renewed: frozenset[FlowKey]
    counted: tuple[int, ...]
    told: tuple[int, ...]


Way = Callable[[bytes], tuple[int, bytes]]


def outcome(bench: Bench, way: Way, flags: str, frame: bytes) -> Outcome:
    """Of a frame that goes one way when its client has had connections for a while."""
    opened(bench, VIP6 if frame[12:14] == b"\x86\xdd" else VIP4, flags)
    bench.age(20)
    list(sharer(bench).news())
    before, known = counters(bench), dict(bench.maps.flows.items())
    result, out = way(frame)
    assert result in (REDIRECTED, XDP_TX)
    flows = dict(bench.maps.flows.items())
    found = Outcome(
        sent=out,
        flows={key: flow._replace(seen=0, since=0) for key, flow in flows.items()},
        renewed=frozenset(key for key in flows if flows[key].seen > known[key].seen),
        counted=tuple(a - b for a, b in zip(counters(bench), before, strict=True)),
        told=tuple(news.state for news in sharer(bench).news()),
    )
    forget(bench)
    return found


def counters(bench: Bench) -> tuple[int, ...]:
    """Of the pool's member."""
    (row,) = bench.engine.counters(pool().pool_id)
    return row.connections, row.active, row.inactive, row.packets_in, row.bytes_in


def both_ways(bench: Bench, flags: str, frame: bytes) -> tuple[Outcome, Outcome]:
    """What becomes of a frame by the driver's program, and by the director's."""
    by_director = outcome(
        bench, lambda one: bench.run("director", one, bench.uplink), flags, frame
    )
    return outcome(bench, bench.express, flags, frame), by_director


def segment(flags: str, **fields: Any) -> Packet:
    """Of the client's connection."""
    return TCP(sport=SPORT, dport=80, flags=flags, **fields)


SEGMENTS: dict[str, tuple[str, Packet]] = {
    "first ack": ("S", segment("A")),
    "ack": ("SA", segment("A")),
    "data": ("SA", segment("PA") / bytes(1400)),
    "options": ("SA", segment("A", options=[("Timestamp", (7, 0))])),
    "syn-ack": ("SA", segment("SA")),
    "fin": ("SA", segment("FA")),
    "rst": ("SA", segment("R")),
    "rst of an opening one": ("S", segment("R")),
    "ack of a closing one": ("SAF", segment("A")),
    "wrong checksum": ("SA", segment("A", chksum=0xBAD)),
    "padded": ("SA", segment("A") / Raw(bytes(6))),
    "datagram": ("SA", UDP(sport=SPORT, dport=53) / b"query"),
    "datagram without checksum": ("SA", UDP(sport=SPORT, dport=53, chksum=0) / b"q"),
}


@FAMILIES
@pytest.mark.requirement("L4")
@pytest.mark.requirement("L16")
@pytest.mark.parametrize("name", SEGMENTS)
def test_a_packet_of_a_known_connection_has_the_same_outcome_as_at_the_director(
    express: Bench, vip: Address, name: str
) -> None:
    express.apply(pool(vip))
    flags, transport = SEGMENTS[name]
    frame = from_client(vip, transport)
    here, there = both_ways(express, flags, frame)
    assert here == there
    assert here.sent == mac(1).packed + UPLINK_MAC.packed + frame[12:]
    assert len(here.renewed) == 1
    assert here.counted[3:] == (1, len(frame))


def test_ipv4_options_are_taken(express: Bench) -> None:
    express.apply(pool())
    options = [IPOption_RR(routers=["192.0.2.1"] * 9)]
    frame = from_client(VIP4, segment("A"), options=options)
    here, there = both_ways(express, "SA", frame)
    assert here == there


@FAMILIES
@pytest.mark.requirement("L6")
def test_changes_of_a_state_are_counted_and_told(express: Bench, vip: Address) -> None:
    express.apply(pool(vip))
    opened(express, vip, "S")
    list(sharer(express).news())
    seen = []
    for flags in ("A", "PA", "A", "FA", "A"):
        before = counters(express)
        assert express.express(tcp(flags, SPORT, vip))[0] == XDP_TX
        told = [news.state for news in sharer(express).news()]
        after = counters(express)
        seen.append((after[1] - before[1], after[2] - before[2], told))
    nothing: tuple[int, int, list[int]] = (0, 0, [])
    assert seen == [(1, -1, [ESTABLISHED]), nothing, nothing, (-1, 1, [CLOSING]), nothing]


@FAMILIES
def test_behind_edge_nat_the_tap_translates_what_comes_this_way_too(
    express: Bench, vip: Address
) -> None:
    express.apply(pool(vip, mode=Mode.EDGE_NAT, address=own(1, vip.version)))
    here, there = both_ways(express, "SA", tcp("A", SPORT, vip))
    assert here == there


@pytest.mark.requirement("L9")
def test_connections_of_a_member_that_takes_no_new_ones_go_on(express: Bench) -> None:
    express.apply(pool())
    opened(express, VIP4)
    express.apply(director([backend(1, idle=True)], router=ROUTER))
    assert express.express(tcp("A", SPORT))[0] == XDP_TX


@pytest.mark.requirement("L14")
def test_a_connection_that_another_director_has_told_is_renewed_here(express: Bench) -> None:
    express.apply(pool())
    opened(express, VIP4)
    altered(express, told=1)
    assert express.express(tcp("A", SPORT))[0] == XDP_TX
    assert sorted(flow.told for _, flow in express.maps.flows.items()) == [0, 1]


def passes(bench: Bench, frame: bytes) -> bool:
    """Whether a frame goes on to the director as it is, and nothing is renewed by it."""
    before = dict(bench.maps.flows.items())
    verdict = bench.express(frame)
    return verdict == (XDP_PASS, frame) and dict(bench.maps.flows.items()) == before


ACK = segment("A")
ELSEWHERE = "02:00:00:00:00:77"
LEFT_TO_THE_DIRECTOR: dict[str, Callable[[Address], Packet | bytes]] = {
    "SYN": lambda vip: tcp("S", SPORT, vip),
    "SYN with more flags": lambda vip: tcp("SPU", SPORT, vip),
    "another client's port": lambda vip: tcp("A", SPORT + 1, vip),
    "another client": lambda vip: tcp("A", SPORT, vip, client=client_of(vip, 1)),
    "another port": lambda vip: tcp("A", SPORT, vip, dport=81),
    "another address": lambda vip: tcp("A", SPORT, vip + 1),
    "port of the other protocol": lambda vip: udp(SPORT, vip, dport=80),
    "another protocol": lambda vip: ether() / ip(client_of(vip), vip) / Raw(bytes(40)),
    "echo": echo,
    "to another machine": lambda vip: ether(ELSEWHERE) / ip(client_of(vip), vip) / ACK,
    "broadcast": lambda vip: ether("ff:ff:ff:ff:ff:ff") / ip(client_of(vip), vip) / ACK,
    "VLAN": lambda vip: ether() / Dot1Q(vlan=5) / ip(client_of(vip), vip) / ACK,
    "priority": lambda vip: ether() / Dot1Q(vlan=0, prio=5) / ip(client_of(vip), vip) / ACK,
    "QinQ": lambda vip: (
        ether(kind=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip(client_of(vip), vip) / ACK
    ),
    "other EtherType": lambda vip: ether(kind=0x88B5) / Raw(bytes(ip(client_of(vip), vip) / ACK)),
}
OF_ONE_FAMILY: dict[str, Packet | bytes] = {
    "first fragment": from_client(VIP4, ACK, flags="MF"),
    "later fragment": from_client(VIP4, ACK, frag=9),
    "header length too small": from_client(VIP4, ACK, ihl=4),
    "ICMP error": from_client(VIP4, ICMP(type=3, code=4) / IP(src=str(VIP4)) / ACK),
    "ARP": arp(client_of(VIP4), VIP4),
    "ARP to this machine": arp(client_of(VIP4), VIP4, destination=UPLINK_MAC),
    "fragment of IPv6": from_client(VIP6, IPv6ExtHdrFragment(m=1) / ACK),
    "whole datagram in a fragment": from_client(VIP6, IPv6ExtHdrFragment() / ACK),
    "hop-by-hop": from_client(VIP6, IPv6ExtHdrHopByHop() / ACK),
    "destination options": from_client(VIP6, IPv6ExtHdrDestOpt() / ACK),
    "solicitation": solicitation(CLIENT6, VIP6, CLIENT_MAC),
}


@FAMILIES
@pytest.mark.parametrize("name", LEFT_TO_THE_DIRECTOR)
def test_it_leaves_to_the_director(express: Bench, vip: Address, name: str) -> None:
    express.apply(pool(vip))
    opened(express, vip)
    assert passes(express, bytes(LEFT_TO_THE_DIRECTOR[name](vip)))


@pytest.mark.parametrize("name", OF_ONE_FAMILY)
def test_it_leaves_to_the_director_what_is_no_whole_segment(express: Bench, name: str) -> None:
    frame = bytes(OF_ONE_FAMILY[name])
    vip = VIP6 if frame[12:14] == b"\x86\xdd" else VIP4
    express.apply(pool(vip))
    opened(express, vip)
    assert passes(express, frame)


@FAMILIES
@pytest.mark.parametrize("build", [tcp, udp])
def test_a_truncated_packet_is_left_to_the_director(
    express: Bench, vip: Address, build: Callable[..., bytes]
) -> None:
    express.apply(pool(vip))
    opened(express, vip)
    frame = tcp("A", SPORT, vip) if build is tcp else udp(SPORT, vip)
    whole = (34 if vip.version == 4 else 54) + (20 if build is tcp else 8)
    for length in range(14, whole):
        assert passes(express, frame[:length])
    assert express.express(frame[:whole])[0] == XDP_TX


@FAMILIES
@pytest.mark.parametrize("mode", [m for m in ModeNumber if m not in (0, 2)])
def test_connections_in_tunnels_and_translated_ones_are_the_directors(
    express: Bench, vip: Address, mode: ModeNumber
) -> None:
    express.apply(pool(vip))
    opened(express, vip)
    altered(express, mode=mode)
    assert passes(express, tcp("A", SPORT, vip))
    assert passes(express, udp(SPORT, vip))


def test_a_closing_connection_that_was_told_may_be_another_directors(express: Bench) -> None:
    express.apply(pool())
    opened(express, VIP4)
    altered(express, told=1, state=CLOSING)
    assert passes(express, tcp("A", SPORT))


def test_a_member_whose_neighbour_the_kernel_must_find_is_the_directors(express: Bench) -> None:
    express.apply(pool())
    opened(express, VIP4)
    express.apply(pool(mac=None, address=own(1)))
    assert len(dict(express.maps.flows.items())) == 2
    assert passes(express, tcp("A", SPORT))


def test_packets_to_a_member_that_was_removed_are_the_directors(express: Bench) -> None:
    express.apply(pool())
    opened(express, VIP4)
    express.apply(director([backend(2)], router=ROUTER))
    assert len(dict(express.maps.flows.items())) == 2
    assert passes(express, tcp("A", SPORT))


@pytest.mark.parametrize("state", [BackendState.DESERTED, BackendState.CUT])
def test_connections_that_do_not_stay_with_a_dead_member_are_the_directors(
    express: Bench, state: BackendState
) -> None:
    express.apply(pool())
    opened(express, VIP4)
    express.apply(pool(state=state))
    assert passes(express, tcp("A", SPORT))


def test_a_connection_that_its_member_has_ended_and_its_client_has_not_goes_on(
    express: Bench,
) -> None:
    express.apply(pool())
    opened(express, VIP4)
    altered(express, ended=1, state=CLOSING, since=0)
    assert express.express(tcp("A", SPORT))[0] == XDP_TX
    assert ESTABLISHED in {flow.state for _, flow in express.maps.flows.items()}


SEEDS = [
    frame
    for vip in (VIP4, VIP6)
    for frame in (
        tcp("A", SPORT, vip),
        tcp("FA", SPORT, vip),
        udp(SPORT, vip),
        tcp("S", SPORT, vip),
    )
]


def mutate(frame: bytes, places: list[tuple[int, int]], length: int) -> bytes:
    """The frame with octets exchanged, cut to a length of at least an Ethernet header."""
    octets = bytearray(frame)
    for at, value in places:
        octets[at % len(octets)] = value
    return bytes(octets[: max(14, length)])


@pytest.fixture
def known(express: Bench) -> Bench:
    """A client has connections with pools of both families."""
    express.apply(pool(), replace(pool(VIP6), pool_id=director((), pool=2).pool_id))
    opened(express, VIP4)
    opened(express, VIP6)
    return express


@settings(
    max_examples=count(1500, 100_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    frame=st.builds(
        mutate,
        st.sampled_from(SEEDS),
        st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=4),
        st.integers(0, 80),
    )
    | st.binary(min_size=14, max_size=120)
)
@example(frame=tcp("A", SPORT))
def test_whatever_it_forwards_the_director_would_have_forwarded_just_so(
    known: Bench, frame: bytes
) -> None:
    before = dict(known.maps.flows.items())
    result, out = known.express(frame)
    after = stateful(known)
    known.maps.flows.update(before)
    if result == XDP_TX:
        assert known.run("director", frame, known.uplink) == (REDIRECTED, out)
        assert stateful(known) == after
        known.maps.flows.update(before)
    else:
        assert (result, out) == (XDP_PASS, frame)
        assert after == stateful(known)


def stateful(bench: Bench) -> dict[FlowKey, Flow]:
    """All connections, whenever they were renewed."""
    return {key: flow._replace(seen=0, since=0) for key, flow in bench.maps.flows.items()}
