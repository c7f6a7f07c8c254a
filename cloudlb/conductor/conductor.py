# SPDX-License-Identifier: Apache-2.0
"""What agents ask of the control plane and tell it.

Every call is one transaction, may be lost, doubled or late, and says the whole truth about its
subject, so nothing is remembered between calls.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from cloudlb.db import desired, facts, hosts, inventory, keys, locks, removal
from cloudlb.db.records import RealizationRecord
from cloudlb.db.session import Session, Sessions
from cloudlb.model.errors import CloudlbError
from cloudlb.model.snapshot import Report, Snapshot

LOG = logging.getLogger(__name__)

Bell = Callable[[Mapping[str, int]], None]


class Conductor:
    """Serves agents from the database.

    ``bell`` rings the doorbells of hosts, by host name and generation, after a commit; it is
    expected to return at once. ``clock`` gives seconds since the epoch.
    """

    def __init__(
        self,
        sessions: Sessions,
        bell: Bell,
        clock: Callable[[], float] = time.time,
        host_down_time: float = 30.0,
        key_lifetime: float = 86400.0,
    ) -> None:
        self._sessions = sessions
        self._bell = bell
        self._clock = clock
        self._host_down_time = host_down_time
        self._key_lifetime = key_lifetime
        self._began = clock()

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        """The snapshot of ``host``, or None when ``have_generation`` is the current one."""
        now = self._clock()

        def greet(session: Session) -> int:
            known = hosts.lock(session, [host])
            return hosts.meet(session, known, host, have_generation, now).generation

        current = self._sessions.write(greet)
        if current == have_generation:
            return None
        with self._sessions.read() as session:
            return desired.snapshot(session, host, now)

    def report(self, host: str, report: Report) -> None:
        """Store what an agent tells, and ring the doorbells of the hosts that it concerns."""
        now = self._clock()
        self._ring(self._sessions.write(lambda session: self._store(session, host, report, now)))

    def sweep(self) -> None:
        """Finish the deletions that only wait for silent hosts."""
        now = self._clock()
        is_silent = self._silent(now)
        with self._sessions.read() as session:
            ripe = removal.ripe(session, is_silent, now)

        def work(session: Session) -> desired.Bell:
            held = locks.take(session, (), ripe)
            told = removal.settle(session, held, ripe, (), is_silent, now)
            return desired.raise_hosts(session, held.hosts(told))

        if ripe:
            self._ring(self._sessions.write(work))

    def renew_keys(self) -> None:
        """Give agents another key for their messages to each other, when it is time to."""
        now = self._clock()
        with self._sessions.read() as session:
            if not keys.is_due(session, now, self._key_lifetime):
                return

        def work(session: Session) -> desired.Bell:
            if not keys.is_due(session, now, self._key_lifetime):
                return {}
            told = keys.renew(session, now)
            LOG.info("keys=renewed hosts=%d", len(told))
            return desired.raise_hosts(session, hosts.lock(session, told))

        self._ring(self._sessions.write(work))

    def run(self, stopping: threading.Event, interval: float) -> None:
        """Sweep every ``interval`` seconds, and renew keys, until ``stopping`` is set."""
        while not stopping.wait(interval):
            try:
                self.sweep()
                self.renew_keys()
            except CloudlbError as error:
                LOG.warning("sweep=failed cause=%s", error.detail)

    def _store(self, session: Session, host: str, report: Report, now: float) -> desired.Bell:
        """Look without locks what the report may change, lock that, write, raise hosts last."""
        news = inventory.compare(session, host, report.inventory, now)
        moved = news.moved if news else frozenset()
        ending = facts.may_end(session, report.realizations)
        probed = facts.pools_of_members(session, report.health)
        held = locks.take(session, {host}, ending | moved, probed)
        row = hosts.meet(session, held.rows, host, report.generation, now)
        if report.generation > row.observed_generation:
            row.observed_generation = min(report.generation, row.generation)
        remapped = news is not None and inventory.store(session, row, news)
        told = facts.store_realizations(session, host, report.realizations, now)
        facts.clear_quarantines(session, host, report.realizations)
        facts.store_health(session, host, report.health)
        raised = removal.settle(session, held, ending & told, moved, self._silent(now), now)
        return desired.raise_hosts(session, held.hosts(raised | {host} if remapped else raised))

    def _silent(self, now: float) -> Callable[[RealizationRecord], bool]:
        """After a start hosts get the whole time: none could speak to a stopped conductor."""

        def is_silent(record: RealizationRecord) -> bool:
            last_word = max(record.last_seen or 0.0, self._began)
            return now - last_word >= self._host_down_time

        return is_silent

    def _ring(self, bell: desired.Bell) -> None:
        if bell:
            self._bell(bell)
