# SPDX-License-Identifier: Apache-2.0
"""The messages between agents, past the control plane: their octets, and who may be believed.

One UDP datagram each, in network order: ``CLB`` and a version, kind, the number of the key, the
sender's incarnation (when it started, ns since the epoch) and sequence number, the length of its
name and the name, a body, and the first 16 octets of an HMAC-SHA256 (RFC 2104) over all before.
"""

import hashlib
import hmac
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from cloudlb.model.load import Load

_MAGIC = b"CLB\x02"
_HEAD = struct.Struct("!4sBIQQB")
_TAG = 16
_LOAD = struct.Struct("!dd")
_SIGN = struct.Struct("!16s16s16s2s2sBH")
_ENTRY = struct.Struct("!16s16s2s2sBBBHH16s")
_RUN = struct.Struct("!16sB")
LONGEST = 1400
MOST_ENTRIES = 21
MOST_SIGNS = 22
OLDEST_SIGN = 0xFFFF
MOST_RUNS = 64
MOST_MISSES = 0xFF
_WINDOW = 1024
LONGEST_IDLE = 0xFFFF


class Kind(IntEnum):
    """What a message is for.

    ``HELLO``: I am here, and this is how far my numbers are. ``FLOWS``: connections that I
    forward. ``WANT``: tell me all of them. ``DONE``: those were all. ``LOAD``: how much I have to
    do. ``ENDED``: connections that guests of mine have ended. ``HEALTH``: what my guests have
    answered to my probes.
    """

    HELLO = 1
    FLOWS = 2
    WANT = 3
    DONE = 4
    LOAD = 5
    ENDED = 6
    HEALTH = 7

    @property
    def is_passing(self) -> bool:
        """Whether nobody asks for it again when it is lost: such messages have numbers of their
        own, of which gaps say nothing.
        """
        return self in (Kind.ENDED, Kind.HEALTH)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of ``sender``, the ``sequence``-th since it started at ``incarnation``."""

    kind: Kind
    sender: str
    incarnation: int
    sequence: int
    body: bytes = b""


class FlowEntry(NamedTuple):
    """A connection and its member, each by what all hosts know; ``idle`` in whole seconds.

    Addresses are 16 octets with IPv4 mapped into IPv6, ports two in network order; ``state`` and
    ``mode`` are the maps' numbers. ``alias`` is the port that stands for the client's with full
    NAT, that of the member where it has begun, else 0.
    """

    pool: bytes
    client: bytes
    client_port: bytes
    port: bytes
    protocol: int
    state: int
    mode: int
    alias: int
    idle: int
    member: bytes


class SignKind(IntEnum):
    """What a member does with a connection: it closes its side, or resets it; it refuses a new
    one, or leaves its client without an answer.
    """

    CLOSED = 1
    RESET = 2
    REFUSED = 3
    UNANSWERED = 4

    @property
    def ends(self) -> bool:
        """Whether the connection is to be counted no more."""
        return self in (SignKind.CLOSED, SignKind.RESET)

    @property
    def is_doubtful(self) -> bool:
        """Whether it speaks against the member."""
        return self in (SignKind.REFUSED, SignKind.UNANSWERED)


class Sign(NamedTuple):
    """What a member does with a TCP connection, ``age`` ms ago; all else as in a `FlowEntry`."""

    pool: bytes
    member: bytes
    client: bytes
    client_port: bytes
    port: bytes
    kind: SignKind
    age: int


Run = tuple[bytes, int]
"""A member, and how many probes of its host it has missed in a row, at most `MOST_MISSES`."""


def seal(message: Message, number: int, secret: bytes) -> bytes:
    """The octets of a message, signed with the key of this number."""
    name = message.sender.encode()
    head = _HEAD.pack(
        _MAGIC, message.kind, number, message.incarnation, message.sequence, len(name)
    )
    signed = head + name + message.body
    return signed + _tag(secret, signed)


def unseal(octets: bytes, secrets: Mapping[int, bytes]) -> Message:
    """The message in a datagram; ValueError when it is none, or not signed with a known key."""
    if not _HEAD.size + _TAG <= len(octets) <= LONGEST:
        raise ValueError(f"{len(octets)} octets")
    magic, kind, number, incarnation, sequence, length = _HEAD.unpack_from(octets)
    signed, tag = octets[:-_TAG], octets[-_TAG:]
    if magic != _MAGIC or number not in secrets:
        raise ValueError("another version, or a key that is not known")
    if not hmac.compare_digest(tag, _tag(secrets[number], signed)):
        raise ValueError("a wrong signature")
    name, body = signed[_HEAD.size :][:length], signed[_HEAD.size + length :]
    if len(name) < length:
        raise ValueError("a name that does not end")
    return Message(Kind(kind), name.decode(), incarnation, sequence, body)


def _tag(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, hashlib.sha256)[:_TAG]


def bodies(entries: Iterable[FlowEntry]) -> Iterator[bytes]:
    """Connections as bodies of messages that are short enough."""
    return _bodies(entries, _ENTRY, MOST_ENTRIES)


def _bodies(
    told: Iterable[tuple[object, ...]], layout: struct.Struct, most: int
) -> Iterator[bytes]:
    waiting = iter(told)
    while batch := tuple(islice(waiting, most)):
        yield b"".join(layout.pack(*each) for each in batch)


def entries(body: bytes) -> Sequence[FlowEntry]:
    """The connections in a body. ValueError when it has another length."""
    if len(body) % _ENTRY.size:
        raise ValueError(f"{len(body)} octets are no connections")
    return [FlowEntry(*values) for values in _ENTRY.iter_unpack(body)]


def sign_bodies(signs: Iterable[Sign]) -> Iterator[bytes]:
    """Signs as bodies of messages that are short enough."""
    return _bodies(signs, _SIGN, MOST_SIGNS)


def signs_of(body: bytes) -> Sequence[Sign]:
    """The ends of connections in a body. ValueError when it has another length, or other signs."""
    if len(body) % _SIGN.size:
        raise ValueError(f"{len(body)} octets are no signs")
    found = [_sign(*values) for values in _SIGN.iter_unpack(body)]
    if not all(sign.kind.ends for sign in found):
        raise ValueError("a sign that ends no connection")
    return found


def _sign(
    pool: bytes, member: bytes, client: bytes, client_port: bytes, port: bytes, kind: int, age: int
) -> Sign:
    return Sign(pool, member, client, client_port, port, SignKind(kind), age)


def load_body(load: Load) -> bytes:
    """A host's load and its limit as a body."""
    return _LOAD.pack(load.value, load.limit)


