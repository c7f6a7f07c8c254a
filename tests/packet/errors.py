# SPDX-License-Identifier: Apache-2.0
"""ICMP errors as routers and guests send them, and the packets that they quote."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP
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
