# SPDX-License-Identifier: Apache-2.0
"""Frames as clients, guests and neighbours send them, encoded by scapy."""

from ipaddress import IPv4Address, IPv6Address

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from cloudlb.model.network import Address
from tests.packet.conftest import UPLINK_MAC
from tests.planes import VIP4

REDIRECT, PASS, DROP = 7, 0xFFFFFFFF, 2
CLIENT_MAC = "02:00:00:00:00:99"
CLIENT4 = IPv4Address("198.51.100.9")
CLIENT6 = IPv6Address("2001:db8:ffff::9")
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"


def ether(
    destination: object = UPLINK_MAC, source: object = CLIENT_MAC, kind: int | None = None
) -> Packet:
    """An Ethernet header."""
    header = Ether(dst=str(destination), src=str(source))
    if kind is not None:
        header.type = kind
    return header


def ip(source: Address, destination: Address, **fields: object) -> Packet:
    """The network header for a pair of addresses."""
    layer = IP if destination.version == 4 else IPv6
    return layer(src=str(source), dst=str(destination), **fields)


def client_of(vip: Address, number: int = 0) -> Address:
    """A client in the family of an address."""
    return (CLIENT4 if vip.version == 4 else CLIENT6) + number


def tcp(
    flags: str = "S",
    sport: int = 40000,
    vip: Address = VIP4,
    client: Address | None = None,
    dport: int = 80,
    payload: bytes = b"",
) -> bytes:
    """A client's TCP segment to a pool's address."""
    segment = TCP(sport=sport, dport=dport, flags=flags) / payload
    return bytes(ether() / ip(client or client_of(vip), vip) / segment)


def udp(
    sport: int = 40000, vip: Address = VIP4, client: Address | None = None, dport: int = 53
) -> bytes:
    """A client's datagram to a pool's address."""
    datagram = UDP(sport=sport, dport=dport) / b"query"
    return bytes(ether() / ip(client or client_of(vip), vip) / datagram)


def from_port(frame: bytes, sport: int) -> bytes:
    """The same IPv4 frame from another client port (its checksum is left alone)."""
    return frame[:34] + sport.to_bytes(2) + frame[36:]


def echo(vip: Address = VIP4, payload: bytes = b"ping me") -> bytes:
    """An echo request to a pool's address."""
    message = ICMP(type=8, id=7, seq=3) if vip.version == 4 else ICMPv6EchoRequest(id=7, seq=3)
    return bytes(ether() / ip(client_of(vip), vip) / message / payload)


def arp(
    sender: object,
    target: object,
    op: int = 1,
    hardware: object = CLIENT_MAC,
    destination: object = BROADCAST,
) -> bytes:
    """An ARP request (op 1) or reply (op 2)."""
    body = ARP(op=op, hwsrc=str(hardware), psrc=str(sender), pdst=str(target))
    return bytes(ether(destination, hardware) / body)


def solicitation(
    source: object,
    target: object,
    hardware: object = CLIENT_MAC,
    option: Packet | None = None,
    destination: object = None,
) -> bytes:
    """A neighbour solicitation, with the source link-layer option unless told otherwise."""
    group = destination or solicited_node(IPv6Address(str(target)))
    last = bytes.fromhex(IPv6Address(str(group)).exploded.replace(":", ""))[-4:]
    message = IPv6(src=str(source), dst=str(group), hlim=255) / ICMPv6ND_NS(tgt=str(target))
    if option is None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=str(hardware))
    elif option:
        message /= option
    return bytes(ether(f"33:33:{last.hex(':')}", hardware) / message)


def advertisement(source: object, target: object, hardware: object = CLIENT_MAC) -> bytes:
    """An unsolicited neighbour advertisement to all nodes."""
    message = IPv6(src=str(source), dst="ff02::1", hlim=255) / ICMPv6ND_NA(
        tgt=str(target), R=0, S=0, O=1
    )
    return bytes(ether(ALL_NODES, hardware) / message / ICMPv6NDOptDstLLAddr(lladdr=str(hardware)))


def solicited_node(address: IPv6Address) -> IPv6Address:
    """RFC 4291, 2.7.1."""
    return IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])


def checksums_hold(frame: bytes) -> bool:
    """Whether scapy computes the same checksums for the headers of this frame."""
    seen = Ether(frame)
    anew = seen.copy()
    layer = anew
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields:
                del layer.fields[name]
        layer = layer.payload
    anew.clear_cache()
    return bytes(anew) == frame