def load_of(body: bytes) -> Load:
    """The load in a body. ValueError when there is none."""
    if len(body) != _LOAD.size:
        raise ValueError(f"{len(body)} octets are no load")
    value, limit = _LOAD.unpack(body)
    if not (math.isfinite(value) and math.isfinite(limit)):
        raise ValueError("a load without end")
    return Load(value, limit)


def run_bodies(told: Iterable[Run]) -> Iterator[bytes]:
    """What a host says of its guests, as bodies of messages that are short enough."""
    return _bodies(told, _RUN, MOST_RUNS)


def runs(body: bytes) -> Iterator[Run]:
    """What a host says in a body. ValueError when it has another length."""
    if len(body) % _RUN.size:
        raise ValueError(f"{len(body)} octets say nothing of members")
    return _RUN.iter_unpack(body)


class Window:
    """Which messages of one sender are new: each number once, none that is far behind.

    ``missed`` tells whether messages have been lost since it was asked last.
    """

    def __init__(self) -> None:
        self._incarnation = self._last = self._seen = 0
        self._missed = False

    def accepts(self, incarnation: int, sequence: int) -> bool:
        """Whether a message is news; a sender that has started anew begins anew."""
        if incarnation < self._incarnation:
            return False
        if incarnation > self._incarnation:
            self._incarnation, self._last, self._seen = incarnation, sequence, 1
            self._missed = True
            return True
        if sequence > self._last:
            ahead = sequence - self._last
            self._missed = self._missed or ahead > 1
            self._seen = (self._seen << ahead | 1) & (1 << _WINDOW) - 1 if ahead < _WINDOW else 1
            self._last = sequence
            return True
        behind = self._last - sequence
        if behind >= _WINDOW or self._seen >> behind & 1:
            return False
        self._seen |= 1 << behind
        return True

    def missed(self) -> bool:
        """Whether what its sender has told is not all known here; asked once."""
        missed, self._missed = self._missed, False
        return missed
