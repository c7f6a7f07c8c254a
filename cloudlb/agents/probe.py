# SPDX-License-Identifier: Apache-2.0
"""Probes of members, sent by their directors along the path of the traffic, and by their hosts.

A probe's frame has the pool's address as destination and the member's Ethernet address, like any
packet that the director forwards: it is answered only when that path works (L13, A16). Members
that do not hold the pool's address are asked at their own for what is no service of the pool.

The host of a guest sends the same probes, and tells the directors what it finds. These ask such
members less often then: see `cloudlb.model.health`.
"""

import itertools
import logging
import os
import random
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from uuid import UUID

from cloudlb.agents.agenda import Deadlines
from cloudlb.agents.attempt import Attempt, DatagramAttempt
from cloudlb.agents.rounds import Rounds
from cloudlb.agents.target import Target, Verdict
from cloudlb.agents.watch import ANSWERS, Outcome, Watch
from cloudlb.agents.web import WebAttempt
from cloudlb.agents.wires import Wires
from cloudlb.agents.witness import Witness
from cloudlb.model.eastwest import Run
from cloudlb.model.health import ProbeRecord
from cloudlb.model.pool import Health, MonitorType
from cloudlb.net import frame
from cloudlb.net.answer import (
    ACK,
    RST,
    SYN,
    Answer,
    Echoed,
    End,
    Segment,
    parse,
)
from cloudlb.net.packet import PORTS, ReservedPorts

LOG = logging.getLogger(__name__)
_LONGEST_WAIT = 0.1  # new targets are noticed by then
_SHORTEST_TURN = 0.02  # what is due meanwhile is sent together, what arrives is read together
_MOST_AT_ONCE = 256  # thousands of new targets must not fill the queues of the way


