# SPDX-License-Identifier: Apache-2.0
"""Answers of members, as scapy builds them and as damage leaves them."""

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6TimeExceeded,
    IPerror6,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from cloudlb.model.ether import Mac
from cloudlb.net.answer import ACK, RST, SYN, Datagram, Echoed, End, Segment, Unreachable, parse
from cloudlb.net.frame import Datagram as Question
from cloudlb.net.frame import Echo, Path, Syn, reset_of

HERE, MEMBER = Mac("02:00:00:00:00:01"), Mac("52:54:00:00:00:11")
V4 = Path(HERE, MEMBER, IPv4Address("192.0.2.1"), IPv4Address("192.0.2.100"))
V6 = Path(HERE, MEMBER, IPv6Address("fe80::1"), IPv6Address("2001:db8::100"))
OURS = 50000

paths = pytest.mark.parametrize("path", [V4, V6], ids=["v4", "v6"])
tokens = pytest.mark.parametrize("token", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex)


def _from(path: Path) -> Packet:
    """The Ethernet and IP headers of an answer."""
    kind = IP if path.address.version == 4 else IPv6
    ether = Ether(src=str(MEMBER), dst=str(HERE))
    return ether / kind(src=str(path.address), dst=str(path.source))


def _end(path: Path, port: int = 443) -> End:
    return End(MEMBER.packed, path.address.packed, port, OURS)


def _refusal(path: Path, port: int = 53, code: int | None = None) -> Packet:
    """What a kernel says of a datagram that nobody takes."""
    ends = {"src": str(path.source), "dst": str(path.address)}
    quoted = UDPerror(sport=OURS, dport=port)
    if path.address.version == 4:
        said = ICMP(type=3, code=3 if code is None else code) / IPerror(**ends, proto=17)
    else:
        said = ICMPv6DestUnreach(code=4 if code is None else code) / IPerror6(**ends, nh=17)
    return _from(path) / said / quoted / b"payload"


@paths
@tokens
@pytest.mark.parametrize(
    ("flags", "bits"), [("SA", SYN | ACK), ("RA", RST | ACK), ("R", RST), ("A", ACK)]
)
def test_a_segment_is_read(path: Path, token: int, flags: str, bits: int) -> None:
    segment = TCP(sport=443, dport=OURS, flags=flags, seq=7, ack=token) / b"said"
    answer = bytes(_from(path) / segment)
    assert parse(answer) == Segment(_end(path), 7, token, bits, answer[-24:])


def test_a_segment_behind_ip_options_is_read() -> None:
    answer = _from(V4) / TCP(sport=443, dport=OURS, flags="SA", seq=7, ack=8)
    answer[IP].options = [b"\x94\x04\x00\x00"]
    assert parse(bytes(answer)) == Segment(_end(V4), 7, 8, SYN | ACK, bytes(answer)[-20:])


@paths
def test_what_a_segment_says_is_read_without_the_filling_of_its_frame(path: Path) -> None:
    options = [("NOP", None), ("SAckOK", b""), ("MSS", 1300)]
    whole = TCP(sport=443, dport=OURS, window=777, options=options) / b"said"
    segment = parse(bytes(_from(path) / whole) + bytes(20))
    assert isinstance(segment, Segment)
    assert (segment.window, segment.mss, segment.payload) == (777, 1300, b"said")


@pytest.mark.parametrize("options", [b"", b"\x01", b"\x02", b"\x02\x00", b"\x08\xff", b"\x00"])
def test_a_segment_with_no_or_damaged_options_says_no_length(options: bytes) -> None:
    header = bytearray(24)
    header[12] = 6 << 4
    header[20:] = options.ljust(4, b"\x01")[:4]
    assert Segment(_end(V4), 0, 0, 0, bytes(header)).mss == 0


@tokens
def test_echo_replies_are_read(token: int) -> None:
    fields = {"id": token >> 16, "seq": token & 0xFFFF}
    for answer in (_from(V4) / ICMP(type=0, **fields), _from(V6) / ICMPv6EchoReply(**fields)):
        assert parse(bytes(answer)) == Echoed(MEMBER.packed, token)


