# SPDX-License-Identifier: Apache-2.0
"""ICMP errors as routers and guests send them, and the packets that they quote."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
)
from scapy.packet import Packet

from cloudlb.model.network import Address
from tests.packet.frames import client_of, ether, ip
from tests.planes import VIP4, VIP6

ROUTER = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8:eeee::1")}
UNREACHABLE = {4: ICMP(type=3, code=1), 6: ICMPv6DestUnreach(code=1)}
QUOTED = pytest.mark.parametrize("octets", [8, 1000], ids=["eight octets", "all"])
ERRORS = [
    pytest.param(VIP4, ICMP(type=3, code=4, nexthopmtu=1400), id="ipv4 needs fragmentation"),
    pytest.param(VIP4, ICMP(type=3, code=3), id="ipv4 port unreachable"),
    pytest.param(VIP4, ICMP(type=11, code=0), id="ipv4 time exceeded"),
    pytest.param(VIP4, ICMP(type=12, ptr=1), id="ipv4 parameter problem"),
    pytest.param(VIP6, ICMPv6PacketTooBig(mtu=1400), id="ipv6 packet too big"),
    pytest.param(VIP6, ICMPv6DestUnreach(code=4), id="ipv6 port unreachable"),
    pytest.param(VIP6, ICMPv6TimeExceeded(code=0), id="ipv6 time exceeded"),
    pytest.param(VIP6, ICMPv6ParamProblem(ptr=6), id="ipv6 parameter problem"),
]


def network_header(frame: bytes) -> int:
    """The length of an IP header without options."""
    return 20 if frame[12] == 0x08 else 40


def quoted(frame: bytes, octets: int) -> bytes:
    """A frame's IP header and the octets behind it that an error tells."""
    return frame[14 : 14 + network_header(frame) + octets]


def error(destination: Address, message: Packet, about: bytes) -> bytes:
    """A router's error to an address."""
    return bytes(ether() / ip(ROUTER[destination.version], destination) / message / about)


def said(vip: Address, transport: Packet, *between: Packet) -> bytes:
    """A frame that a member sent to the client from a pool's address."""
    header = ip(vip, client_of(vip))
    for layer in between:
        header /= layer
    return bytes(ether() / header / transport)


def without_quoted_checksum(frame: bytes, kind: type[Packet]) -> bytes:
    """The frame with zeros for the checksum of what it quotes, and for the error's own."""
    outer = 14 + network_header(frame)
    inner = outer + 8 + network_header(frame)
    cleared = bytearray(frame)
    for at in (outer + 2, inner + (16 if kind is TCP else 6)):
        cleared[at : at + 2] = bytes(min(2, max(0, len(frame) - at)))
    return bytes(cleared)


def icmp_checksum_holds(frame: bytes) -> bool:
    """RFC 1071 over the message, and over the pseudo header for ICMPv6 (RFC 4443, 2.3)."""
    if frame[12] == 0x08:
        header, covered = frame[14:34], frame[34:]
        return ones_sum(covered) == 0xFFFF and ones_sum(header) == 0xFFFF
    message = frame[54:]
    return ones_sum(frame[22:54] + struct.pack("!II", len(message), 58) + message) == 0xFFFF


def ones_sum(octets: bytes) -> int:
    """The sum of RFC 1071, which is 0xFFFF where a checksum holds."""
    octets += bytes(len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
