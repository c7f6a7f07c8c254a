# SPDX-License-Identifier: Apache-2.0
"""Packets inside packets: wrapped by the director, unwrapped at the tap, unharmed in between."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.packet import Packet, Raw

from cloudlb.model.network import Address
from cloudlb.model.pool import Port
from tests.packet import tunnels
from tests.packet.conftest import Bench
from tests.packet.frames import (
    DROP,
    PASS,
    REDIRECT,
    checksums_hold,
    client_of,
    ether,
    ip,
    tcp,
    udp,
)
from tests.packet.tunnels import (
    DIRECTOR4,
    DIRECTOR6,
    OWN4,
    OWN6,
    TCP80,
    UDP53,
    WAYS,
    Way,
    label,
    wrapped,
)
from tests.planes import VIP4, VIP6
from tests.soak import count

ways = pytest.mark.parametrize("way", WAYS, ids=str)
NOT_ECT, ECT1, ECT0, CE = range(4)
OCTETS = bytes(range(256)) * 6


@pytest.fixture(scope="module")
def tunnel(shared_bench: Bench) -> Bench:
    """A bench with a pool for each combination of families."""
    return tunnels.prepare(shared_bench)


def sent(way: Way, payload: bytes = b"", tos: int = 0, **fields: object) -> bytes:
    """A client's segment; IPv4 forbids fragments unless told otherwise."""
    own = {"flags": "DF", "tos": tos} if way.vip.version == 4 else {"tc": tos}
    segment = TCP(sport=40000, dport=80, flags="PA") / payload
    return bytes(ether() / ip(client_of(way.vip), way.vip, **(own | fields)) / segment)


def wrap(bench: Bench, way: Way, frame: bytes, port: Port = TCP80) -> tuple[bytes, int]:
    """What the director makes of a frame, and the flow label that it should have."""
    result, out = bench.run("director", frame, bench.uplink)
    assert result == REDIRECT
    return out, label(bench, way, client_of(way.vip), 40000, port)


@ways
@pytest.mark.requirement("L1")
@pytest.mark.parametrize("size", [0, 1, 2, 3, 536, 1000, 1380])
def test_a_segment_travels_inside_a_packet_to_the_members_own_address(
    tunnel: Bench, way: Way, size: int
) -> None:
    frame = sent(way, OCTETS[:size])
    out, flow_label = wrap(tunnel, way, frame)
    assert out == wrapped(frame, way.own, flow_label=flow_label)


@ways
@pytest.mark.requirement("L1")
def test_a_datagram_travels_as_well(tunnel: Bench, way: Way) -> None:
    frame = udp(vip=way.vip)
    out, flow_label = wrap(tunnel, way, frame, UDP53)
    if (way.vip.version, way.own.version) == (4, 4):
        assert _without_id(out) == wrapped(frame, way.own, dont_fragment=False)
    else:
        assert out == wrapped(frame, way.own, flow_label=flow_label)


def _without_id(frame: bytes) -> bytes:
    """With identification 0, if its checksum holds as it is."""
    assert checksums_hold(frame)
    packet = IP(frame[14:])
    packet.id = 0
    del packet.chksum
    return frame[:14] + bytes(packet)


@pytest.mark.parametrize("flags", ["DF", 0])
def test_what_may_be_fragmented_inside_may_be_outside(tunnel: Bench, flags: object) -> None:
    out, _ = wrap(tunnel, WAYS[0], sent(WAYS[0], OCTETS[:1000], flags=flags))
    assert IP(out[14:]).flags == flags
    assert flags or len({wrap(tunnel, WAYS[0], udp())[0][18:20] for _ in range(8)}) > 1


@ways
@pytest.mark.parametrize("tos", [0, ECT0, ECT1, CE, 0xB8, 0xFF])
def test_traffic_class_and_congestion_marks_are_copied(tunnel: Bench, way: Way, tos: int) -> None:
    frame = sent(way, tos=tos)
    out, flow_label = wrap(tunnel, way, frame)
    assert out == wrapped(frame, way.own, tos=tos, flow_label=flow_label)


@pytest.mark.parametrize("hops", [1, 64, 255])
@ways
def test_the_hop_limit_inside_stays_and_is_64_outside(tunnel: Bench, way: Way, hops: int) -> None:
    field = "ttl" if way.vip.version == 4 else "hlim"
    frame = sent(way, **{field: hops})
    out, flow_label = wrap(tunnel, way, frame)
    assert out == wrapped(frame, way.own, flow_label=flow_label)


@ways
def test_padding_of_a_short_frame_is_not_counted(tunnel: Bench, way: Way) -> None:
    frame = sent(way) + bytes(6)
    out, flow_label = wrap(tunnel, way, frame)
    size = len(frame) - 6 - 14
    assert out == wrapped(frame, way.own, flow_label=flow_label, length=size)


def test_options_and_wrong_checksums_are_carried_as_they_are(tunnel: Bench) -> None:
    frame = sent(WAYS[0], options=[IPOption_NOP()] * 8, id=77)
    broken = frame[:24] + b"\xba\xd0" + frame[26:]
    for one in (frame, broken):
        assert wrap(tunnel, WAYS[0], one)[0] == wrapped(one, OWN4)