@paths
def test_a_datagram_is_read(path: Path) -> None:
    answer = _from(path) / UDP(sport=443, dport=OURS) / b"pong"
    assert parse(bytes(answer)) == Datagram(_end(path))


@paths
@pytest.mark.requirement("L13")
def test_word_that_nobody_listens_names_the_end_that_was_asked(path: Path) -> None:
    assert parse(bytes(_refusal(path))) == Unreachable(_end(path, 53))


def test_a_quotation_with_ip_options_is_read() -> None:
    refusal = _refusal(V4)
    refusal[IPerror].options = [b"\x94\x04\x00\x00"]
    assert parse(bytes(refusal)) == Unreachable(_end(V4, 53))


@pytest.mark.parametrize(
    "frame",
    [
        _refusal(V4, code=1),
        _refusal(V6, code=3),
        _from(V4) / ICMP(type=11) / IPerror(proto=17) / UDPerror(sport=OURS, dport=53),
        _from(V6) / ICMPv6TimeExceeded() / IPerror6(nh=17) / UDPerror(sport=OURS, dport=53),
        _from(V4) / ICMP(type=3, code=3) / IPerror(proto=6) / (b"x" * 20),
        _from(V4) / ICMP(type=8),
        Ether() / IP(frag=1) / UDP(),
        Ether() / IP(proto=47) / (b"x" * 40),
        Ether() / ARP(),
    ],
    ids=lambda frame: frame.summary().split("/", 1)[1],
)
def test_what_is_no_answer_is_none(frame: Packet) -> None:
    assert parse(bytes(frame)) is None


def test_our_own_questions_answer_no_other_end() -> None:
    assert parse(Echo(V4).frame(1)) is None
    assert parse(Echo(V6).frame(1)) is None


def _answers() -> list[bytes]:
    made = []
    for path in (V4, V6):
        head = _from(path)
        made += [head / TCP(sport=443, dport=OURS, flags=f, ack=2) for f in ("SA", "RA")]
        made += [head / UDP(sport=443, dport=OURS) / b"pong", _refusal(path)]
    made += [_from(V4) / ICMP(type=0, id=1), _from(V6) / ICMPv6EchoReply(id=1)]
    return [bytes(answer) for answer in made]


ANSWERS = _answers()


@pytest.mark.parametrize("frame", ANSWERS, ids=lambda f: Ether(f).summary().split("/")[-1])
def test_a_frame_that_was_cut_off_is_read_as_the_whole_or_not_at_all(frame: bytes) -> None:
    whole = parse(frame)
    assert whole is not None
    for length in range(len(frame)):
        assert parse(frame[:length]) in (None, whole)
    assert parse(frame[:36]) is None


def _random(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(100))


def _ip_like(draw: random.Random) -> bytes:
    head = draw.choice((b"\x08\x00\x45", b"\x08\x00", b"\x86\xdd\x60"))
    return draw.randbytes(12) + head + draw.randbytes(draw.randrange(80))


def _damaged(draw: random.Random) -> bytes:
    frame = bytearray(draw.choice(ANSWERS))
    for _ in range(draw.randrange(1, 5)):
        frame[draw.randrange(len(frame))] = draw.randrange(256)
    return bytes(frame[: draw.randrange(len(frame) + 1)])


@pytest.mark.parametrize("make", [_random, _ip_like, _damaged])
def test_no_frame_raises(make: Callable[[random.Random], bytes]) -> None:
    draw = random.Random(20)
    for _ in range(10_000):
        frame = make(draw)
        answer = parse(frame)
        if isinstance(answer, Segment):
            reset_of(frame)
            assert (answer.window, answer.mss, answer.payload) >= (0, 0, b"")


def test_our_other_questions_are_told_by_their_ends() -> None:
    """They would be answers only of a member that uses our ports; sockets do not hear us."""
    sent = Syn(V4, 443).frame(1, OURS)
    assert parse(sent) == Segment(
        End(HERE.packed, V4.source.packed, OURS, 443), 1, 0, SYN, sent[-20:]
    )
    assert parse(Question(V4, 53, b"").frame(OURS)) == Datagram(
        End(HERE.packed, V4.source.packed, OURS, 53)
    )
