# SPDX-License-Identifier: Apache-2.0
"""Probes of members, sent by their directors along the path of the traffic.

A probe's frame has the pool's address as destination and the member's Ethernet address, like any
packet that the director forwards: it is answered only when that path works (L13, A16).
"""

import heapq
import itertools
import logging
import secrets
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from cloudlb.model.ether import Mac
from cloudlb.model.health import ProbeRecord
from cloudlb.model.network import Address
from cloudlb.model.pool import Health, Monitor, MonitorType
from cloudlb.net import frame
from cloudlb.net.frame import Answer, Path, Reply
from cloudlb.net.packet import ProbeSocket, reserve_port

LOG = logging.getLogger(__name__)
_LONGEST_WAIT = 0.1  # new targets are noticed by then


@dataclass(frozen=True, slots=True)
class Target:
    """A member to probe. ``source`` None: the director has no address of the family."""

    member_id: UUID
    pool_id: UUID
    monitor: Monitor
    port: int
    interface: str
    interface_mac: Mac
    member_mac: Mac
    source: Address | None
    address: Address

    @property
    def path(self) -> Path:
        """The way of this target's frames."""
        assert self.source is not None  # noqa: S101  (targets without are not probed)
        return Path(self.interface_mac, self.member_mac, self.source, self.address)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A change of a member's health."""

    member_id: UUID
    pool_id: UUID
    health: Health
    reason: str


