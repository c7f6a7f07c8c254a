# SPDX-License-Identifier: Apache-2.0
"""Frames of probes, built whole, Ethernet header included; pure.

A probe carries a 32-bit token: the sequence number of a TCP segment, the identifier and sequence
number of an echo request.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_INSIDE = {4: 4, 6: 41}  # protocol numbers of packets inside packets (RFC 2003, RFC 4213)
_SYN, _RST = 0x02, 0x04
_TTL = 64
_ECHOED = b"cloudlb probe"
_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_UDP_HEADER = struct.Struct("!HHHH")
_CHECKSUM_AND_TOKEN = struct.Struct("!HI")

WINDOW = 4096
"""Octets that a member may send before they are acknowledged; it bounds frames and stores."""
MOST = 1220
"""Octets of a segment: with all headers less than 1280, the least MTU of IPv6 (RFC 8200), where
there is no tunnel, and less than the usual 1500 where there is one."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The ends of the packet in which others travel: the director's address, the member's own."""

    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class Path:
    """Where a probe goes: from the director's interface to a member, as the traffic does.

    ``address`` is the pool's; the member is chosen by its Ethernet address, and by the
    ``tunnel`` where the traffic goes through one.
    """

    source_mac: Mac
    member_mac: Mac
    source: Address
    address: Address
    tunnel: Tunnel | None = None


class Echo:
    """Echo requests along a path (RFC 792, RFC 4443), which differ in their tokens only.

    All else, and its sum, is computed once: a director sends thousands of them each second.
    """

    def __init__(self, path: Path) -> None:
        kind, protocol = (8, _ICMP) if path.address.version == 4 else (128, _ICMPV6)
        message = bytes([kind, 0, 0, 0]) + bytes(4) + _ECHOED
        pseudo = b"" if protocol == _ICMP else _pseudo(path, protocol, message)
        self._sum = _sum(pseudo + message)
        self._head = _frame(path, protocol, message)[: -len(message)] + message[:2]

    def frame(self, token: int, _source_port: int = 0) -> bytes:
        """The request whose identifier and sequence number are ``token``."""
        total = self._sum + (token >> 16) + (token & 0xFFFF)
        while total >> 16:  # as _folded, without the call
            total = (total & 0xFFFF) + (total >> 16)
        return self._head + _CHECKSUM_AND_TOKEN.pack(~total & 0xFFFF, token) + _ECHOED


class Syn:
    """First segments of connections along a path, to one port."""

    def __init__(self, path: Path, port: int) -> None:
        header = _tcp_header(0, port, 0, 0, _SYN, b"")
        self._sum = _sum(_pseudo(path, _TCP, header) + header)
        self._head = _frame(path, _TCP, header)[: -len(header)]
        self._port = port

    def frame(self, token: int, source_port: int) -> bytes:
        """The segment with the sequence number ``token``."""
        total = self._sum + source_port + (token >> 16) + (token & 0xFFFF)
        return self._head + _TCP_HEADER.pack(
            source_port, self._port, token, 0, 5 << 4, _SYN, WINDOW, _folded(total), 0
        )


class Datagram:
    """UDP datagrams along a path, to one port with one payload (RFC 768)."""

    def __init__(self, path: Path, port: int, payload: bytes) -> None:
        self._ends = port, 8 + len(payload)
        message = _UDP_HEADER.pack(0, *self._ends, 0) + payload
        self._sum = _sum(_pseudo(path, _UDP, message) + message)
        self._head = _frame(path, _UDP, message)[: -len(message)]
        self._payload = payload

    def frame(self, source_port: int) -> bytes:
        """The datagram from this port. A checksum of zero would say that there is none."""
        checksum = _folded(self._sum + source_port) or 0xFFFF
        return self._head + _UDP_HEADER.pack(source_port, *self._ends, checksum) + self._payload


def announcement(address: Address, mac: Mac) -> bytes:
    """What tells a link that an address is now at ``mac``: a gratuitous ARP request (RFC 5227,
    section 3), an unsolicited neighbour advertisement (RFC 4861, section 7.2.6).
    """
    if address.version == 4:
        head = b"\xff" * 6 + mac.packed + bytes.fromhex("0806 0001 0800 06 04 0001")
        return head + mac.packed + address.packed + bytes(6) + address.packed
    path = Path(mac, Mac("33:33:00:00:00:01"), address, IPv6Address("ff02::1"))
    message = bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + address.packed + bytes([2, 1]) + mac.packed
    whole = _with_checksum(message, 2, _pseudo(path, _ICMPV6, message))
    return _frame(path, _ICMPV6, whole, hop_limit=255)


