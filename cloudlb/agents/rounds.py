# SPDX-License-Identifier: Apache-2.0
"""When each member is asked next: in every interval, seldom while its host says that it answers,
and soon when one that is asked seldom is silent. See `cloudlb.model.health` for the reasons.
"""

from collections.abc import Callable, Container

from cloudlb.agents.agenda import Agenda, Deadlines
from cloudlb.agents.watch import Watch
from cloudlb.model.health import ProbeRecord
from cloudlb.model.pool import Health

_HURRY = 0.25
_MOST_HURRIED = 64


class Rounds:
    """The times of members' probes. ``spread`` gives the places in a first pause: see `Prober`."""

    def __init__(self, spread: Callable[[], float]) -> None:
        self._spread = spread
        self._agenda, self._doubts = Agenda(), Deadlines()
        self._doubtful: dict[int, Watch] = {}
        self._hurried = 0

    def begin(self, watch: Watch, now: float) -> None:
        """Ask at once, and give it another place in its interval."""
        watch.is_regular = watch.is_rare = False
        self._agenda.plan(watch, now)

    def hasten(self, watch: Watch, now: float) -> None:
        """Ask within an interval after the last time."""
        if watch.is_rare:
            watch.is_rare = False
            soon = watch.asked_at + watch.paces.usual
            self._agenda.plan(watch, max(now, soon))

    def take(self, now: float, most: int) -> list[Watch]:
        """Up to ``most`` members that are to be asked now, and will be again."""
        found = []
        for due, watch in self._agenda.take(now, most):
            self._plan_next(watch, due, now)
            found.append(watch)
        return found

    def _plan_next(self, watch: Watch, due: float, now: float) -> None:
        interval, pause = watch.paces.usual, watch.pause(now)
        was_rare, watch.is_rare = watch.is_rare, pause > interval
        watch.is_seldom = was_rare or watch.is_rare
        if not watch.is_regular:
            watch.is_regular = True
            self._agenda.plan(watch, now + interval * (1 - self._spread()))
        elif watch.is_rare and not was_rare:
            self._agenda.plan(watch, now + pause - (pause - interval) * self._spread())
        else:
            due += pause
            self._agenda.repeat(watch, due if due > now else now + pause, pause)

    def asked(self, token: int, watch: Watch, now: float) -> None:
        """A probe is sent."""
        watch.asked_at = now
        if watch.is_seldom:
            self._doubtful[token] = watch
            self._doubts.add(token, now, watch.paces.doubted)

    def look_for_doubts(self, now: float, waiting: Container[int]) -> None:
        """Doubt those that were asked seldom and have not answered; ``waiting`` are the tokens
        of probes that are under way.
        """
        for token in self._doubts.take(now):
            watch = self._doubtful.pop(token)
            if token in waiting or watch.record.misses:
                self.doubt(watch, now)

    def doubt(self, watch: Watch, now: float) -> None:
        """Ask soon and often until it answers or is offline."""
        if not watch.is_doubted and watch.record.health is Health.ONLINE:
            watch.is_doubted, watch.is_rare, watch.is_settled = True, False, False
            soon = watch.asked_at + watch.paces.doubted
            self._agenda.plan(watch, max(now, soon))

    def hurry(self, watch: Watch, now: float) -> None:
        """Ask at once, whatever the pace is. Clients' complaints may be made up, so there are not
        many such members at a time.
        """
        is_known = watch.is_hurried or watch.record.health is Health.OFFLINE
        if not is_known and self._hurried < _MOST_HURRIED:
            self._hurried += 1
            watch.is_hurried, watch.is_rare, watch.is_settled = True, False, False
            self._agenda.plan(watch, now)

    def look_again(self, watch: Watch, record: ProbeRecord, now: float) -> None:
        """One that is asked in a hurry is asked soon again, until it answers or is offline.

        There is a moment in between: a service that starts anew refuses connections, too.
        """
        if not watch.is_hurried:
            return
        watch.is_hurried = record.misses > 0 and record.health is not Health.OFFLINE
        if watch.is_hurried:
            pause = min(_HURRY, watch.target.monitor.timeout)
            self._agenda.plan(watch, max(now, watch.asked_at + pause))
        else:
            self._hurried -= 1

    def leave(self, watch: Watch) -> None:
        """It is asked no more."""
        self._hurried -= watch.is_hurried
        watch.is_over, watch.is_hurried = True, False

    def next(self) -> float:
        """When somebody is to be asked, or doubted."""
        return min(self._agenda.next(), self._doubts.next())
