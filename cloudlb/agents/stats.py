# SPDX-License-Identifier: Apache-2.0
"""Counters and rates of pools on this host, measured when somebody asks."""

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cloudlb.engines.base import Engine
from cloudlb.model import plain
from cloudlb.model.dataplane import MemberCounters

_SHORTEST = 0.5
_LONGEST = 30.0
_RATED = ("connections", "packets_in", "bytes_in", "packets_out", "bytes_out")

Sample = tuple[float, tuple[MemberCounters, ...]]


class Stats:
    """Answers for one host. Rates are over the time since the last question, 0.5 s at least.

    ``pause`` sleeps; it is called when there is no sample to compare with.
    """

    def __init__(
        self,
        engine: Engine,
        lock: threading.RLock,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine, self._lock, self._clock, self._pause = engine, lock, clock, pause
        self._last: dict[UUID, Sample] = {}

    def of_pool(self, pool_id: UUID) -> dict[str, Any]:
        """``members``: counters since the member was added; ``rates``: per second, by member."""
        earlier = self._last.get(pool_id)
        now = self._clock()
        if earlier is None or not _SHORTEST <= now - earlier[0] <= _LONGEST:
            earlier = self._sample(pool_id)
            self._pause(_SHORTEST)
        latest = self._sample(pool_id)
        self._last = {k: s for k, s in self._last.items() if latest[0] - s[0] <= _LONGEST}
        self._last[pool_id] = latest
        return {
            "members": [plain.encode(c) for c in latest[1]],
            "rates": rates(earlier, latest),
        }

    def _sample(self, pool_id: UUID) -> Sample:
        with self._lock:
            return self._clock(), self._engine.counters(pool_id)


def rates(earlier: Sample, latest: Sample) -> dict[str, dict[str, float]]:
    """Differences of counters per second, by member; only members of both samples."""
    span = max(latest[0] - earlier[0], 1e-9)
    before = {c.member_id: c for c in earlier[1]}
    return {
        str(now.member_id): {
            f"{name}_per_second": round(
                (getattr(now, name) - getattr(before[now.member_id], name)) / span, 3
            )
            for name in _RATED
        }
        for now in latest[1]
        if now.member_id in before
    }
