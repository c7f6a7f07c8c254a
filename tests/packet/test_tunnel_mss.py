# SPDX-License-Identifier: Apache-2.0
"""The segment size that members behind tunnels ask for: lowered to what fits, else untouched."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt
from scapy.packet import Packet

from tests.packet import tunnels
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.frames import PASS, checksums_hold, client_of, ether, ip
from tests.packet.tunnels import WAYS, Way
from tests.planes import VIP4, VIP6, compute
from tests.soak import count

ways = pytest.mark.parametrize("way", WAYS, ids=str)
LIMITS = {"4in4": 1440, "4in6": 1420, "6in6": 1400, "6in4": 1420}
OPTIONS = [("SAckOK", b""), ("Timestamp", (7, 0)), ("WScale", 7)]


@pytest.fixture(scope="module")
def tunnel(shared_bench: Bench) -> Bench:
    """A bench with a pool for each combination of families."""
    return tunnels.prepare(shared_bench)


def answer(way: Way, options: object, flags: str = "SA", payload: bytes = b"") -> bytes:
    """What a member sends to a client from the pool's address."""
    segment = TCP(sport=80, dport=40000, flags=flags, seq=7, ack=9, options=options)
    addresses = ip(way.vip, client_of(way.vip))
    return bytes(ether(UPLINK_MAC, GUEST_MAC) / addresses / segment / payload)


def raw(way: Way, options: bytes, flags: int = 0x12, offset: int | None = None) -> bytes:
    """A SYN-ACK with these octets as options, padded to whole words; ``offset`` in words."""
    padded = options + bytes(-len(options) % 4)
    words = 5 + len(padded) // 4 if offset is None else offset
    frame = answer(way, [], payload=padded)
    tcp = 14 + (20 if way.vip.version == 4 else 40)
    return _summed(frame[: tcp + 12] + bytes([words << 4, flags]) + frame[tcp + 14 :], tcp)


def _summed(frame: bytes, tcp: int) -> bytes:
    """With the checksum of its TCP segment (RFC 9293, 3.1)."""
    frame = frame[: tcp + 16] + b"\0\0" + frame[tcp + 18 :]
    addresses = frame[26:34] if tcp == 34 else frame[22:54]
    length = len(frame) - tcp
    covered = addresses + bytes([0, 6]) + length.to_bytes(2) + frame[tcp:] + bytes(length % 2)
    total = sum(int.from_bytes(covered[i : i + 2]) for i in range(0, len(covered), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return frame[: tcp + 16] + (~total & 0xFFFF).to_bytes(2) + frame[tcp + 18 :]


def passed(bench: Bench, frame: bytes) -> bytes:
    """What the tap lets through of a guest's frame."""
    result, out = bench.run("from_guest", frame, bench.tap)
    assert (result, len(out)) == (PASS, len(frame))
    return out


@ways
@pytest.mark.requirement("L12")
@pytest.mark.parametrize("flags", ["SA", "S"])
@pytest.mark.parametrize("asked", [1441, 1460, 9000, 65535])
def test_a_member_asks_for_no_more_than_fits(
    tunnel: Bench, way: Way, flags: str, asked: int
) -> None:
    before, after = (answer(way, [("MSS", s)], flags) for s in (asked, LIMITS[str(way)]))
    assert passed(tunnel, before) == after


@ways
@pytest.mark.parametrize("asked", [0, 1, 536, 1220, 1399, 1400])
def test_who_asks_for_less_gets_less(tunnel: Bench, way: Way, asked: int) -> None:
    frame = answer(way, [("MSS", asked)])
    assert passed(tunnel, frame) == frame


@ways
def test_the_limit_itself_stays(tunnel: Bench, way: Way) -> None:
    frame = answer(way, [("MSS", LIMITS[str(way)])])
    assert passed(tunnel, frame) == frame


@ways
@pytest.mark.parametrize("order", list(itertools.permutations([*OPTIONS, ("MSS", 1460)])), ids=str)
def test_other_options_may_stand_in_any_order(
    tunnel: Bench, way: Way, order: tuple[tuple[str, object], ...]
) -> None:
    lowered = [("MSS", LIMITS[str(way)]) if kind == "MSS" else (kind, v) for kind, v in order]
    assert passed(tunnel, answer(way, list(order))) == answer(way, lowered)


@ways
@pytest.mark.parametrize("nops", range(5))
def test_the_option_may_stand_at_any_place(tunnel: Bench, way: Way, nops: int) -> None:
    limit = LIMITS[str(way)].to_bytes(2)
    before = raw(way, b"\1" * nops + b"\2\4\x05\xb4" + b"\1")
    assert passed(tunnel, before) == raw(way, b"\1" * nops + b"\2\4" + limit + b"\1")


@ways
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "RA"])
def test_other_segments_are_left_alone(tunnel: Bench, way: Way, flags: str) -> None:
    frame = answer(way, [("MSS", 1460)], flags, b"payload")
    assert passed(tunnel, frame) == frame


