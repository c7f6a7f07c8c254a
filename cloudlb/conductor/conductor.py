# SPDX-License-Identifier: Apache-2.0
"""What agents ask of the control plane and tell it.

Every call is one transaction, may be lost, doubled or late, and says the whole truth about its
subject, so nothing is remembered between calls.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from sqlalchemy.orm import Session

from cloudlb.db import desired, facts, hosts, inventory, removal
from cloudlb.db.records import RealizationRecord
from cloudlb.db.session import Sessions
from cloudlb.model.errors import CloudlbError
from cloudlb.model.snapshot import RealizationState, Report, Snapshot

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
    ) -> None:
        self._sessions = sessions
        self._bell = bell
        self._clock = clock
        self._host_down_time = host_down_time
        self._began = clock()

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        """The snapshot of ``host``, or None when ``have_generation`` is the current one."""
        now = self._clock()
        current = self._sessions.write(
            lambda session: hosts.meet(session, host, have_generation, now).generation
        )
        if current == have_generation:
            return None
        with self._sessions.read() as session:
            return desired.snapshot(session, host)

    def report(self, host: str, report: Report) -> None:
        """Store what an agent tells, and ring the doorbells of the hosts that it concerns."""
        now = self._clock()
        self._ring(self._sessions.write(lambda session: self._store(session, host, report, now)))

    def sweep(self) -> None:
        """Finish the deletions that only wait for silent hosts."""
        now = self._clock()

        def work(session: Session) -> desired.Bell:
            waiting = facts.being_removed(session)
            return removal.settle(session, waiting, (), self._silent(now), now)

        with self._sessions.read() as session:
            if not facts.being_removed(session):
                return
        self._ring(self._sessions.write(work))

    def run(self, stopping: threading.Event, interval: float) -> None:
        """Sweep every ``interval`` seconds until ``stopping`` is set."""
        while not stopping.wait(interval):
            try:
                self.sweep()
            except CloudlbError as error:
                LOG.warning("sweep=failed cause=%s", error.detail)

    def _store(self, session: Session, host: str, report: Report, now: float) -> desired.Bell:
        row = hosts.meet(session, host, report.generation, now)
        if report.generation > row.observed_generation:
            row.observed_generation = min(report.generation, row.generation)
        news = inventory.Consequence()
        if report.inventory is not None:
            news = inventory.store(session, row, report.inventory, now)
        told = facts.store_realizations(session, host, report.realizations, now)
        facts.clear_quarantines(session, host, report.realizations)
        facts.store_health(session, host, report.health)
        session.flush()
        touched = facts.being_removed(session, told) if told else set()
        gone = {r.pool_id for r in report.realizations if r.state is RealizationState.GONE}
        touched |= gone & told
        bell: desired.Bell = {}
        if news.remapped:
            bell = {host: new for host, (new, _) in desired.raise_hosts(session, [host]).items()}
        if touched or news.moved:
            bell |= removal.settle(session, touched, news.moved, self._silent(now), now)
        return bell

    def _silent(self, now: float) -> Callable[[RealizationRecord], bool]:
        """After a start hosts get the whole time: none could speak to a stopped conductor."""

        def is_silent(record: RealizationRecord) -> bool:
            last_word = max(record.last_seen or 0.0, self._began)
            return now - last_word >= self._host_down_time

        return is_silent

    def _ring(self, bell: desired.Bell) -> None:
        if bell:
            self._bell(bell)
