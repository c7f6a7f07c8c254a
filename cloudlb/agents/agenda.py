# SPDX-License-Identifier: Apache-2.0
"""When a prober has to do what: which members are due, which probes are late."""

import heapq
import itertools
from collections import deque
from collections.abc import Iterator

from cloudlb.agents.watch import Watch

_NEVER = float("inf")


class Agenda:
    """Members by the time of their next probe.

    Those that are asked once in an interval come again in the order in which they came, so a queue
    for each interval will do; the others are in a heap.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Watch]] = []
        self._queues: dict[float, deque[tuple[float, int, Watch]]] = {}
        self._turns = itertools.count(1)

    def plan(self, watch: Watch, due: float) -> None:
        """Probe a member next at ``due``, and at no time that was planned before."""
        watch.turn = next(self._turns)
        heapq.heappush(self._heap, (due, watch.turn, watch))

    def repeat(self, watch: Watch, due: float, interval: float) -> None:
        """Probe a member next at ``due``, an interval after the time that `take` gave."""
        watch.turn = next(self._turns)
        if interval not in self._queues:
            self._queues[interval] = deque()
        self._queues[interval].append((due, watch.turn, watch))

    def take(self, now: float, most: int) -> list[tuple[float, Watch]]:
        """Up to ``most`` members that are due, and when each was."""
        found: list[tuple[float, Watch]] = []
        while len(found) < most and self._heap and self._heap[0][0] <= now:
            due, turn, watch = heapq.heappop(self._heap)
            if watch.turn == turn and not watch.is_over:
                found.append((due, watch))
        for queue in self._queues.values():
            while len(found) < most and queue and queue[0][0] <= now:
                due, turn, watch = queue.popleft()
                if watch.turn == turn and not watch.is_over:
                    found.append((due, watch))
        return found

    def next(self) -> float:
        """When somebody is due."""
        heads = [queue[0][0] for queue in self._queues.values() if queue]
        return min([*heads, self._heap[0][0] if self._heap else _NEVER])


class Deadlines:
    """Probes by the time when they are late. Probes with the same time-out are late in the order
    in which they were sent, so a queue for each time-out will do.
    """

    def __init__(self) -> None:
        self._queues: dict[float, deque[tuple[float, int]]] = {}

    def add(self, token: int, now: float, timeout: float) -> None:
        """A probe was sent."""
        if timeout not in self._queues:
            self._queues[timeout] = deque()
        self._queues[timeout].append((now + timeout, token))

    def take(self, now: float) -> Iterator[int]:
        """The tokens of probes whose time is over, whether they were answered or not."""
        for timeout, queue in list(self._queues.items()):
            while queue and queue[0][0] <= now:
                yield queue.popleft()[1]
            if not queue:
                del self._queues[timeout]

    def next(self) -> float:
        """When a probe is late."""
        return min((queue[0][0] for queue in self._queues.values() if queue), default=_NEVER)
