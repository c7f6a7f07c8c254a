# SPDX-License-Identifier: Apache-2.0
"""A queue of keys to reconcile: each waits once, failures come back later, one worker works.

Many changes of one object while it waits are one piece of work, which then sees the newest state.
"""

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

LOG = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.2
LAST_RETRY = 30.0
_DOUBLINGS = 8  # reach the last; 2**1024 would be no float any more


class ReconcileQueue(Generic[K]):
    """Keys in the order in which they became due; ``handle(key)`` is told failures by exception.

    A failed key is due again after 0.2 s, then twice as long each time up to 30 s, varied by a
    fifth. Adding a key makes it due at once, whatever its retry time.
    """

    def __init__(
        self,
        handle: Callable[[K], None],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._handle, self._clock, self._jitter = handle, clock, jitter
        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._sequence = 0
        self._wake = threading.Condition()

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have a key handled in ``delay`` seconds, or earlier if it is due earlier already."""
        with self._wake:
            due = self._clock() + delay
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, key))
            self._wake.notify()

    def failing(self) -> int:
        """The number of keys whose last handling failed."""
        return len(self._failures)

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping``."""
        while not stopping.is_set():
            key = self._next(timeout=0.5)
            if key is not None:
                self._work(key)

    def _next(self, timeout: float) -> K | None:
        with self._wake:
            wait = self._until_due()
            if wait is None or wait > 0:
                self._wake.wait(timeout if wait is None else min(wait, timeout))
                wait = self._until_due()
            if wait is None or wait > 0:
                return None
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            return key

    def _until_due(self) -> float | None:
        """Seconds until the first key is due; entries that were overtaken are dropped."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due - self._clock()
            heapq.heappop(self._heap)
        return None

    def _work(self, key: K) -> None:
        try:
            self._handle(key)
        except Exception as error:
            self._fail(key, error)
        else:
            if self._failures.pop(key, 0):
                LOG.info("key=%s state=recovered", key)

    def _fail(self, key: K, error: Exception) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        doublings = min(failures, _DOUBLINGS)
        delay = min(FIRST_RETRY * 2**doublings, LAST_RETRY) * (0.8 + 0.4 * self._jitter())
        if failures == 0:
            LOG.warning("key=%s state=failing error=%r", key, error, exc_info=error)
        self.add(key, delay)
