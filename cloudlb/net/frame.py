# SPDX-License-Identifier: Apache-2.0
"""Frames of probes: built whole, Ethernet header included, and their answers read; pure.

A probe carries a 32-bit token: the sequence number of a TCP segment, the identifier and sequence
number of an echo request.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, ip_address

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_TCP, _ICMP, _ICMPV6 = 6, 1, 58
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_TTL = 64


class Answer(Enum):
    """What came back."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ECHO = "echo"


@dataclass(frozen=True, slots=True)
class Path:
    """Where a probe goes: from the director's interface to a member, as the traffic does.

    ``address`` is the pool's; the member is chosen by its Ethernet address alone.
    """

    source_mac: Mac
    member_mac: Mac
    source: Address
    address: Address


@dataclass(frozen=True, slots=True)
class Reply:
    """A member's answer; ``token`` is the probe's."""

    answer: Answer
    member_mac: Mac
    token: int
    port: int = 0


def tcp_syn(path: Path, source_port: int, port: int, token: int) -> bytes:
    """The first segment of a connection."""
    return _tcp(path, source_port, port, token, 0, _SYN)


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


def reset_of(accepted: bytes) -> bytes:
    """What ends the half-open connection that a received SYN-ACK frame belongs to."""
    version = 4 if accepted[12:14] == _ETHERTYPE[4].to_bytes(2) else 6
    addresses = slice(26, 34) if version == 4 else slice(22, 54)
    both = accepted[addresses]
    half = len(both) // 2
    path = Path(
        source_mac=Mac.unpack(accepted[:6]),
        member_mac=Mac.unpack(accepted[6:12]),
        source=ip_address(both[half:]),
        address=ip_address(both[:half]),
    )
    segment = accepted[14 + (accepted[14] & 15) * 4 :] if version == 4 else accepted[54:]
    port, source_port, _, acknowledged = struct.unpack_from("!HHII", segment)
    return _tcp(path, source_port, port, acknowledged, 0, _RST)


def echo_request(path: Path, token: int) -> bytes:
    """An ICMP or ICMPv6 echo request (RFC 792, RFC 4443)."""
    body = token.to_bytes(4) + b"cloudlb probe"
    if path.address.version == 4:
        message = bytes([8, 0, 0, 0]) + body
        return _frame(path, _ICMP, _with_checksum(message, 2, b""))
    message = bytes([128, 0, 0, 0]) + body
    return _frame(path, _ICMPV6, _with_checksum(message, 2, _pseudo(path, _ICMPV6, message)))


def parse_reply(frame: bytes) -> Reply | None:
    """The answer in a received frame, None when it is none."""
    try:
        source, ethertype = struct.unpack_from("!6x6sH", frame)
        mac = Mac.unpack(source)
        if ethertype == _ETHERTYPE[4]:
            return _parse_payload(mac, frame[23], frame[14 + (frame[14] & 15) * 4 :], 0)
        if ethertype == _ETHERTYPE[6]:
            return _parse_payload(mac, frame[20], frame[54:], 129)
    except (IndexError, struct.error):
        pass
    return None


def _parse_payload(mac: Mac, protocol: int, payload: bytes, echo_reply: int) -> Reply | None:
    if protocol == _TCP:
        port, _, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", payload)
        token = (acknowledged - 1) & 0xFFFFFFFF
        if flags & (_SYN | _ACK | _RST) == _SYN | _ACK:
            return Reply(Answer.ACCEPTED, mac, token, port)
        if flags & _RST:
            return Reply(Answer.REFUSED, mac, token, port)
    if protocol in (_ICMP, _ICMPV6) and payload[0] == echo_reply:
        (token,) = struct.unpack_from("!4xI", payload)
        return Reply(Answer.ECHO, mac, token)
    return None


def _tcp(path: Path, source_port: int, port: int, seq: int, ack: int, flags: int) -> bytes:
    segment = struct.pack(
        "!HHIIBBHHH", source_port, port, seq & 0xFFFFFFFF, ack, 5 << 4, flags, 1024, 0, 0
    )
    return _frame(path, _TCP, _with_checksum(segment, 16, _pseudo(path, _TCP, segment)))


def _frame(path: Path, protocol: int, payload: bytes, hop_limit: int = _TTL) -> bytes:
    ethernet = path.member_mac.packed + path.source_mac.packed
    ethernet += _ETHERTYPE[path.address.version].to_bytes(2)
    addresses = path.source.packed + path.address.packed
    if path.address.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        return ethernet + head + addresses + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, hop_limit, protocol, 0)
    return ethernet + _with_checksum(head + addresses, 10, b"") + payload


def _pseudo(path: Path, protocol: int, payload: bytes) -> bytes:
    addresses = path.source.packed + path.address.packed
    if path.address.version == 4:
        return addresses + struct.pack("!BBH", 0, protocol, len(payload))
    return addresses + struct.pack("!II", len(payload), protocol)


def _with_checksum(message: bytes, offset: int, pseudo: bytes) -> bytes:
    """The message with its Internet checksum (RFC 1071) over a pseudo header at ``offset``."""
    covered = pseudo + message
    covered += b"\0" * (len(covered) % 2)
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum: bytes = (~total & 0xFFFF).to_bytes(2)
    return message[:offset] + checksum + message[offset + 2 :]


def source_address(candidates: tuple[Address, ...], towards: Address) -> Address | None:
    """The director's address to probe from (A16: for IPv6 its link-local address)."""
    same = [a for a in candidates if a.version == towards.version]
    link_local = [a for a in same if a.is_link_local]
    routable = [a for a in same if not a.is_link_local]
    ordered = link_local + routable if towards.version == 6 else routable
    return ordered[0] if ordered else None
