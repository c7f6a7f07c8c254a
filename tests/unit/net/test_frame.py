# SPDX-License-Identifier: Apache-2.0
"""Frames of probes against scapy: what we build it understands, what it builds we understand."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from cloudlb.model.ether import Mac
from cloudlb.net.frame import (
    Datagram,
    Echo,
    Path,
    Syn,
    Tunnel,
    announcement,
    reset_of,
    routable_address,
    source_address,
)

HERE, MEMBER = Mac("02:00:00:00:00:01"), Mac("52:54:00:00:00:11")
V4 = Path(HERE, MEMBER, IPv4Address("192.0.2.1"), IPv4Address("192.0.2.100"))
V6 = Path(HERE, MEMBER, IPv6Address("fe80::1"), IPv6Address("2001:db8::100"))
TOKENS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)

paths = pytest.mark.parametrize("path", [V4, V6], ids=["v4", "v6"])
tokens = pytest.mark.parametrize("token", TOKENS, ids=hex)


def tcp_syn(path: Path, source_port: int, port: int, token: int) -> bytes:
    return Syn(path, port).frame(token, source_port)


def echo_request(path: Path, token: int) -> bytes:
    return Echo(path).frame(token)


def _whole(frame: bytes) -> Packet:
    """What scapy reads; the checksums and lengths must be those that scapy would write."""
    read = Ether(frame)
    again = Ether(frame)
    for layer in (IP, IPv6, TCP, UDP, ICMP, ICMPv6EchoRequest, ICMPv6ND_NA):
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


ENDS = [
    Tunnel(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.17")),
    Tunnel(IPv6Address("2001:db8::1"), IPv6Address("2001:db8::17")),
]


@paths
@pytest.mark.parametrize("ends", ENDS, ids=["in v4", "in v6"])
@pytest.mark.requirement("L13")
def test_a_probe_through_a_tunnel_is_the_probe_inside_a_packet(path: Path, ends: Tunnel) -> None:
    through = replace(path, tunnel=ends)
    for build in (lambda p: tcp_syn(p, 50000, 443, 7), lambda p: echo_request(p, 7)):
        inside = build(path)[14:]
        protocol = 4 if path.address.version == 4 else 41
        fields = {"src": str(ends.source), "dst": str(ends.destination)}
        if ends.source.version == 4:
            outer = IP(**fields, proto=protocol, flags="DF", id=0, ttl=64)
        else:
            outer = IPv6(**fields, nh=protocol, hlim=64)
        expected = Ether(src=str(HERE), dst=str(MEMBER)) / outer / Raw(inside)
        assert build(through) == bytes(expected)


def test_the_address_that_is_answered_from_beyond_the_link() -> None:
    here = tuple(map(ip_address, ("fe80::1", "192.0.2.1", "2001:db8::1")))
    assert routable_address(here, 4) == ip_address("192.0.2.1")
    assert routable_address(here, 6) == ip_address("2001:db8::1")
    assert routable_address(here[:1], 6) is None


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
@pytest.mark.parametrize("payload", [b"", b"x", b"ping", bytes(range(256))], ids=len)
@pytest.mark.requirement("L13")
def test_a_datagram_is_one(path: Path, payload: bytes) -> None:
    packet = _whole(Datagram(path, 53, payload).frame(50000))
    assert (packet.src, packet.dst) == (str(HERE), str(MEMBER))
    assert (_ip(packet).src, _ip(packet).dst) == (str(path.source), str(path.address))
    assert (packet[UDP].sport, packet[UDP].dport) == (50000, 53)
    assert bytes(packet[UDP].payload) == payload


def test_the_checksum_of_a_datagram_is_never_zero() -> None:
    """Zero says that there is none (RFC 768), which IPv6 does not allow."""
    for first in range(0x10000):
        sent = Datagram(V6, 53, first.to_bytes(2)).frame(50000)
        assert sent[60:62] != b"\0\0", first


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