def test_connections_have_different_flow_labels(tunnel: Bench) -> None:
    way = WAYS[2]
    outs = [tunnel.run("director", tcp(sport=s, vip=way.vip), tunnel.uplink)[1] for s in range(9)]
    assert len({out[14:18] for out in outs}) == 9


@ways
@pytest.mark.requirement("L16")
def test_counters_count_what_the_client_sent(bench: Bench, way: Way) -> None:
    tunnels.prepare(bench)
    frame = sent(way, b"count me")
    bench.run("director", frame, bench.uplink)
    (counted,) = bench.engine.counters(way.plane.pool_id)
    assert (counted.packets_in, counted.bytes_in) == (1, len(frame))


@ways
def test_a_director_without_an_address_of_the_outer_family_drops_and_counts(
    bench: Bench, way: Way
) -> None:
    tunnels.prepare(bench)
    other = DIRECTOR6 if way.own.version == 4 else DIRECTOR4
    tunnels.attach(bench, (other,))
    before = Counter(bench.engine.events())
    assert bench.run("director", sent(way), bench.uplink)[0] == DROP
    assert Counter(bench.engine.events()) - before == Counter(no_tunnel=1)
    tunnels.attach(bench)
    assert bench.run("director", sent(way), bench.uplink)[0] == REDIRECT


def test_a_member_whose_own_address_is_not_known_gets_nothing(bench: Bench) -> None:
    plane = WAYS[0].plane
    assert plane.frontend
    (known,) = plane.frontend.backends
    unknown = replace(plane.frontend, backends=(replace(known, address=None),))
    tunnels.attach(bench)
    bench.apply(replace(plane, frontend=unknown, guests=()))
    assert bench.run("director", sent(WAYS[0]), bench.uplink)[0] == DROP
    assert bench.engine.events()["no_tunnel"] == 1


def delivered(bench: Bench, frame: bytes) -> bytes:
    """What the guest gets of a frame."""
    result, out = bench.run("to_guest", frame, bench.tap)
    assert result == PASS
    return out


@ways
@pytest.mark.requirement("L15")
@pytest.mark.parametrize("size", [0, 1, 1380])
def test_the_tap_takes_off_what_the_director_has_put_on(
    tunnel: Bench, way: Way, size: int
) -> None:
    frame = sent(way, OCTETS[:size])
    assert delivered(tunnel, wrap(tunnel, way, frame)[0]) == frame


@ways
def test_padding_comes_out_as_padding(tunnel: Bench, way: Way) -> None:
    frame = sent(way) + bytes(6)
    assert delivered(tunnel, wrap(tunnel, way, frame)[0]) == frame


