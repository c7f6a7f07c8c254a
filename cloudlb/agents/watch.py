# SPDX-License-Identifier: Apache-2.0
"""A member under probes: where it is asked, what is known of it, and when it is asked next."""

from collections.abc import Callable
from typing import NamedTuple

from cloudlb.agents.target import Target
from cloudlb.model.health import ProbeRecord, Word, paces
from cloudlb.model.pool import Health, MonitorType
from cloudlb.net import frame

_NEWS = 3  # misses in a row for the same reason


class Outcome(NamedTuple):
    """How a probe has ended."""

    answered: bool
    reason: str


ANSWERS = Outcome(True, "answers")
Question = Callable[[int, int], bytes]
"""Makes the one frame of a simple probe of a token and our port."""


class Watch:
    """What a prober keeps of one member. ``turn`` tells its latest entry in the agenda.

    ``is_regular`` once its place in the interval is chosen, ``is_settled`` while another answer
    changes nothing, and its host says nothing else. ``reason`` is the one that was told,
    ``latest`` that of the last miss, and ``repeats`` the misses in a row that had it.
    ``refused_at``: when a datagram was sent that the member's kernel has refused.

    ``miss`` is the last one, ``word`` what its host has said at ``heard_at``, ``asked_at`` the
    time of the last probe. ``is_rare``: the pause after it is longer than an interval,
    ``is_seldom``: that or the pause before it. ``is_doubted``, ``paces``: see
    `cloudlb.model.health`. ``is_hurried`` while clients' complaints are looked into.
    """

    __slots__ = (
        "asked_at",
        "datagram",
        "echo",
        "heard_at",
        "is_doubted",
        "is_hurried",
        "is_over",
        "is_rare",
        "is_regular",
        "is_seldom",
        "is_settled",
        "latest",
        "mac",
        "miss",
        "paces",
        "question",
        "reason",
        "record",
        "refused_at",
        "repeats",
        "target",
        "turn",
        "word",
    )

    def __init__(self, target: Target, record: ProbeRecord) -> None:
        self.record, self.turn, self.is_over = record, 0, False
        self.is_regular = self.is_settled = self.is_doubted = self.is_hurried = False
        self.is_rare = self.is_seldom = False
        self.word, self.heard_at = Word(), float("-inf")
        self.asked_at = self.refused_at = float("-inf")
        self.reason, self.latest, self.repeats = "", "", 0
        self.miss = Outcome(False, "")
        self.target = target
        self.aim(target)

    def aim(self, target: Target) -> None:
        """Ask there from now on. What a host has said is past when the member is elsewhere."""
        if self.target.home != target.home:
            self.word, self.heard_at = Word(), float("-inf")
        self.paces = paces(target.monitor)
        self.target, self.mac, self.is_settled = target, target.member_mac.packed, False
        self.question, self.datagram, self.echo = _question(target), None, None
        if target.monitor.type is MonitorType.UDP and target.source is not None:
            payload = bytes.fromhex(target.monitor.payload or "")
            self.datagram = frame.Datagram(target.path, target.port, payload)
            self.echo = frame.Echo(target.echo_path) if target.monitor.accept_silence else None

    def is_heard(self, now: float) -> bool:
        """Whether the word of its host still says something."""
        return now - self.heard_at <= self.paces.fresh

    def witnessed(self, now: float) -> int:
        """The misses that its host has seen since the last answer."""
        return self.word.witnessed if self.is_heard(now) else 0

    def pause(self, now: float) -> float:
        """Seconds until the next probe, if one is sent now."""
        if self.is_doubted:
            return self.paces.doubted
        if self.is_settled and now - self.heard_at <= self.paces.fresh:
            return self.paces.calm
        return self.paces.usual

    def told_by(self, outcome: Outcome, now: float) -> Outcome:
        """A miss, with what its host says of it."""
        if outcome.answered or not self.is_heard(now):
            return outcome
        more = "its host finds the same" if self.word.misses else "its host gets answers"
        return Outcome(False, f"{outcome.reason}; {more}")

    def silence(self) -> Outcome:
        """What it means that nothing was heard in time."""
        target = self.target
        if target.source is None:
            return Outcome(False, f"cannot be probed: {target.obstacle}")
        monitor = target.monitor
        times = f"{monitor.fall} times in a row"
        return Outcome(False, f"no answer within {monitor.timeout:g} s, {times}")

    def has_another_reason(self, outcome: Outcome) -> bool:
        """Whether a dead member fails for another reason than was told, and not by turns."""
        if outcome.answered:
            self.latest = ""
        if self.record.health is not Health.OFFLINE or outcome.answered:
            return False
        self.repeats = self.repeats + 1 if outcome.reason == self.latest else 1
        self.latest = outcome.reason
        return outcome.reason != self.reason and self.repeats >= _NEWS


def _question(target: Target) -> Question | None:
    """None for a target that takes more than one frame, or none."""
    if target.source is None:
        return None
    if target.monitor.type is MonitorType.TCP:
        return frame.Syn(target.path, target.port).frame
    if target.monitor.type is MonitorType.ICMP:
        return frame.Echo(target.path).frame
    return None
