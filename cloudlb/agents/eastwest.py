# SPDX-License-Identifier: Apache-2.0
"""What agents tell each other past the control plane: connections of directors in groups, those
that guests have ended, loads, and what guests have answered to their own hosts' probes.

A director tells the others of its pools every connection that begins, is acknowledged or closes,
within milliseconds, and all that are in use once a minute. Datagrams may be lost: each receiver
sees gaps in their numbers, also by the greeting that comes every second, and asks for everything.
"""

import logging
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from cloudlb.agents.circle import Circle, newcomers
from cloudlb.agents.witness import Witness
from cloudlb.engines.base import Sharer
from cloudlb.model.eastwest import (
    LONGEST,
    FlowEntry,
    Kind,
    Message,
    Run,
    Sign,
    Window,
    bodies,
    entries,
    load_body,
    load_of,
    run_bodies,
    runs,
    seal,
    sign_bodies,
    signs_of,
    unseal,
)
from cloudlb.model.errors import EngineError
from cloudlb.model.load import PERIOD, SILENCE, Load
from cloudlb.model.network import Address

LOG = logging.getLogger(__name__)
_GREETING = PERIOD
_ASKING = 2.0
_REFRESH = 60.0
_GATHER = 0.005
_MANY_SIGNS = 500
_PACE = 40  # datagrams in 10 ms: a receiver's buffer holds some 150 by default
_PATIENCE = 3.0
_FRIENDSHIP = 60.0  # an agent that has died is back by then, and has told what it knows
_LONGEST_WAIT = 15.0


@dataclass(slots=True)
class _Peer:
    """What is known of another director, and what is on its way to it.

    ``is_known``: it has told everything. ``misses``: some of it was lost since. ``is_told``: it is
    being told everything. ``passing`` has the numbers of messages that nobody asks for again.
    """

    address: str
    window: Window = field(default_factory=Window)
    passing: Window = field(default_factory=Window)
    is_heard: bool = False
    is_known: bool = False
    misses: bool = False
    is_told: bool = False
    asked_at: float = float("-inf")
    heard_at: float = float("-inf")
    load: Load | None = None
    load_at: float = float("-inf")
    outgoing: Iterator[tuple[Kind, bytes]] = field(default_factory=lambda: iter(()))