@ways
@settings(
    max_examples=count(100, 20000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    payload=st.binary(max_size=1300),
    tos=st.integers(0, 255),
    hops=st.integers(0, 255),
    over_udp=st.booleans(),
)
def test_any_packet_comes_out_as_it_went_in(
    tunnel: Bench, way: Way, payload: bytes, tos: int, hops: int, over_udp: bool
) -> None:
    names = ("tos", "ttl") if way.vip.version == 4 else ("tc", "hlim")
    fields = dict(zip(names, (tos, hops), strict=True))
    segment = UDP(dport=53) if over_udp else TCP(dport=80, flags="A")
    frame = bytes(ether() / ip(client_of(way.vip), way.vip, **fields) / segment / payload)
    result, out = tunnel.run("director", frame, tunnel.uplink)
    assert result == REDIRECT
    assert delivered(tunnel, out) == frame


MARKS = {
    (NOT_ECT, NOT_ECT): NOT_ECT,
    (NOT_ECT, ECT0): NOT_ECT,
    (NOT_ECT, ECT1): NOT_ECT,
    (NOT_ECT, CE): None,
    (ECT0, NOT_ECT): ECT0,
    (ECT0, ECT0): ECT0,
    (ECT0, ECT1): ECT1,
    (ECT0, CE): CE,
    (ECT1, NOT_ECT): ECT1,
    (ECT1, ECT0): ECT1,
    (ECT1, ECT1): ECT1,
    (ECT1, CE): CE,
    (CE, NOT_ECT): CE,
    (CE, ECT0): CE,
    (CE, ECT1): CE,
    (CE, CE): CE,
}
"""RFC 6040, figure 4: what comes out of (inside, outside); None: the packet is dropped."""


@ways
@pytest.mark.parametrize("marks", MARKS, ids=str)
def test_congestion_on_the_way_is_told_to_the_guest(
    tunnel: Bench, way: Way, marks: tuple[int, int]
) -> None:
    inside, outside = marks
    frame = wrapped(sent(way, b"marked", 0xB8 | inside), way.own, tos=0x50 | outside)
    expected = MARKS[marks]
    if expected is None:
        assert tunnel.run("to_guest", frame, tunnel.tap)[0] == DROP
    else:
        assert delivered(tunnel, frame) == sent(way, b"marked", 0xB8 | expected)


TO4, TO6 = ip(client_of(VIP4), VIP4), ip(client_of(VIP6), VIP6)
INSIDE: dict[str, Packet] = {
    "a probe by echo": TO4 / ICMP(type=8) / b"probe",
    "a probe by echo6": TO6 / ICMPv6EchoRequest() / b"probe",
    "an error": TO4 / ICMP(type=3, code=4) / Raw(bytes(28)),
    "an error6": TO6 / ICMPv6PacketTooBig() / Raw(bytes(48)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_icmp_comes_through(tunnel: Bench, name: str) -> None:
    frame = bytes(ether() / INSIDE[name])
    own = OWN4 if frame[12:14] == b"\x08\x00" else OWN6
    assert delivered(tunnel, wrapped(frame, own)) == frame


SYN = TCP(sport=40000, dport=80, flags="S")
NOT_OURS: dict[str, Packet | bytes] = {
    "to another address outside": wrapped(tcp(), OWN4 + 1),
    "to another address outside6": wrapped(tcp(vip=VIP6), OWN6 + 1),
    "to the other family's own address": wrapped(tcp(), OWN6),
    "to the pool's address outside": wrapped(tcp(), VIP4),
    "to another address inside": wrapped(tcp(vip=VIP4 + 9), OWN4),
    "to the own address inside": wrapped(tcp(vip=OWN4), OWN4),
    "protocol says IPv6, packet is IPv4": ether() / IP(dst=str(OWN4), proto=41) / TO4 / SYN,
    "protocol says IPv4, packet is IPv6": ether() / IP(dst=str(OWN4), proto=4) / TO6 / SYN,
    "cut off in the header inside": wrapped(tcp(), OWN4)[:48],
    "nothing inside": ether() / IP(dst=str(OWN4), proto=4),
    "options outside": ether() / IP(dst=str(OWN4), options=[IPOption_NOP()] * 4) / TO4 / SYN,
    "extensions outside": ether() / IPv6(dst=str(OWN6)) / IPv6ExtHdrDestOpt() / TO6 / SYN,
    "first fragment": ether() / IP(dst=str(OWN4), flags="MF") / TO4 / SYN,
    "later fragment": ether() / IP(dst=str(OWN4), proto=4, frag=5) / bytes(TO4 / SYN),
    "advertisement inside": wrapped(
        bytes(ether() / IPv6(dst=str(VIP6), hlim=255) / ICMPv6ND_NA(tgt=str(VIP6 + 9))), OWN6
    ),
    "redirect inside": wrapped(
        bytes(ether() / IPv6(dst=str(VIP6), hlim=255) / ICMPv6ND_Redirect()), OWN6
    ),
    "extensions inside": wrapped(bytes(ether() / TO6 / IPv6ExtHdrDestOpt() / SYN), OWN6),
    "a tunnel inside": wrapped(bytes(ether() / TO4 / IP(dst=str(VIP4)) / SYN), OWN4),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_other_tunnels_are_the_guests_own_business(tunnel: Bench, name: str) -> None:
    frame = bytes(NOT_OURS[name])
    assert tunnel.run("to_guest", frame, tunnel.tap) == (PASS, frame)


@settings(
    max_examples=count(500, 100000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    way=st.sampled_from(WAYS),
    damage=st.dictionaries(st.integers(14, 93), st.integers(0, 255), max_size=3),
    length=st.integers(54, 140),
)
def test_a_damaged_tunnel_is_taken_off_whole_or_left_alone(
    tunnel: Bench, way: Way, damage: dict[int, int], length: int
) -> None:
    frame = bytearray(wrapped(sent(way, b"payload"), way.own))
    for place, octet in damage.items():
        if place < len(frame):
            frame[place] = octet
    cut = bytes(frame[:length])
    result, out = tunnel.run("to_guest", cut, tunnel.tap)
    if result == PASS and out != cut:
        inside = cut[14 + way.overhead :]
        assert _without_marks(out[14:]) == _without_marks(inside)


def _without_marks(packet: bytes) -> bytes:
    if packet[0] >> 4 == 4:
        return packet[:1] + packet[2:10] + packet[12:]
    return packet[:1] + packet[2:]


def test_a_guest_that_is_reached_otherwise_keeps_its_tunnels(bench: Bench) -> None:
    tunnels.attach(bench)
    way = WAYS[0]
    whole = way.plane
    guests = tuple(replace(g, address=OWN4 + 1) for g in whole.guests)
    bench.apply(replace(whole, frontend=None, guests=guests))
    frame = wrapped(sent(way), OWN4)
    assert bench.run("to_guest", frame, bench.tap) == (PASS, frame)


def test_an_attached_port_keeps_what_was_learned_when_its_addresses_change(bench: Bench) -> None:
    own: Address = OWN4
    record = bench.engine._port_records.get(tunnels.number(bench.tap))
    assert record
    learned = record._replace(own_ipv4=own.packed, own_link_local=OWN6.packed)
    bench.engine._port_records[tunnels.number(bench.tap)] = learned
    tunnels.attach(bench)
    after = bench.engine._port_records.get(tunnels.number(bench.tap))
    assert after == learned._replace(mtu=tunnels.MTU)
