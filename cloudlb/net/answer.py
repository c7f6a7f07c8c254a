# SPDX-License-Identifier: Apache-2.0
"""What members answer to probes, read from received frames; pure.

Checksums are not looked at: between virtual ports they are left to the last device, and a packet
socket sees frames before that.
"""

import struct
from typing import NamedTuple

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_FRAGMENT = 0x1FFF
_PORTS = struct.Struct("!HH")
_TCP_HEADER = struct.Struct("!4xIIxB6x")
_TOKEN = struct.Struct("!4xI")
_LENGTH = struct.Struct("!H")

_NO_OPERATION, _MSS = 1, 2

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


class End(NamedTuple):
    """Who answers whom: a member by its Ethernet address, its address and port, and our port."""

    mac: bytes
    address: bytes
    port: int
    own_port: int


class Echoed(NamedTuple):
    """An echo reply with a probe's token."""

    mac: bytes
    token: int


class Segment(NamedTuple):
    """A TCP segment; ``whole`` is it from its first octet to its last."""

    end: End
    seq: int
    ack: int
    flags: int
    whole: bytes

    @property
    def window(self) -> int:
        """Octets that its sender has room for."""
        return int.from_bytes(self.whole[14:16])

    @property
    def payload(self) -> bytes:
        """What it carries."""
        return self.whole[self._header :]

    @property
    def mss(self) -> int:
        """The longest segment that its sender takes, 0 if it does not say."""
        options = self.whole[20 : self._header]
        while len(options) >= 2 and options[0]:
            kind, length = options[0], 1 if options[0] == _NO_OPERATION else options[1]
            if kind == _MSS and length == 4:
                return int.from_bytes(options[2:4])
            options = options[max(length, 1) :]
        return 0

    @property
    def _header(self) -> int:
        return max(20, (self.whole[12] >> 4) * 4)


class Datagram(NamedTuple):
    """A UDP datagram."""

    end: End


class Unreachable(NamedTuple):
    """Word that nobody listens at a UDP port (ICMP type 3 code 3, ICMPv6 type 1 code 4)."""

    end: End


Answer = Echoed | Segment | Datagram | Unreachable


def parse(frame: bytes) -> Answer | None:
    """The answer in a received frame, None when it is none."""
    try:
        if frame[12:14] == _IPV4:
            at = 14 + (frame[14] & 15) * 4
            if at >= 34 and not _LENGTH.unpack_from(frame, 20)[0] & _FRAGMENT:
                last = 14 + _LENGTH.unpack_from(frame, 16)[0]
                return _parse(frame[:last], frame[23], 26, 4, at)
        elif frame[12:14] == _IPV6:
            last = 54 + _LENGTH.unpack_from(frame, 18)[0]
            return _parse(frame[:last], frame[20], 22, 16, 54)
    except (IndexError, struct.error):
        pass
    return None


def _parse(frame: bytes, protocol: int, source: int, size: int, at: int) -> Answer | None:
    """``source``, ``at``: where the source address, which has ``size`` octets, and the payload
    are.
    """
    if protocol in (_ICMP, _ICMPV6):
        return _parse_icmp(frame, size, at)
    if protocol in (_TCP, _UDP):
        port, own_port = _PORTS.unpack_from(frame, at)
        end = End(frame[6:12], frame[source : source + size], port, own_port)
        return Datagram(end) if protocol == _UDP else _parse_segment(frame, end, at)
    return None


def _parse_segment(frame: bytes, end: End, at: int) -> Segment:
    seq, ack, flags = _TCP_HEADER.unpack_from(frame, at)
    return Segment(end, seq, ack, flags, frame[at:])


def _parse_icmp(frame: bytes, size: int, at: int) -> Answer | None:
    kind, code = frame[at], frame[at + 1]
    if kind == (0 if size == 4 else 129):
        return Echoed(frame[6:12], _TOKEN.unpack_from(frame, at)[0])
    if (kind, code) == ((3, 3) if size == 4 else (1, 4)):
        return _parse_quoted(frame, size, at + 8)
    return None


def _parse_quoted(frame: bytes, size: int, at: int) -> Unreachable | None:
    """What a quoted datagram of ours was sent to."""
    protocol, header = (9, (frame[at] & 15) * 4) if size == 4 else (6, 40)
    if frame[at + protocol] != _UDP:
        return None
    own_port, port = _PORTS.unpack_from(frame, at + header)
    destination = at + (16 if size == 4 else 24)
    return Unreachable(End(frame[6:12], frame[destination : destination + size], port, own_port))
