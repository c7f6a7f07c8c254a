# SPDX-License-Identifier: Apache-2.0
"""What a host's own probes say of its guests, collected for the directors elsewhere.

Changes are told at once, all that is known once in each interval.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from uuid import UUID

from cloudlb.agents.target import Target
from cloudlb.model.eastwest import MOST_MISSES, Run


class Witness:
    """Takes notes of a prober, and gives to another thread what is to be told.

    Readable as a file while there is news.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._known: dict[UUID, tuple[Target, int]] = {}
        self._news: set[UUID] = set()
        self._told_at: dict[float, float] = {}
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For select."""
        return self._bell

    def note(self, target: Target, misses: int) -> None:
        """A guest has missed so many probes in a row."""
        with self._lock:
            self._known[target.member_id] = target, min(misses, MOST_MISSES)
            self._news.add(target.member_id)
            os.eventfd_write(self._bell, 1)

    def follow(self, targets: Mapping[UUID, Target]) -> None:
        """Say nothing any more of other members, and tell of these whom it concerns now."""
        with self._lock:
            kept = self._known.keys() & targets.keys()
            self._known = {m: (targets[m], self._known[m][1]) for m in kept}
            self._news &= kept

    def due(self) -> dict[str, list[Run]]:
        """What each director is to be told now."""
        with self._lock:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            intervals = {target.monitor.interval for target, _ in self._known.values()}
            told = self._those_due(self._ripe(intervals))
            self._news.clear()
        return told

    def _ripe(self, intervals: Collection[float]) -> set[float]:
        now = self._clock()
        self._told_at = {i: self._told_at.get(i, float("-inf")) for i in intervals}
        ripe = {i for i, told_at in self._told_at.items() if now - told_at >= i}
        self._told_at |= dict.fromkeys(ripe, now)
        return ripe

    def _those_due(self, ripe: Collection[float]) -> dict[str, list[Run]]:
        told: dict[str, list[Run]] = defaultdict(list)
        for member_id, (target, misses) in self._known.items():
            if target.monitor.interval in ripe or member_id in self._news:
                for director in target.listeners:
                    told[director].append((member_id.bytes, misses))
        return told