class EastWest:
    """Talks with the directors of this host's pools at their ``port``, from its own ``address``.

    ``sharer`` has this host's connections, and takes those of others under ``lock``. ``doubted``
    hears which members refuse connections, or do not answer. ``witness`` has what is to be told of
    guests here, ``heard(host, runs)`` takes what others say of theirs. Without an address it talks
    with nobody.
    """

    def __init__(
        self,
        host: str,
        address: Address | None,
        port: int,
        sharer: Sharer | None,
        lock: threading.RLock,
        doubted: Callable[[Collection[UUID]], None],
        clock: Callable[[], float] = time.monotonic,
        incarnation: int = 0,
        witness: Witness | None = None,
        heard: Callable[[str, Iterable[Run]], None] = lambda _host, _told: None,
    ) -> None:
        self._host, self._address, self._port = host, address, port
        self._sharer, self._lock, self._clock = sharer, lock, clock
        self._doubted = doubted
        self._incarnation = incarnation or time.time_ns()
        self._circle, self._taken_at = Circle(), clock()
        self._secrets: dict[int, bytes] = {}
        self._peers: dict[str, _Peer] = {}
        self._sent: defaultdict[tuple[str, bool], int] = defaultdict(int)
        self._mates: dict[str, _Peer] = {}
        self._witness, self._heard = witness or Witness(clock), heard
        self._began: float | None = None
        self._load: Load | None = None
        self._is_anew = False
        self._greeted_at = self._refreshed_at = float("-inf")

    def want(self, circle: Circle) -> None:
        """Talk with these from now on.

        Who directs a pool anew may have asked for its connections before this was known here.
        """
        with self._lock:
            self._is_anew = self._is_anew or bool(newcomers(self._circle, circle))
            self._circle, self._taken_at, self._secrets = circle, self._clock(), circle.secrets
            known = {host: str(address) for host, address in circle.peers.items()}
            self._peers = {
                host: old
                if (old := self._peers.get(host)) and old.address == address
                else _Peer(address)
                for host, address in known.items()
            }
            self._mates = {h: p for h, p in self._peers.items() if h in circle.sharing}
            if self._began is None:
                self._began = self._clock()

    def exchange_loads(self, load: Load) -> dict[str, Load]:
        """Tell the others of this host's load, each second from now on; theirs.

        Who was not heard in the last three periods is dead and has none (D6).
        """
        self._load = load
        since = self._clock() - SILENCE
        peers = list(self._peers.items())
        return {host: p.load for host, p in peers if p.load and p.load_at >= since}

    def begin_anew(self) -> None:
        """A pool is shared from now on: what was said of it before has found no place here, and
        what was asked no answer.
        """
        with self._lock:
            self._is_anew = True
            for peer in self._peers.values():
                peer.is_known, peer.asked_at = False, float("-inf")

    def is_ready(self) -> bool:
        """Whether this host knows the connections of those that have answered since its start.

        One that has just come up should not be elected before.
        """
        if self._sharer is None or self._address is None:
            return True
        with self._lock:
            peers, began = list(self._mates.values()), self._began
        if began is None:
            return False
        waited = self._clock() - began
        if all(peer.is_known for peer in peers) or waited >= _LONGEST_WAIT:
            return True
        return waited >= _PATIENCE and all(p.is_known for p in peers if p.is_heard)

    def run(self, stopping: threading.Event) -> None:
        """Talk until ``stopping``."""
        if self._sharer is None:
            stopping.wait()
            return
        while not stopping.is_set():
            try:
                self._talk(stopping, self._sharer)
            except OSError as error:
                LOG.warning("east-west=failing: %s", error)
                stopping.wait(1.0)

    def _talk(self, stopping: threading.Event, sharer: Sharer) -> None:
        with closing(self._channel()) as channel:
            while not stopping.is_set():
                self._round(channel, sharer)

    def _channel(self) -> socket.socket:
        """Bound to this host's address; without one it sends to and hears from nobody."""
        is_ipv6 = self._address is not None and self._address.version == 6
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        channel = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            if self._address is not None:
                channel.bind((str(self._address), self._port))
        except OSError:
            channel.close()
            raise
        return channel

    def _round(self, channel: socket.socket, sharer: Sharer) -> None:
        is_busy = self._send_some(channel)
        news, signs = sharer.filenos()
        sources = [channel.fileno(), news, signs, self._witness.fileno()]
        ready, _, _ = select.select(sources, [], [], 0.01 if is_busy else 0.2)
        if channel.fileno() in ready:
            self._listen(channel, sharer)
        if news in ready or signs in ready:
            time.sleep(_GATHER)
            self._tell(channel, sharer.news())
            self._heed(channel, sharer)
        self._testify(channel)
        self._keep_up(channel, sharer)

    def _heed(self, channel: socket.socket, sharer: Sharer) -> None:
        """Guests may be made to reset whatever comes: that must not take all of a CPU."""
        began = self._clock()
        signs = list(sharer.signs())
        doubted = {UUID(bytes=sign.member) for sign in signs if sign.kind.is_doubtful}
        if doubted:
            self._doubted(doubted)
        ended = [sign for sign in signs if sign.kind.ends]
        self._conclude(ended, sharer)
        directors = self._circle.directors
        concerned = {host for s in ended for host in directors.get(s.pool, ())}
        for host in concerned & self._peers.keys():
            theirs = (s for s in ended if host in directors.get(s.pool, ()))
            for body in sign_bodies(theirs):
                self._send(channel, self._peers[host], Kind.ENDED, body)
        if len(signs) > _MANY_SIGNS:
            time.sleep(self._clock() - began)

    def _conclude(self, ended: Collection[Sign], sharer: Sharer) -> None:
        try:
            with self._lock:
                sharer.conclude(ended)
        except EngineError as error:
            LOG.warning("east-west=failing: %s", error.detail)

    def _listen(self, channel: socket.socket, sharer: Sharer) -> None:
        for _ in range(1000):
            try:
                octets, source = channel.recvfrom(LONGEST + 1)
            except BlockingIOError:
                return
            try:
                message = unseal(octets, self._secrets)
                peer = self._peers.get(message.sender)
                if peer is None or peer.address != source[0]:
                    raise ValueError("nobody that it should hear of")
                window = peer.passing if message.kind.is_passing else peer.window
                if window.accepts(message.incarnation, message.sequence):
                    self._hear(message, peer, sharer)
            except ValueError as error:
                LOG.debug("east-west=ignored source=%s: %s", source[0], error)

    def _hear(self, message: Message, peer: _Peer, sharer: Sharer) -> None:
        peer.is_heard, peer.heard_at = True, self._clock()
        if peer.window.missed():
            peer.misses, peer.is_told = True, False
        if message.kind is Kind.FLOWS:
            self._adopt(message, sharer)
        elif message.kind is Kind.WANT and not peer.is_told:
            peer.is_told = True
            everything = self._of(message.sender, sharer.all(float("inf")))
            peer.outgoing = _in_bodies(everything, Kind.DONE)
        elif message.kind is Kind.ENDED:
            homes = self._circle.homes
            told = [s for s in signs_of(message.body) if homes.get(s.member) == message.sender]
            self._conclude(told, sharer)
        elif message.kind is Kind.LOAD:
            peer.load, peer.load_at = load_of(message.body), self._clock()
        elif message.kind is Kind.HEALTH:
            self._heard(message.sender, runs(message.body))
        elif message.kind is Kind.DONE:
            peer.is_known = True

    def _adopt(self, message: Message, sharer: Sharer) -> None:
        """What a director says of pools that it does not direct is not for it to say."""
        pools = self._circle.pools
        told = [e for e in entries(message.body) if message.sender in pools.get(e.pool, ())]
        try:
            with self._lock:
                sharer.adopt(told)
        except EngineError as error:
            LOG.warning("east-west=failing: %s", error.detail)

    def _tell(self, channel: socket.socket, news: Iterable[FlowEntry]) -> None:
        told = list(news)
        for host, peer in self._mates.items():
            for body in bodies(self._of(host, told)):
                self._send(channel, peer, Kind.FLOWS, body)

    def _testify(self, channel: socket.socket) -> None:
        """Tell directors elsewhere of guests here."""
        for host, told in self._witness.due().items():
            if peer := self._peers.get(host):
                for body in run_bodies(told):
                    self._send(channel, peer, Kind.HEALTH, body)

    def _of(self, host: str, told: Iterable[FlowEntry]) -> Iterator[FlowEntry]:
        """The connections of pools that another host directs, too."""
        pools = self._circle.pools
        return (entry for entry in told if host in pools.get(entry.pool, ()))

    def _send_some(self, channel: socket.socket) -> bool:
        """Go on with what is long; whether there is more."""
        is_busy = False
        for peer in self._mates.values():
            some = list(islice(peer.outgoing, _PACE))
            for kind, body in some:
                self._send(channel, peer, kind, body)
                peer.is_told = peer.is_told and kind is not Kind.DONE
            is_busy = is_busy or len(some) == _PACE
        return is_busy

    def _keep_up(self, channel: socket.socket, sharer: Sharer) -> None:
        """Greet, ask for what is missing, and tell what is in use, each in its time."""
        now = self._clock()
        greets = now - self._greeted_at >= _GREETING
        with self._lock:  # those to whom everything is to be told anew are among these
            peers, is_anew, self._is_anew = self._mates, self._is_anew, False
        refreshes = is_anew or now - self._refreshed_at >= _REFRESH
        newer_than = float("inf") if is_anew else 1.5 * _REFRESH
        for host, peer in peers.items():
            if (peer.misses or not peer.is_known) and now - peer.asked_at >= _ASKING:
                peer.misses, peer.asked_at = False, now
                self._send(channel, peer, Kind.WANT)
            elif greets:
                self._send(channel, peer, Kind.HELLO)
            if greets and self._load:
                self._send(channel, peer, Kind.LOAD, load_body(self._load))
            if refreshes:
                used = self._of(host, sharer.all(newer_than))
                peer.outgoing = _one_after_the_other(peer.outgoing, _in_bodies(used))
        if greets:
            self._befriend(sharer, peers, now)
        self._greeted_at = now if greets else self._greeted_at
        self._refreshed_at = now if refreshes else self._refreshed_at

    def _befriend(self, sharer: Sharer, peers: dict[str, _Peer], now: float) -> None:
        """Of each router the next director that was heard gets what is not known here."""
        for router, mates in self._circle.mates.items():
            for mate in mates:
                peer = peers.get(mate.host)
                silent = now - peer.heard_at if peer else float("inf")
                if silent < _FRIENDSHIP:
                    all_ = [other.mac for other in mates]
                    sharer.befriend(router, mate.mac, all_, silent, _FRIENDSHIP - silent)
                    break

    def _send(self, channel: socket.socket, peer: _Peer, kind: Kind, body: bytes = b"") -> None:
        """What cannot be sent is a gap that its receiver will see."""
        key = self._circle.signing(self._clock() - self._taken_at)
        if key is None:
            return
        self._sent[peer.address, kind.is_passing] += 1
        sequence = self._sent[peer.address, kind.is_passing]
        message = Message(kind, self._host, self._incarnation, sequence, body)
        octets = seal(message, key.number, bytes.fromhex(key.secret))
        try:
            channel.sendto(octets, (peer.address, self._port))
        except OSError as error:
            LOG.debug("east-west=unsent peer=%s: %s", peer.address, error)


def _in_bodies(
    told: Iterable[FlowEntry], last: Kind | None = None
) -> Iterator[tuple[Kind, bytes]]:
    for body in bodies(told):
        yield Kind.FLOWS, body
    if last:
        yield last, b""


def _one_after_the_other(
    first: Iterator[tuple[Kind, bytes]], second: Iterator[tuple[Kind, bytes]]
) -> Iterator[tuple[Kind, bytes]]:
    yield from first
    yield from second
