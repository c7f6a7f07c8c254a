# SPDX-License-Identifier: Apache-2.0
"""Facts on their way to the conductor: the newest of each kind waits, a failed report is kept."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from uuid import UUID

from cloudlb.model.errors import Unavailable
from cloudlb.model.host import Inventory
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import HealthReport, Realization, Report

LOG = logging.getLogger(__name__)
_GATHER = 0.005
_RETRY = 1.0


class Revisions:
    """Ever higher numbers, also across restarts while the clock does not run backwards."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now, self._last, self._lock = now, 0, threading.Lock()

    def next(self) -> int:
        """A number above all earlier ones; microseconds since the epoch, or one more."""
        with self._lock:
            self._last = max(self._now() // 1000, self._last + 1)
            return self._last


class Reporter:
    """Collects facts and sends them together; ``send(report)`` raises `Unavailable`.

    Without news it sends an empty report every ``interval`` seconds.
    """

    def __init__(
        self, send: Callable[[Report], None], revisions: Revisions, interval: float
    ) -> None:
        self._send, self._revisions, self._interval = send, revisions, interval
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._generation = 0
        self._realizations: dict[UUID, Realization] = {}
        self._health: dict[UUID, HealthReport] = {}
        self._inventory: Inventory | None = None
        self._sent: dict[UUID, Realization] = {}
        self._sent_health: dict[UUID, HealthReport] = {}
        self._sent_inventory: Inventory | None = None

    def set_generation(self, generation: int) -> None:
        """The snapshot that the agent works by from now on.

        A conductor that counts anew has heard nothing of what was sent.
        """
        with self._lock:
            if generation < self._generation:
                self._sent.clear()
            self._generation = generation

    def realized(self, realization: Realization) -> None:
        """A pool's state on this host; one that was reported already is no news.

        Unless another has been on its way since, which this one overtakes.
        """
        with self._lock:
            pool_id = realization.pool_id
            last = self._realizations.get(pool_id) or self._sent.get(pool_id)
            if last is None or replace(last, revision=realization.revision) != realization:
                revision = self._revisions.next()
                self._realizations[pool_id] = replace(realization, revision=revision)
                self._news.set()

    def health(self, member_id: UUID, health: Health, reason: str) -> None:
        """A member's health has changed."""
        with self._lock:
            revision = self._revisions.next()
            self._health[member_id] = HealthReport(member_id, health, reason, revision)
            self._news.set()

    def inventory(self, inventory: Inventory) -> None:
        """What the host has; the same as was reported last is no news."""
        with self._lock:
            last = self._inventory or self._sent_inventory
            if last is None or not _same(last, inventory):
                self._inventory = inventory
                self._news.set()

    def watch(self, members: Collection[UUID]) -> None:
        """The members whose health this host tells; what it said of others is past."""
        with self._lock:
            self._health = {m: word for m, word in self._health.items() if m in members}
            self._sent_health = {m: w for m, w in self._sent_health.items() if m in members}

    def repeat(self) -> None:
        """Tell all again that is true for long, for its receiver may have lost it.

        The inventory, when it is taken next, and members' health. They are new words: another
        director's may have come in between.
        """
        with self._lock:
            self._sent_inventory = None
            for member_id, word in self._sent_health.items():
                again = replace(word, revision=self._revisions.next())
                self._health.setdefault(member_id, again)
            if self._health:
                self._news.set()

    def run(self, stopping: threading.Event) -> None:
        """Report until ``stopping``."""
        while not stopping.is_set():
            if self._news.wait(self._interval):
                stopping.wait(_GATHER)
            if not self._report() and not stopping.is_set():
                stopping.wait(_RETRY)

    def _report(self) -> bool:
        with self._lock:
            self._news.clear()
            report = Report(
                generation=self._generation,
                realizations=tuple(self._realizations.values()),
                inventory=self._inventory,
                health=tuple(self._health.values()),
            )
        try:
            self._send(report)
        except Unavailable as error:
            LOG.debug("report kept: %s", error.detail)
            self._news.set()
            return False
        self._delivered(report)
        return True

    def _delivered(self, report: Report) -> None:
        """What has not changed since it was sent is no news any more."""
        with self._lock:
            for realization in report.realizations:
                self._sent[realization.pool_id] = realization
                if self._realizations.get(realization.pool_id) == realization:
                    del self._realizations[realization.pool_id]
            for health in report.health:
                self._sent_health[health.member_id] = health
                if self._health.get(health.member_id) == health:
                    del self._health[health.member_id]
            if report.inventory is not None:
                self._sent_inventory = report.inventory
                if self._inventory is report.inventory:
                    self._inventory = None


def _same(a: Inventory, b: Inventory) -> bool:
    return replace(a, revision=b.revision) == b