@ways
def test_a_syn_with_payload_keeps_it(tunnel: Bench, way: Way) -> None:
    for payload in (b"x", b"fast open", b"\2\4\xff\xff"):
        before, after = (
            answer(way, [("MSS", s)], "SA", payload) for s in (1460, LIMITS[str(way)])
        )
        assert passed(tunnel, before) == after


MALFORMED = {
    "none": b"",
    "only no-operations": b"\1" * 40,
    "the end before it": b"\0\1\2\4\x05\xb4",
    "length 0": b"\2\0\x05\xb4",
    "length 1": b"\2\1\x05\xb4",
    "length 3": b"\2\3\x05\xb4",
    "length 6": b"\2\6\x05\xb4\x05\xb4",
    "beyond the options": b"\1\1\2\4",
    "kind alone at the end": b"\1\1\1\2",
    "another beyond the options": b"\x08\x0a\1\1\2\4\x05\xb4",
    "another of length 0": b"\x08\0\1\1\2\4\x05\xb4",
    "another that hides it": b"\x08\x08\1\1\2\4\x05\xb4",
}


@ways
@pytest.mark.parametrize("name", MALFORMED)
def test_options_that_make_no_sense_are_left_alone(tunnel: Bench, way: Way, name: str) -> None:
    frame = raw(way, MALFORMED[name])
    assert passed(tunnel, frame) == frame


@ways
@pytest.mark.parametrize("words", [0, 4, 5])
def test_a_header_without_room_for_options_has_none(tunnel: Bench, way: Way, words: int) -> None:
    frame = raw(way, b"\2\4\x05\xb4", offset=words)
    assert passed(tunnel, frame) == frame


@ways
def test_a_frame_that_ends_in_its_options_is_left_alone(tunnel: Bench, way: Way) -> None:
    frame = raw(way, b"\1\1\1\1\2\4\x05\xb4", offset=15)
    for length in range(len(frame) - 8, len(frame) - 2):
        assert passed(tunnel, frame[:length]) == frame[:length]


@ways
@settings(
    max_examples=count(200, 50000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(options=st.binary(max_size=40), flags=st.integers(0, 255), offset=st.integers(0, 15))
@example(options=b"\2\4\xff\xff" * 10, flags=2, offset=15)
def test_any_options_are_kept_but_for_the_size(
    tunnel: Bench, way: Way, options: bytes, flags: int, offset: int
) -> None:
    frame = raw(way, options, flags, offset)
    out = passed(tunnel, frame)
    tcp = 14 + (20 if way.vip.version == 4 else 40)
    assert out[: tcp + 16] == frame[: tcp + 16]
    if out == frame:
        return
    assert flags & 2
    assert _summed(out, tcp) == out
    changed = [i for i in range(tcp + 20, len(out)) if out[i] != frame[i]]
    assert changed[-1] < tcp + 4 * offset
    assert LIMITS[str(way)].to_bytes(2) in out[tcp + 22 :]


def test_ip_options_and_extension_headers_do_not_hide_it(tunnel: Bench) -> None:
    way = WAYS[2]
    packets: list[Packet] = [
        ether(UPLINK_MAC, GUEST_MAC)
        / ip(way.vip, client_of(way.vip))
        / IPv6ExtHdrDestOpt()
        / TCP(sport=80, flags="SA", options=[("MSS", size)])
        for size in (1460, LIMITS[str(way)])
    ]
    assert passed(tunnel, bytes(packets[0])) == bytes(packets[1])


@ways
def test_what_a_guest_sends_from_its_own_address_is_not_looked_at(tunnel: Bench, way: Way) -> None:
    own = replace(way, vip=way.vip + 77)
    frame = answer(own, [("MSS", 1460)])
    assert passed(tunnel, frame) == frame


@ways
def test_datagrams_are_not_looked_at(tunnel: Bench, way: Way) -> None:
    head = ether(UPLINK_MAC, GUEST_MAC) / ip(way.vip, client_of(way.vip))
    frame = bytes(head / UDP(sport=53) / (b"\2" * 12 + b"\2\4\x05\xb4"))
    assert passed(tunnel, frame) == frame


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_members_without_a_tunnel_are_left_alone(bench: Bench, vip: object) -> None:
    way = replace(WAYS[0], vip=vip)  # type: ignore[arg-type]
    bench.apply(compute(17, address=way.vip))
    frame = answer(way, [("MSS", 1460)])
    assert passed(bench, frame) == frame
    assert checksums_hold(frame)
