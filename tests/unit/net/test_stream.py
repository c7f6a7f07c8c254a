# SPDX-License-Identifier: Apache-2.0
"""Our end of a TCP connection, with a member whose segments are lost, late or doubled."""

import random
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from cloudlb.model.ether import Mac
from cloudlb.net.answer import ACK, FIN, RST, SYN, End, Segment
from cloudlb.net.frame import MOST, WINDOW, Path
from cloudlb.net.stream import State, Stream
from tests.soak import count

HERE, MEMBER = Mac("02:00:00:00:00:01"), Mac("52:54:00:00:00:11")
V4 = Path(HERE, MEMBER, IPv4Address("192.0.2.1"), IPv4Address("192.0.2.100"))
V6 = Path(HERE, MEMBER, IPv6Address("fe80::1"), IPv6Address("2001:db8::100"))
FIRST, THEIRS = 0xFFFFFFF0, 0xFFFFFFFA  # both wrap around soon
END = End(MEMBER.packed, V4.address.packed, 80, 50000)
PSH = 0x08


def says(
    flags: int,
    payload: bytes = b"",
    *,
    at: int = 1,
    ack: int = 1,
    window: int = 65535,
    mss: int = 0,
) -> Segment:
    """A segment of the member; ``at`` and ``ack`` count from the numbers of the SYNs."""
    options = b"\x02\x04" + mss.to_bytes(2) if mss else b""
    seq, acknowledged = (THEIRS + at) & 0xFFFFFFFF, (FIRST + ack) & 0xFFFFFFFF
    header = bytes(12) + bytes([(5 + len(options) // 4) << 4, flags]) + window.to_bytes(2)
    return Segment(END, seq, acknowledged, flags, header + bytes(4) + options + payload)


def sent(stream: Stream) -> list[tuple[str, int, int, bytes]]:
    """What was sent: flags, sequence number and acknowledgement from the SYNs on, payload."""
    found = []
    for frame in stream.frames():
        tcp = Ether(frame)[TCP]
        ack = (tcp.ack - THEIRS) & 0xFFFFFFFF if tcp.flags & ACK else 0
        payload = bytes(tcp.payload)
        found.append((str(tcp.flags), (tcp.seq - FIRST) & 0xFFFFFFFF, ack, payload))
    return found


@pytest.fixture
def stream() -> Stream:
    """A connection that is open, with nothing said."""
    made = Stream(V4, 50000, 80, FIRST)
    made.take(says(SYN | ACK, at=0))
    made.frames()
    return made


class TestOpening:
    @pytest.mark.parametrize("path", [V4, V6])
    def test_the_first_segment_says_how_long_segments_may_be(self, path: Path) -> None:
        (frame,) = Stream(path, 50000, 80, FIRST).frames()
        tcp = Ether(frame)[TCP]
        assert (tcp.sport, tcp.dport, tcp.flags, tcp.seq) == (50000, 80, "S", FIRST)
        assert (tcp.options, tcp.window) == ([("MSS", MOST)], WINDOW)

    def test_an_acceptance_is_acknowledged(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.frames()
        stream.take(says(SYN | ACK, at=0))
        assert (stream.state, sent(stream)) == (State.OPEN, [("A", 1, 1, b"")])

    def test_a_refusal_ends_it(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.frames()
        stream.take(says(RST | ACK, at=0))
        stream.abort()
        assert (stream.state, sent(stream)) == (State.REFUSED, [])

    def test_a_refusal_of_something_else_is_none(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.take(says(RST | ACK, at=0, ack=2))
        stream.take(says(RST, at=0, ack=1))
        assert stream.state is State.OPENING

    def test_a_member_that_holds_an_older_connection_is_told_and_asked_again(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.frames()
        stream.take(says(ACK, at=77, ack=500))
        assert sent(stream) == [("R", 500, 0, b""), ("S", 0, 0, b"")]

    def test_a_lost_first_segment_is_repeated(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.frames()
        stream.resend()
        assert sent(stream) == [("S", 0, 0, b"")]


class TestSending:
    def test_what_is_written_is_sent(self, stream: Stream) -> None:
        stream.write(b"hello")
        assert sent(stream) == [("A", 1, 1, b"hello")]

    def test_what_was_written_before_it_was_open_is_sent_then(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.write(b"hello")
        stream.frames()
        stream.take(says(SYN | ACK, at=0))
        assert sent(stream) == [("A", 1, 1, b""), ("A", 1, 1, b"hello")]

    def test_segments_are_as_long_as_the_member_takes(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.take(says(SYN | ACK, at=0, mss=100))
        stream.frames()
        stream.write(bytes(250))
        assert [len(payload) for *_, payload in sent(stream)] == [100, 100, 50]

    def test_and_never_longer_than_fits_everywhere(self) -> None:
        stream = Stream(V4, 50000, 80, FIRST)
        stream.take(says(SYN | ACK, at=0, mss=9000))
        stream.frames()
        stream.write(bytes(MOST + 1))
        assert [len(payload) for *_, payload in sent(stream)] == [MOST, 1]

    def test_the_members_room_is_not_exceeded(self, stream: Stream) -> None:
        stream.take(says(ACK, window=3))
        stream.write(b"hello")
        assert sent(stream) == [("A", 1, 1, b"hel")]
        stream.take(says(ACK, ack=4, window=3))
        assert sent(stream) == [("A", 4, 1, b"lo")]

    def test_no_room_is_asked_for_again(self, stream: Stream) -> None:
        stream.take(says(ACK, window=0))
        stream.write(b"hello")
        assert sent(stream) == []
        stream.resend()
        assert sent(stream) == [("A", 1, 1, b"hello")]
        stream.take(says(ACK, ack=6))
        stream.resend()
        assert sent(stream) == []

    def test_only_what_was_not_acknowledged_is_repeated(self, stream: Stream) -> None:
        stream.write(b"hello")
        stream.take(says(ACK, ack=3))
        stream.frames()
        stream.resend()
        assert sent(stream) == [("A", 3, 1, b"llo")]

    def test_an_acknowledgement_of_what_was_not_sent_counts_for_nothing(
        self, stream: Stream
    ) -> None:
        stream.write(b"hello")
        stream.take(says(ACK, ack=99))
        stream.frames()
        stream.resend()
        assert sent(stream) == [("A", 1, 1, b"hello")]

    def test_the_end_is_a_reset_where_the_member_expects_it(self, stream: Stream) -> None:
        stream.write(b"hello")
        stream.frames()
        stream.abort()
        assert sent(stream) == [("R", 6, 0, b"")]


class TestReceiving:
    def test_what_comes_is_read_once_and_acknowledged(self, stream: Stream) -> None:
        stream.take(says(ACK | PSH, b"hello"))
        assert sent(stream) == [("A", 1, 6, b"")]
        assert (stream.read(), stream.read()) == (b"hello", b"")

    def test_what_comes_twice_is_read_once(self, stream: Stream) -> None:
        stream.take(says(ACK, b"hello"))
        stream.take(says(ACK, b"hello"))
        stream.take(says(ACK, b"lo you", at=4))
        assert stream.read() == b"hello you"

    def test_what_comes_early_is_asked_for_again(self, stream: Stream) -> None:
        stream.take(says(ACK, b" you", at=6))
        assert (stream.read(), sent(stream)) == (b"", [("A", 1, 1, b"")])

    def test_the_members_end_is_one(self, stream: Stream) -> None:
        stream.take(says(ACK | FIN, b"bye"))
        assert (stream.state, stream.read()) == (State.ENDED, b"bye")
        assert sent(stream) == [("A", 1, 5, b"")]

    def test_an_end_that_comes_early_is_none(self, stream: Stream) -> None:
        stream.take(says(ACK | FIN, at=4))
        assert stream.state is State.OPEN

    def test_a_repeated_end_is_acknowledged_again(self, stream: Stream) -> None:
        stream.take(says(ACK | FIN))
        stream.take(says(ACK | FIN))
        assert sent(stream) == [("A", 1, 2, b"")] * 2

    def test_a_repeated_acceptance_is_acknowledged_again(self, stream: Stream) -> None:
        stream.take(says(SYN | ACK, at=0))
        assert sent(stream) == [("A", 1, 1, b"")]

    def test_more_than_there_is_room_for_is_not_kept(self, stream: Stream) -> None:
        stream.take(says(ACK, bytes(WINDOW + 1)))
        assert len(stream.read()) == WINDOW

    def test_a_reset_ends_it_only_where_it_is_expected(self, stream: Stream) -> None:
        stream.take(says(RST, at=9))
        assert stream.state is State.OPEN
        stream.take(says(RST))
        stream.abort()
        assert (stream.state, sent(stream)) == (State.RESET, [])


class Mirror:
    """A member that says what it hears, over a link that loses and doubles segments."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.heard, self.acknowledged = draw, b"", 0

    def answer(self, frame: bytes) -> list[Segment]:
        """What arrives of its answers to a frame, if that arrives."""
        if self.draw.random() < 0.3:
            return []
        tcp = Ether(frame)[TCP]
        at = (tcp.seq - FIRST) & 0xFFFFFFFF
        if tcp.flags & SYN:
            return self._lossy(says(SYN | ACK, at=0))
        self.acknowledged = max(self.acknowledged, (tcp.ack - THEIRS - 1) & 0xFFFFFFFF)
        payload = bytes(tcp.payload)
        if at == 1 + len(self.heard):
            self.heard += payload
        said = self.heard[self.acknowledged :][:7]
        return self._lossy(says(ACK, said, at=1 + self.acknowledged, ack=1 + len(self.heard)))

    def _lossy(self, segment: Segment) -> list[Segment]:
        return [segment] * self.draw.choice((0, 1, 1, 2))


@pytest.mark.parametrize("seed", range(count(8, 200)))
def test_everything_arrives_over_a_link_that_loses_and_doubles(seed: int) -> None:
    draw = random.Random(seed)
    stream, mirror = Stream(V4, 50000, 80, FIRST), Mirror(draw)
    text = draw.randbytes(3000)
    stream.write(text)
    got = b""
    for _ in range(5000):
        for frame in stream.frames():
            for segment in mirror.answer(frame):
                stream.take(segment)
        got += stream.read()
        if got == text:
            break
        if mirror.heard == text:
            stream.take(says(ACK, text[len(got) :][:7], at=1 + len(got), ack=1 + len(text)))
        else:
            stream.resend()
    assert (mirror.heard, got) == (text, text)


def test_no_sequence_of_segments_raises() -> None:
    draw = random.Random(7)
    for _ in range(count(400, 20_000)):
        stream = Stream(V4, 50000, 80, draw.getrandbits(32))
        stream.write(draw.randbytes(draw.randrange(3000)))
        for _ in range(8):
            whole = draw.randbytes(draw.randrange(20, 80))
            flags, seq, ack = whole[13], draw.getrandbits(32), draw.getrandbits(32)
            near = draw.random() < 0.7
            if near:
                seq = (stream._expected + draw.randrange(-3, 3)) & 0xFFFFFFFF
                ack = (stream._next + draw.randrange(-3, 3)) & 0xFFFFFFFF
            stream.take(Segment(END, seq, ack, flags, whole))
            draw.choice((stream.resend, stream.abort))()
            assert all(IP in Ether(frame) for frame in stream.frames())
