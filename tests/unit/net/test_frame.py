# SPDX-License-Identifier: Apache-2.0
"""Frames of probes against scapy: what we build it understands, what it builds we understand."""

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from cloudlb.model.ether import Mac
from cloudlb.net.frame import (
    Answer,
    Path,
    Reply,
    announcement,
    echo_request,
    parse_reply,
    reset_of,
    source_address,
    tcp_syn,
)

HERE, MEMBER = Mac("02:00:00:00:00:01"), Mac("52:54:00:00:00:11")
V4 = Path(HERE, MEMBER, IPv4Address("192.0.2.1"), IPv4Address("192.0.2.100"))
V6 = Path(HERE, MEMBER, IPv6Address("fe80::1"), IPv6Address("2001:db8::100"))
TOKENS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)

paths = pytest.mark.parametrize("path", [V4, V6], ids=["v4", "v6"])
tokens = pytest.mark.parametrize("token", TOKENS, ids=hex)


def _whole(frame: bytes) -> Packet:
    """What scapy reads; the checksums and lengths must be those that scapy would write."""
    read = Ether(frame)
    again = Ether(frame)
    for layer in (IP, IPv6, TCP, ICMP, ICMPv6EchoRequest, ICMPv6ND_NA):
        if layer in again:
            for field in ("chksum", "cksum", "len", "plen"):
                if field in again[layer].fields:
                    delattr(again[layer], field)
    assert bytes(again) == frame
    return read


def _ip(packet: Packet) -> Packet:
    return packet[IP] if IP in packet else packet[IPv6]


def _answer(request: Packet) -> Packet:
    """The Ethernet and IP headers of an answer."""
    ip = _ip(request)
    return Ether(src=request.dst, dst=request.src) / type(ip)(src=ip.dst, dst=ip.src)


@paths
@tokens
def test_a_connection_attempt_is_one(path: Path, token: int) -> None:
    packet = _whole(tcp_syn(path, 50000, 443, token))
    assert (packet.src, packet.dst) == (str(HERE), str(MEMBER))
    assert (_ip(packet).src, _ip(packet).dst) == (str(path.source), str(path.address))
    tcp = packet[TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack) == (50000, 443, token, 0)
    assert (tcp.flags, tcp.dataofs) == ("S", 5)


def test_checksums_are_right_whatever_they_carry_over() -> None:
    pseudo = V4.source.packed + V4.address.packed + bytes.fromhex("00060014")
    for token in range(0x10000):
        segment = tcp_syn(V4, 50000, 443, token)[34:]
        assert int.from_bytes(pseudo + segment) % 0xFFFF == 0, token


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [(V4, ICMP, 8), (V6, ICMPv6EchoRequest, 128)],
    ids=["v4", "v6"],
)
@tokens
def test_an_echo_request_is_one(path: Path, kind: type, code: int, token: int) -> None:
    packet = _whole(echo_request(path, token))
    echo = packet[kind]
    assert (echo.type, echo.code) == (code, 0)
    assert echo.id << 16 | echo.seq == token
    assert (_ip(packet).src, _ip(packet).dst) == (str(path.source), str(path.address))


@paths
@tokens
def test_a_reset_takes_the_place_of_the_connections_next_segment(path: Path, token: int) -> None:
    request = Ether(tcp_syn(path, 50000, 443, token))
    acknowledged = (token + 1) & 0xFFFFFFFF
    accepted = _answer(request) / TCP(sport=443, dport=50000, flags="SA", seq=9, ack=acknowledged)
    packet = _whole(reset_of(bytes(accepted)))
    assert (packet.src, packet.dst) == (str(HERE), str(MEMBER))
    assert (_ip(packet).src, _ip(packet).dst) == (str(path.source), str(path.address))
    tcp = packet[TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.flags) == (50000, 443, acknowledged, "R")


def test_a_reset_of_an_answer_with_ip_options_is_the_same() -> None:
    request = Ether(tcp_syn(V4, 50000, 443, 1))
    accepted = _answer(request) / TCP(sport=443, dport=50000, flags="SA", ack=2)
    plain = reset_of(bytes(accepted))
    accepted[IP].options = [b"\x94\x04\x00\x00"]
    assert reset_of(bytes(accepted)) == plain


def test_an_ipv4_announcement_is_a_gratuitous_arp_request() -> None:
    packet = _whole(announcement(V4.address, HERE))
    assert (packet.src, packet.dst) == (str(HERE), "ff:ff:ff:ff:ff:ff")
    arp = packet[ARP]
    assert (arp.op, arp.hwsrc, arp.hwdst) == (1, str(HERE), "00:00:00:00:00:00")
    assert arp.psrc == arp.pdst == str(V4.address)