class Prober:
    """Probes targets at their intervals; ``changed`` hears each change of a directed one's health.

    ``witness`` hears what targets with listeners do.

    One thread sends, receives and judges. ``draw`` gives the tokens, ``spread`` the share of the
    first interval after which a member is asked again: so probes are even over the interval.
    ``suspects`` are members that an earlier process had found dead, or closed: they must answer
    before they are online.
    """

    def __init__(
        self,
        changed: Callable[[Verdict], None],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], int] | None = None,
        suspects: frozenset[UUID] = frozenset(),
        spread: Callable[[], float] = random.random,
        witness: Witness | None = None,
    ) -> None:
        self._changed, self._clock = changed, clock
        self._draw = draw or _tokens().__next__
        self._lock = threading.Lock()
        self._watched: dict[UUID, Watch] = {}
        self._by_octets: dict[bytes, Watch] = {}
        self._suspects = suspects
        self._witness = witness
        self._heard: list[Verdict] = []
        self._rounds, self._deadlines, self._resends = Rounds(spread), Deadlines(), Deadlines()
        self._waiting: dict[int, Watch] = {}
        self._attempts: dict[int, Attempt] = {}
        self._ends: dict[End, int] = {}
        self._ports = ReservedPorts()
        self._turns = itertools.cycle(range(self._ports.first, self._ports.first + PORTS))
        self._wires = Wires(self._ports.first)

    def set_targets(self, targets: Mapping[UUID, Target]) -> None:
        """Probe exactly these members; those that stay keep their records."""
        with self._lock:
            for member_id in self._watched.keys() - targets.keys():
                self._rounds.leave(self._watched.pop(member_id))
            for member_id, target in targets.items():
                watch = self._watched.get(member_id)
                if watch is None:
                    self._watched[member_id] = self._new(target)
                elif watch.target != target:
                    self._change(watch, target)
            self._by_octets = {m.bytes: w for m, w in self._watched.items() if w.target.home}
        if self._witness:
            self._witness.follow({m: t for m, t in targets.items() if t.listeners})

    def hear(self, host: str, told: Iterable[Run]) -> None:
        """Take what a host says of members; only that of its own guests counts."""
        with self._lock:
            now = self._clock()
            for member, misses in told:
                watch = self._by_octets.get(member)
                if watch is not None and watch.target.home == host:
                    watch.heard_at = now
                    if misses or watch.word.misses:
                        self._take_word(watch, misses, now)

    def hurry(self, members: Collection[UUID]) -> None:
        """Probe members at once that refuse clients or do not answer them, and soon again after a
        miss: one which is dead is known to be after as many misses as ever, in less time.
        """
        with self._lock:
            for member_id in members:
                if watch := self._watched.get(member_id):
                    self._rounds.hurry(watch, self._clock())

    def _take_word(self, watch: Watch, misses: int, now: float) -> None:
        watch.word = watch.word.heard(misses)
        if not misses:
            return
        watch.is_settled = False  # its next answer speaks against the host's word
        if watch.is_rare:
            self._rounds.doubt(watch, now)
        new = watch.record.confirmed(watch.target.monitor, watch.witnessed(now))
        if new is not watch.record and (
            verdict := self._judge(watch, new, watch.told_by(watch.miss, now))
        ):
            self._heard.append(verdict)

    def _new(self, target: Target) -> Watch:
        is_suspect = target.member_id in self._suspects
        watch = Watch(target, ProbeRecord(Health.OFFLINE) if is_suspect else ProbeRecord())
        self._rounds.begin(watch, self._clock())
        return watch

    def _change(self, watch: Watch, target: Target) -> None:
        is_other = watch.target.monitor != target.monitor
        is_told = bool(watch.target.listeners)
        watch.aim(target)
        if not is_told and (watch.record.hits or watch.record.misses):
            self._tell(watch)
        again = self._rounds.begin if is_other else self._rounds.hasten
        again(watch, self._clock())

    def health(self) -> dict[UUID, Health]:
        """What probes have found of each member so far."""
        with self._lock:
            return {m: w.record.health for m, w in self._watched.items() if w.target.is_directed}

    def down(self) -> frozenset[UUID]:
        """The members that probes of this process have found offline."""
        with self._lock:
            watched = [(m, w) for m, w in self._watched.items() if w.target.is_directed]
            dead = {m for m, w in watched if w.record.health is Health.OFFLINE}
            return frozenset(dead - self._suspects)

    def suspects(self) -> frozenset[UUID]:
        """The members that shall get nothing new until they have answered."""
        with self._lock:
            return self._suspects

    def run(self, stopping: threading.Event) -> None:
        """Probe until ``stopping``."""
        while not stopping.is_set():
            began = time.monotonic()
            for verdict in self._turn():
                LOG.info(
                    "member=%s health=%s reason=%r",
                    verdict.member_id,
                    verdict.health,
                    verdict.reason,
                )
                self._changed(verdict)
            time.sleep(max(0.0, began + _SHORTEST_TURN - time.monotonic()))
        self.close()

    def close(self) -> None:
        """Give back what the kernel has lent, and end the conversations."""
        with self._lock:
            for token, attempt in self._attempts.items():
                self._wires.send(self._waiting[token].target.interface, attempt.close())
            self._wires.flush()
        self._wires.close()
        self._ports.close()

    def _turn(self) -> list[Verdict]:
        """Send what is due, wait for answers until the next probe or time-out is due, judge."""
        with self._lock:
            self._rounds.look_for_doubts(self._clock(), self._waiting)
            self._send_due()
            self._resend()
            self._wires.flush()
            wait = self._until_next()
        received = self._wires.receive(wait)
        with self._lock:
            verdicts, self._heard = self._heard, []
            verdicts += [v for one in received if (v := self._hear(*one))]
            verdicts += self._judge_late()
            self._wires.flush()
        return verdicts

    def _until_next(self) -> float:
        moment = min(self._rounds.next(), self._deadlines.next(), self._resends.next())
        return min(max(0.0, moment - self._clock()), _LONGEST_WAIT)

    def _send_due(self) -> None:
        now = self._clock()
        for watch in self._rounds.take(now, _MOST_AT_ONCE):
            self._ask(watch, now)

    def _ask(self, watch: Watch, now: float) -> None:
        target, token = watch.target, self._draw()
        self._waiting[token] = watch
        self._rounds.asked(token, watch, now)
        self._deadlines.add(token, now, target.monitor.timeout)
        if watch.question:
            self._wires.send(target.interface, (watch.question(token, next(self._turns)),))
        elif target.source is not None:
            self._attempt(watch, token, now)

    def _attempt(self, watch: Watch, token: int, now: float) -> None:
        """Begin, from a port from which that very end is not asked just now by another pool.

        Without one this round says nothing of the member.
        """
        for own_port in itertools.islice(self._turns, PORTS):
            attempt = _attempt(watch, own_port, token, now)
            if attempt.end not in self._ends:
                self._attempts[token] = attempt
                self._ends[attempt.end] = token
                self._wires.send(watch.target.interface, attempt.start())
                self._be_patient(token, attempt, now)
                return
        del self._waiting[token]

    def _be_patient(self, token: int, attempt: Attempt, now: float) -> None:
        if attempt.patience:
            self._resends.add(token, now, attempt.patience)
            attempt.patience *= 2

    def _resend(self) -> None:
        now = self._clock()
        for token in self._resends.take(now):
            if attempt := self._attempts.get(token):
                self._wires.send(self._waiting[token].target.interface, attempt.resend())
                self._be_patient(token, attempt, now)

    def _hear(self, interface: str, received: bytes) -> Verdict | None:
        answer = parse(received)
        if answer is None or self._is_usual(answer):
            return None
        token = answer.token if isinstance(answer, Echoed) else self._ends.get(answer.end)
        if token in self._attempts:
            return self._go_on(token, interface, answer)
        if isinstance(answer, Echoed):
            return self._conclude(answer.token, answer.mac, ANSWERS)
        if isinstance(answer, Segment):
            return self._hear_segment(interface, received, answer)
        return None

    def _is_usual(self, answer: Answer) -> bool:
        """Take an echo of a member that goes on answering, in a short way since it changes
        nothing: there are thousands of these in each second.
        """
        if not isinstance(answer, Echoed) or self._suspects:
            return False
        watch = self._waiting.get(answer.token)
        if not watch or not watch.is_settled or watch.mac != answer.mac or watch.is_over:
            return False
        if answer.token in self._attempts:
            return False
        del self._waiting[answer.token]
        return True

    def _hear_segment(self, interface: str, received: bytes, segment: Segment) -> Verdict | None:
        """End the connection, also for a probe that is long given up.

        Half-open connections would fill the member's backlog, and one that a member holds from
        before it hung is answered in place of every later probe from the same port.
        """
        if segment.flags & (ACK | RST) == ACK:
            self._wires.send(interface, [frame.reset_of(received)])
        mac, token = segment.end.mac, (segment.ack - 1) & 0xFFFFFFFF
        if segment.flags & RST:
            reason = f"refuses connections to port {segment.end.port}"
            return self._conclude(token, mac, Outcome(False, reason))
        if segment.flags & (SYN | ACK) == SYN | ACK:
            return self._conclude(token, mac, ANSWERS)
        return None

    def _go_on(self, token: int, interface: str, answer: Answer) -> Verdict | None:
        attempt = self._attempts[token]
        self._wires.send(interface, attempt.take(answer))
        if attempt.outcome is None:
            return None
        self._wires.send(interface, attempt.close())
        return self._conclude(token, attempt.end.mac, attempt.outcome)

    def _conclude(self, token: int, mac: bytes, outcome: Outcome) -> Verdict | None:
        """A probe has ended, if ``mac`` is the one that was asked."""
        watch = self._waiting.get(token)
        if watch is None or watch.is_over or watch.mac != mac:
            return None
        self._forget(token)
        return self._after(watch, outcome)

    def _forget(self, token: int) -> Attempt | None:
        del self._waiting[token]
        attempt = self._attempts.pop(token, None)
        if attempt:
            del self._ends[attempt.end]
        return attempt

    def _judge_late(self) -> list[Verdict]:
        verdicts = []
        for token in self._deadlines.take(self._clock()):
            watch = self._waiting.get(token)
            if watch is None:
                continue
            outcome = self._late(watch, self._forget(token))
            if not watch.is_over and (verdict := self._after(watch, outcome)):
                verdicts.append(verdict)
        return verdicts

    def _late(self, watch: Watch, attempt: Attempt | None) -> Outcome:
        if attempt is None:
            return watch.silence()
        self._wires.send(watch.target.interface, attempt.close())
        return attempt.late() or watch.silence()

    def _after(self, watch: Watch, outcome: Outcome) -> Verdict | None:
        old, now = watch.record, self._clock()
        new = old.after(outcome.answered, watch.target.monitor, watch.witnessed(now))
        told = outcome if watch.is_hurried else watch.told_by(outcome, now)
        self._rounds.look_again(watch, new, now)
        if outcome.answered:
            watch.is_doubted = False
            if watch.word.misses:
                watch.word = watch.word.contradicted()
        else:
            watch.miss = outcome
        if new is old and not self._suspects:
            watch.is_settled = not watch.word.misses
            return None
        verdict = self._judge(watch, new, told)
        if new.misses or new.hits == 1:
            self._tell(watch)
        return verdict

    def _judge(self, watch: Watch, new: ProbeRecord, outcome: Outcome) -> Verdict | None:
        """Take note of a record, and say what is new about it."""
        target, old = watch.target, watch.record
        watch.record, watch.is_settled = new, False
        is_found_dead = new.health is Health.OFFLINE and self._is_certain(watch)
        watch.is_doubted = watch.is_doubted and not is_found_dead
        is_clear = target.member_id not in self._suspects
        if new.health is Health.ONLINE or is_found_dead:
            self._suspects -= {target.member_id}
        is_same = new.health is old.health and (is_clear or target.member_id in self._suspects)
        if is_same and not watch.has_another_reason(outcome):
            return None
        watch.reason = outcome.reason
        if not target.is_directed:
            return None
        return Verdict(target.member_id, target.pool_id, new.health, outcome.reason)

    def _is_certain(self, watch: Watch) -> bool:
        """Whether a dead member has missed enough by this process."""
        misses, fall = watch.record.misses, watch.target.monitor.fall
        return misses >= fall or (misses > 0 and watch.witnessed(self._clock()) >= fall)

    def _tell(self, watch: Watch) -> None:
        if self._witness and watch.target.listeners:
            self._witness.note(watch.target, watch.record.misses)


def _tokens() -> Iterator[int]:
    """Numbers of 32 bits that no member can guess; asking the kernel for each costs too much."""
    while True:
        yield from array("I", os.urandom(4096))


def _attempt(watch: Watch, own_port: int, token: int, now: float) -> Attempt:
    if watch.target.monitor.type is MonitorType.UDP:
        return DatagramAttempt(watch, own_port, token, now)
    return WebAttempt(watch.target, own_port, token)
