# SPDX-License-Identifier: Apache-2.0
"""From answers and misses of probes to the health of a member, and when it is probed next; pure.

A guest is probed by its own host, which tells the pool's directors, and by these along the path of
the traffic. A director that hears from the host probes less often, but never so seldom that a
member whose path is broken stays in longer than one that is probed in every interval:

* in every interval: it dies after an answer, and the first probe that it misses comes ``interval``
  later, the last one ``fall`` intervals. It is out at ``fall x interval + timeout``.
* with a pause P: the first one comes P later, and at half of an interval without an answer
  the next ones follow each other twice as fast. The last one of ``fall`` is sent at
  ``P + (fall - 1) x interval / 2``, which is no later while P is ``(fall + 1) / 2`` intervals.
"""

from dataclasses import dataclass, replace

from cloudlb.model.pool import Health, Monitor

_DOUBT = 0.5
_LONGEST_PAUSE = 5
_FRESH = 3


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """A member's health and the run of answers or misses that speaks against it."""

    health: Health = Health.UNKNOWN
    hits: int = 0
    misses: int = 0

    def after(self, answered: bool, monitor: Monitor, witnessed: int = 0) -> "ProbeRecord":
        """The record after one more probe (L13).

        ``fall`` misses in a row make a member offline, ``rise`` answers bring it back; one that
        was never judged is online at its first answer. Another answer of one that answers
        changes nothing: the same record is returned. ``witnessed`` are the misses that the
        member's host has seen since the last answer: see `confirmed`.
        """
        if answered and self.health is Health.ONLINE and self.hits >= monitor.rise:
            return self
        hits = self.hits + 1 if answered else 0
        misses = 0 if answered else self.misses + 1
        health = self.health
        if not answered and misses >= monitor.fall:
            health = Health.OFFLINE
        elif answered and (health is Health.UNKNOWN or hits >= monitor.rise):
            health = Health.ONLINE
        new = replace(self, health=health, hits=hits, misses=misses)
        return new if answered else new.confirmed(monitor, witnessed)

    def confirmed(self, monitor: Monitor, witnessed: int) -> "ProbeRecord":
        """The record when its host has seen so many misses since the last answer.

        ``fall`` of these and one on the path of the traffic make it offline: two have found it.
        """
        if not self.misses or witnessed < monitor.fall or self.health is Health.OFFLINE:
            return self
        return replace(self, health=Health.OFFLINE)


@dataclass(frozen=True, slots=True)
class Word:
    """What a member's host says of its own probes, to one that probes the member, too.

    ``misses`` in a row, of which ``before`` were known when the member last answered the listener.
    """

    misses: int = 0
    before: int = 0

    def heard(self, misses: int) -> "Word":
        """After another word."""
        return Word(misses, min(self.before, misses))

    def contradicted(self) -> "Word":
        """After an answer to the listener: the host's misses so far speak of something else."""
        return replace(self, before=self.misses)

    @property
    def witnessed(self) -> int:
        """The misses since the last answer."""
        return self.misses - self.before


@dataclass(frozen=True, slots=True)
class Paces:
    """Seconds until the next probe. ``usual``: of any member.

    ``calm``: of one that answers, if a fresh word of its host says the same. ``doubted``: of one
    that was probed at that pace and does not answer now, or not its host. ``fresh``: for so many
    seconds a host's word is good.
    """

    usual: float
    calm: float
    doubted: float
    fresh: float


def paces(monitor: Monitor) -> Paces:
    """As a monitor asks for it."""
    interval = monitor.interval
    calm = max(1.0, min(_LONGEST_PAUSE, (monitor.fall + 1) * _DOUBT))
    return Paces(interval, calm * interval, _DOUBT * interval, _FRESH * interval)


def is_expected(codes: str, status: int) -> bool:
    """Whether a status is among ``codes``, as ``200``, ``200,202`` or ``200-204``."""
    for part in codes.split(","):
        first, _, last = part.partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False