def reset_of(received: bytes) -> bytes:
    """What ends the connection that a received frame with an acknowledgement belongs to."""
    version = 4 if received[12:14] == _ETHERTYPE[4].to_bytes(2) else 6
    addresses = slice(26, 34) if version == 4 else slice(22, 54)
    both = received[addresses]
    half = len(both) // 2
    path = Path(
        source_mac=Mac.unpack(received[:6]),
        member_mac=Mac.unpack(received[6:12]),
        source=ip_address(both[half:]),
        address=ip_address(both[:half]),
    )
    header = received[14 + (received[14] & 15) * 4 :] if version == 4 else received[54:]
    port, source_port, _, acknowledged = struct.unpack_from("!HHII", header)
    return segment(path, source_port, port, acknowledged, 0, _RST)


def segment(
    path: Path, source_port: int, port: int, seq: int, ack: int, flags: int, payload: bytes = b""
) -> bytes:
    """A TCP segment (RFC 9293); a SYN says how long segments may be."""
    options = struct.pack("!BBH", 2, 4, MOST) if flags & _SYN else b""
    whole = _tcp_header(source_port, port, seq, ack, flags, options) + payload
    return _frame(path, _TCP, _with_checksum(whole, 16, _pseudo(path, _TCP, whole)))


def _tcp_header(
    source_port: int, port: int, seq: int, ack: int, flags: int, options: bytes
) -> bytes:
    offset = (5 + len(options) // 4) << 4
    fields = source_port, port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, WINDOW, 0, 0
    return _TCP_HEADER.pack(*fields) + options


def _frame(path: Path, protocol: int, payload: bytes, hop_limit: int = _TTL) -> bytes:
    packet = _packet(path.source, path.address, protocol, payload, hop_limit)
    version = path.address.version
    if path.tunnel:
        ends, inside = path.tunnel, _INSIDE[version]
        packet = _packet(ends.source, ends.destination, inside, packet, _TTL)
        version = ends.destination.version
    ethernet = path.member_mac.packed + path.source_mac.packed + _ETHERTYPE[version].to_bytes(2)
    return ethernet + packet


def _packet(
    source: Address, destination: Address, protocol: int, payload: bytes, hop_limit: int
) -> bytes:
    addresses = source.packed + destination.packed
    if destination.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        return head + addresses + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, hop_limit, protocol, 0)
    return _with_checksum(head + addresses, 10, b"") + payload


def _pseudo(path: Path, protocol: int, payload: bytes) -> bytes:
    addresses = path.source.packed + path.address.packed
    if path.address.version == 4:
        return addresses + struct.pack("!BBH", 0, protocol, len(payload))
    return addresses + struct.pack("!II", len(payload), protocol)


def _with_checksum(message: bytes, offset: int, pseudo: bytes) -> bytes:
    """The message with its Internet checksum over a pseudo header at ``offset``."""
    checksum = _folded(_sum(pseudo + message))
    return message[:offset] + checksum.to_bytes(2) + message[offset + 2 :]


def _sum(covered: bytes) -> int:
    """The sum of the 16-bit words of octets (RFC 1071)."""
    covered += b"\0" * (len(covered) % 2)
    return sum(struct.unpack(f"!{len(covered) // 2}H", covered))


def _folded(total: int) -> int:
    """The Internet checksum of what has this sum."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def source_address(candidates: tuple[Address, ...], towards: Address) -> Address | None:
    """The director's address to probe from (A16: for IPv6 its link-local address)."""
    link_local = (a for a in candidates if a.version == 6 and a.is_link_local)
    if towards.version == 6 and (found := next(link_local, None)):
        return found
    return routable_address(candidates, towards.version)


def routable_address(candidates: tuple[Address, ...], version: int) -> Address | None:
    """The director's address that others can answer to from beyond the link."""
    return next((a for a in candidates if a.version == version and not a.is_link_local), None)
