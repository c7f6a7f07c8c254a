# SPDX-License-Identifier: Apache-2.0
"""What an agent does again and again, whatever happens to it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloudlb.model.errors import EngineError

LOG = logging.getLogger(__name__)
_ROUND = 2.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Work to be done every ``interval`` seconds; 0 means in every round."""

    name: str
    work: Callable[[], None]
    interval: float = 0.0


class Attempts:
    """Work that the kernel may refuse: a refusal is told once, and so is the recovery."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def succeeds(self, name: str, work: Callable[[], None]) -> bool:
        """Do the work of a name; whether the kernel did not refuse it."""
        try:
            work()
        except EngineError as error:
            if name not in self._failing:
                LOG.warning("upkeep=%s state=failing: %s", name, error.detail)
            self._failing.add(name)
            return False
        if name in self._failing:
            LOG.info("upkeep=%s state=recovered", name)
        self._failing.discard(name)
        return True


class Upkeep:
    """Does chores. One that the kernel refuses is due again in the next round."""

    def __init__(
        self, chores: Sequence[Chore], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._due = {chore: clock() + chore.interval for chore in chores}
        self._attempts = Attempts()

    def run(self, stopping: threading.Event) -> None:
        """A round every two seconds until ``stopping``."""
        while not stopping.wait(_ROUND):
            self.round()

    def round(self) -> None:
        """Do what is due."""
        for chore, due in self._due.items():
            if self._clock() >= due and self._attempts.succeeds(chore.name, chore.work):
                self._due[chore] = self._clock() + chore.interval