class Prober:
    """Probes targets at their intervals; ``changed`` hears each change of health.

    One thread sends, receives and judges. ``draw`` gives the tokens. ``suspects`` are members
    that an earlier process had found dead, or closed: they must answer before they are online.
    """

    def __init__(
        self,
        changed: Callable[[Verdict], None],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[int], int] = secrets.randbits,
        suspects: frozenset[UUID] = frozenset(),
    ) -> None:
        self._changed, self._clock, self._draw = changed, clock, draw
        self._lock = threading.Lock()
        self._counter = itertools.count()
        self._targets: dict[UUID, Target] = {}
        self._records: dict[UUID, ProbeRecord] = {}
        self._suspects = suspects
        self._agenda: list[tuple[float, int, UUID]] = []
        self._turns: dict[UUID, int] = {}
        self._waiting: dict[int, tuple[UUID, float]] = {}
        self._sockets: dict[str, ProbeSocket] = {}
        self._selector = selectors.DefaultSelector()
        self._port_holder = reserve_port()
        self._port = int(self._port_holder.getsockname()[1])

    def set_targets(self, targets: Mapping[UUID, Target]) -> None:
        """Probe exactly these members; those that stay keep their records."""
        with self._lock:
            for member_id, target in targets.items():
                known = self._targets.get(member_id)
                if known is None or known.monitor != target.monitor:
                    self._schedule(self._clock(), member_id)
                if member_id in self._suspects and known is None:
                    self._records[member_id] = ProbeRecord(Health.OFFLINE)
            self._targets = dict(targets)
            self._turns = {m: t for m, t in self._turns.items() if m in targets}
            self._records = {m: r for m, r in self._records.items() if m in targets}

    def down(self) -> frozenset[UUID]:
        """The members that probes of this process have found offline."""
        with self._lock:
            dead = {m for m, r in self._records.items() if r.health is Health.OFFLINE}
            return frozenset(dead - self._suspects)

    def suspects(self) -> frozenset[UUID]:
        """The members that shall get nothing new until they have answered."""
        with self._lock:
            return self._suspects

    def run(self, stopping: threading.Event) -> None:
        """Probe until ``stopping``."""
        while not stopping.is_set():
            for verdict in self._judge(self._exchange()):
                LOG.info(
                    "member=%s health=%s reason=%r",
                    verdict.member_id,
                    verdict.health,
                    verdict.reason,
                )
                self._changed(verdict)
        for probe_socket in self._sockets.values():
            probe_socket.close()
        self._port_holder.close()

    def _exchange(self) -> list[Reply]:
        """Send what is due and wait for answers, until the next probe or time-out is due."""
        with self._lock:
            self._send_due()
            wait = self._until_next()
        if not self._selector.get_map():
            time.sleep(wait)
            return []
        replies: list[Reply] = []
        for key, _ in self._selector.select(wait):
            probe_socket = self._sockets[key.data]
            try:
                frames = probe_socket.receive()
            except OSError as error:
                self._drop_socket(key.data, error)
                continue
            for received in frames:
                if reply := frame.parse_reply(received):
                    replies.append(reply)
                    _hang_up(probe_socket, received, reply)
        return replies

    def _until_next(self) -> float:
        now = self._clock()
        moments = [deadline for _, deadline in self._waiting.values()]
        if self._agenda:
            moments.append(self._agenda[0][0])
        return max(0.0, min([m - now for m in moments] + [_LONGEST_WAIT]))

    def _send_due(self) -> None:
        now = self._clock()
        while self._agenda and self._agenda[0][0] <= now:
            due, turn, member_id = heapq.heappop(self._agenda)
            target = self._targets.get(member_id)
            if target is None or self._turns.get(member_id) != turn:
                continue
            due += target.monitor.interval
            self._schedule(due if due > now else now + target.monitor.interval, member_id)
            token = self._draw(32)
            self._waiting[token] = member_id, now + target.monitor.timeout
            try:
                self._send(target, token)
            except OSError as error:
                self._drop_socket(target.interface, error)

    def _schedule(self, due: float, member_id: UUID) -> None:
        """Probe a member next at ``due``, and at no time that was planned before."""
        self._turns[member_id] = turn = next(self._counter)
        heapq.heappush(self._agenda, (due, turn, member_id))

    def _send(self, target: Target, token: int) -> None:
        if target.source is None:
            return
        channel = self._socket(target.interface)
        if target.monitor.type is MonitorType.TCP:
            channel.send(frame.tcp_syn(target.path, self._port, target.port, token))
        else:
            channel.send(frame.echo_request(target.path, token))

    def _socket(self, interface: str) -> ProbeSocket:
        if interface not in self._sockets:
            opened = self._sockets[interface] = ProbeSocket(interface, self._port)
            self._selector.register(opened, selectors.EVENT_READ, interface)
        return self._sockets[interface]

    def _drop_socket(self, interface: str, error: OSError) -> None:
        """An interface that is down may come back as another one: then with another socket."""
        LOG.debug("interface=%s probe failed: %s", interface, error)
        if probe_socket := self._sockets.pop(interface, None):
            self._selector.unregister(probe_socket)
            probe_socket.close()

    def _judge(self, replies: list[Reply]) -> list[Verdict]:
        with self._lock:
            verdicts = [v for reply in replies if (v := self._answered(reply))]
            now = self._clock()
            late = [t for t, (_, deadline) in self._waiting.items() if deadline <= now]
            for token in late:
                member_id, _ = self._waiting.pop(token)
                target = self._targets.get(member_id)
                if target and (v := self._after(target, False, _silence(target))):
                    verdicts.append(v)
            return verdicts

    def _answered(self, reply: Reply) -> Verdict | None:
        member_id, _ = self._waiting.get(reply.token, (None, 0.0))
        target = self._targets.get(member_id) if member_id else None
        if target is None or reply.member_mac != target.member_mac:
            return None
        del self._waiting[reply.token]
        if reply.answer is Answer.REFUSED:
            return self._after(target, False, f"refuses connections to port {target.port}")
        return self._after(target, True, "answers")

    def _after(self, target: Target, answered: bool, reason: str) -> Verdict | None:
        old = self._records.get(target.member_id, ProbeRecord())
        new = self._records[target.member_id] = old.after(answered, target.monitor)
        is_clear = target.member_id not in self._suspects
        if new.health is Health.ONLINE or new.misses >= target.monitor.fall:
            self._suspects -= {target.member_id}
        if new.health is old.health and (is_clear or target.member_id in self._suspects):
            return None
        return Verdict(target.member_id, target.pool_id, new.health, reason)


def _hang_up(probe_socket: ProbeSocket, received: bytes, reply: Reply) -> None:
    """End the connection that was accepted, also for a probe that is long given up.

    Half-open connections would fill the member's backlog, and one that a member holds from
    before it hung is answered in place of every later probe from the same port.
    """
    if reply.answer is Answer.ACCEPTED:
        try:
            probe_socket.send(frame.reset_of(received))
        except OSError as error:
            LOG.debug("member_mac=%s reset failed: %s", reply.member_mac, error)


def _silence(target: Target) -> str:
    if target.source is None:
        return (
            f"cannot be probed: interface {target.interface} of the director has no IPv"
            f"{target.address.version} address"
        )
    return f"no answer within {target.monitor.timeout:g} s, {target.monitor.fall} times in a row"
