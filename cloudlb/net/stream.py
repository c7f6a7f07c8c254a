# SPDX-License-Identifier: Apache-2.0
"""The client's end of one TCP connection over raw frames; pure (RFC 9293).

Enough for a short question and its answer, and bounded: the member may send `WINDOW` octets
before they are read, segments that arrive out of order are asked for again, and what is sent is
repeated until it is acknowledged. Neither options nor a congestion window: a question fits into
few segments. The connection ends with a reset, which leaves nothing behind at the member.
"""

from collections import deque
from enum import Enum

from cloudlb.net.answer import ACK, FIN, RST, SYN, Segment
from cloudlb.net.frame import MOST, WINDOW, Path, segment

_HALF = 0x80000000
_DEFAULT_MSS = {4: 536, 6: 1220}


class State(Enum):
    """How far a connection is. ``ENDED``: the member has sent all that it wants to."""

    OPENING = "opening"
    OPEN = "open"
    ENDED = "ended"
    REFUSED = "refused"
    RESET = "reset"


def _since(earlier: int, later: int) -> int:
    """The distance of two sequence numbers, negative if ``later`` is before ``earlier``."""
    distance = (later - earlier) & 0xFFFFFFFF
    return distance - 2 * _HALF if distance & _HALF else distance


class Stream:
    """A connection to ``port`` along ``path``; ``first`` is the sequence number of its SYN.

    ``frames`` gives what is to be sent, ``read`` what has arrived.
    """

    def __init__(self, path: Path, source_port: int, port: int, first: int) -> None:
        self.state = State.OPENING
        self._path, self._source_port, self._port = path, source_port, port
        self._first = self._acknowledged = first
        self._next = first + 1
        self._expected = 0
        self._kept = b""  # sent or to be sent, from _acknowledged on
        self._window, self._mss = 0, _DEFAULT_MSS[path.address.version]
        self._arrived = bytearray()
        self._frames: deque[bytes] = deque()
        self._emit(first, SYN)

    def frames(self) -> list[bytes]:
        """The frames to send now."""
        found = list(self._frames)
        self._frames.clear()
        return found

    def read(self) -> bytes:
        """What has arrived since the last call."""
        found = bytes(self._arrived)
        self._arrived.clear()
        return found

    def write(self, data: bytes) -> None:
        """Send octets, now or when the member has room."""
        self._kept += data
        self._push()

    def resend(self) -> None:
        """Repeat the first of what was not acknowledged. To a window of none it is the probe."""
        if self.state is State.OPENING:
            self._emit(self._first, SYN)
        elif self._kept and self.state in (State.OPEN, State.ENDED):
            part = self._kept[: self._mss]
            self._emit(self._acknowledged, ACK, part)
            beyond = (self._acknowledged + len(part)) & 0xFFFFFFFF
            if _since(self._next, beyond) > 0:
                self._next = beyond

    def abort(self) -> None:
        """End the connection."""
        if self.state not in (State.REFUSED, State.RESET):
            self._emit(self._next, RST)

    def take(self, received: Segment) -> None:
        """Go on with a segment of the member."""
        if self.state is State.OPENING:
            self._take_first(received)
        elif self.state in (State.OPEN, State.ENDED):
            self._take_further(received)

    def _take_first(self, received: Segment) -> None:
        flags = received.flags
        if flags & ACK and received.ack != self._next & 0xFFFFFFFF:
            self._take_foreign(received)
        elif flags & (RST | ACK) == RST | ACK:
            self.state = State.REFUSED
        elif flags & (SYN | ACK | RST) == SYN | ACK:
            self._expected = (received.seq + 1) & 0xFFFFFFFF
            self._acknowledged = received.ack
            self._next = received.ack
            self._window = received.window
            self._mss = min(received.mss or self._mss, MOST)
            self.state = State.OPEN
            self._emit(self._next, ACK)
            self._push()

    def _take_foreign(self, received: Segment) -> None:
        """The member holds a connection of earlier: end that, and ask again."""
        if not received.flags & RST:
            self._emit(received.ack, RST)
            self._emit(self._first, SYN)

    def _take_further(self, received: Segment) -> None:
        if received.flags & RST:
            if received.seq == self._expected:
                self.state = State.RESET
            return
        if received.flags & SYN:
            self._emit(self._next, ACK)  # ours was lost
            return
        if received.flags & ACK:
            self._take_acknowledgement(received)
        self._take_payload(received)

    def _take_acknowledgement(self, received: Segment) -> None:
        fresh = _since(self._acknowledged, received.ack)
        if 0 <= fresh <= _since(self._acknowledged, self._next):
            self._kept = self._kept[fresh:]
            self._acknowledged = received.ack
            self._window = received.window
            self._push()

    def _take_payload(self, received: Segment) -> None:
        payload, is_last = received.payload, bool(received.flags & FIN)
        if not payload and not is_last:
            return
        known = _since(received.seq, self._expected)
        if self.state is State.OPEN and 0 <= known <= len(payload):
            fresh = payload[known : known + WINDOW]
            self._arrived += fresh
            self._expected = (self._expected + len(fresh)) & 0xFFFFFFFF
            if is_last and known + len(fresh) == len(payload):
                self._expected = (self._expected + 1) & 0xFFFFFFFF
                self.state = State.ENDED
        self._emit(self._next, ACK)

    def _push(self) -> None:
        """Send what the member has room for and has not been sent yet."""
        if self.state not in (State.OPEN, State.ENDED):
            return
        sent = _since(self._acknowledged, self._next)
        while sent < min(len(self._kept), self._window):
            part = self._kept[sent : min(sent + self._mss, self._window)]
            self._emit(self._next, ACK, part)
            sent += len(part)
            self._next = (self._next + len(part)) & 0xFFFFFFFF

    def _emit(self, seq: int, flags: int, payload: bytes = b"") -> None:
        ports = self._source_port, self._port
        ack = self._expected if flags & ACK else 0
        self._frames.append(segment(self._path, *ports, seq, ack, flags, payload))