def test_an_ipv6_announcement_is_an_unsolicited_advertisement() -> None:
    packet = _whole(announcement(V6.address, HERE))
    assert (packet.src, packet.dst) == (str(HERE), "33:33:00:00:00:01")
    assert (packet[IPv6].src, packet[IPv6].dst) == (str(V6.address), "ff02::1")
    assert packet[IPv6].hlim == 255
    advertisement = packet[ICMPv6ND_NA]
    assert (advertisement.R, advertisement.S, advertisement.O) == (0, 0, 1)
    assert advertisement.tgt == str(V6.address)
    assert packet[ICMPv6NDOptDstLLAddr].lladdr == str(HERE)


@paths
@tokens
@pytest.mark.parametrize(
    ("flags", "answer"),
    [("SA", Answer.ACCEPTED), ("RA", Answer.REFUSED), ("R", Answer.REFUSED)],
)
def test_an_answer_to_a_connection_attempt_is_read(
    path: Path, token: int, flags: str, answer: Answer
) -> None:
    request = Ether(tcp_syn(path, 50000, 443, token))
    segment = TCP(sport=443, dport=50000, flags=flags, ack=(token + 1) & 0xFFFFFFFF)
    received = bytes(_answer(request) / segment)
    assert parse_reply(received) == Reply(answer, MEMBER, token, 443)


@paths
@pytest.mark.parametrize("flags", ["S", "A", "PA", "FA"])
def test_other_segments_are_no_answers(path: Path, flags: str) -> None:
    request = Ether(tcp_syn(path, 50000, 443, 1))
    assert parse_reply(bytes(_answer(request) / TCP(flags=flags, ack=2))) is None


@tokens
def test_echo_replies_are_read(token: int) -> None:
    v4 = _answer(Ether(echo_request(V4, token))) / ICMP(type=0, id=token >> 16, seq=token & 65535)
    v6 = _answer(Ether(echo_request(V6, token))) / ICMPv6EchoReply(
        id=token >> 16, seq=token & 65535
    )
    assert parse_reply(bytes(v4)) == parse_reply(bytes(v6)) == Reply(Answer.ECHO, MEMBER, token)


@paths
def test_our_own_frames_are_no_answers(path: Path) -> None:
    assert parse_reply(tcp_syn(path, 50000, 443, 1)) is None
    assert parse_reply(echo_request(path, 1)) is None
    assert parse_reply(announcement(path.address, HERE)) is None


def test_other_protocols_are_no_answers() -> None:
    request = Ether(tcp_syn(V4, 50000, 443, 1))
    datagram = UDP(sport=443, dport=50000) / (b"x" * 40)
    assert parse_reply(bytes(_answer(request) / datagram)) is None


def _answers() -> list[bytes]:
    made = []
    for path in (V4, V6):
        request = Ether(tcp_syn(path, 50000, 443, 1))
        made += [bytes(_answer(request) / TCP(flags=flags, ack=2)) for flags in ("SA", "RA")]
    made.append(bytes(_answer(Ether(echo_request(V4, 1))) / ICMP(type=0)))
    made.append(bytes(_answer(Ether(echo_request(V6, 1))) / ICMPv6EchoReply()))
    return made


@pytest.mark.parametrize("frame", _answers(), ids=lambda f: Ether(f).summary().split("/")[-1])
def test_a_frame_that_was_cut_off_is_read_as_the_whole_or_not_at_all(frame: bytes) -> None:
    whole = parse_reply(frame)
    assert whole is not None
    for length in range(len(frame)):
        assert parse_reply(frame[:length]) in (None, whole)
    assert parse_reply(frame[:36]) is None


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


ANSWERS = _answers()


@pytest.mark.parametrize("make", [_random, _ip_like, _damaged])
def test_no_frame_raises(make: Callable[[random.Random], bytes]) -> None:
    draw = random.Random(20)
    for _ in range(10_000):
        frame = make(draw)
        reply = parse_reply(frame)
        assert reply is None or isinstance(reply, Reply)
        if reply and reply.answer is Answer.ACCEPTED:
            reset_of(frame)


@pytest.mark.parametrize(
    ("candidates", "towards", "source"),
    [
        (("192.0.2.1", "2001:db8::1", "fe80::1"), "192.0.2.100", "192.0.2.1"),
        (("192.0.2.1", "2001:db8::1", "fe80::1"), "2001:db8::100", "fe80::1"),
        (("192.0.2.1", "2001:db8::1"), "2001:db8::100", "2001:db8::1"),
        (("169.254.0.1", "192.0.2.1"), "192.0.2.100", "192.0.2.1"),
        (("169.254.0.1",), "192.0.2.100", None),
        (("192.0.2.1",), "2001:db8::100", None),
        ((), "192.0.2.100", None),
    ],
)
def test_probes_come_from_a_fitting_address(
    candidates: tuple[str, ...], towards: str, source: str | None
) -> None:
    chosen = source_address(tuple(map(ip_address, candidates)), ip_address(towards))
    assert chosen == (ip_address(source) if source else None)
