# SPDX-License-Identifier: Apache-2.0
"""Rates between two questions, and over half a second when there was no earlier one."""

import threading
from uuid import UUID

import pytest

from cloudlb.agents.stats import Stats, rates
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.dataplane import MemberCounters
from tests.planes import member_id
from tests.unit.agents.clock import Clock

POOL, OTHER = UUID(int=1), UUID(int=2)
RATE = "connections_per_second"


class Busy(MemoryEngine):
    """Ten connections a second to member 1, by the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        connections = round((self.clock() - 1000) * 10)
        return (MemberCounters(member_id(1), connections, bytes_in=3 * connections),)


class Asked:
    """Stats, and how long they paused."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.pauses = clock, []
        self.stats = Stats(Busy(clock), threading.RLock(), clock, self._pause)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.pass_seconds(seconds)

    def rate(self, pool_id: UUID = POOL) -> float:
        rate: float = self.stats.of_pool(pool_id)["rates"][str(member_id(1))][RATE]
        return rate


@pytest.fixture
def asked(clock: Clock) -> Asked:
    return Asked(clock)


def test_the_first_question_is_measured_over_half_a_second(asked: Asked) -> None:
    assert asked.rate() == 10.0
    assert asked.pauses == [0.5]


def test_the_next_question_compares_with_the_last(asked: Asked) -> None:
    asked.rate()
    asked.clock.pass_seconds(4)
    assert asked.rate() == 10.0
    assert asked.pauses == [0.5]


@pytest.mark.parametrize("since", [0.2, 31])
def test_a_question_too_early_or_too_late_is_measured_anew(asked: Asked, since: float) -> None:
    asked.rate()
    asked.clock.pass_seconds(since)
    assert asked.rate() == 10.0
    assert asked.pauses == [0.5, 0.5]


def test_each_pool_has_its_own_sample(asked: Asked) -> None:
    asked.rate()
    asked.clock.pass_seconds(4)
    asked.rate(OTHER)
    assert asked.pauses == [0.5, 0.5]


def test_samples_that_nobody_can_use_any_more_are_forgotten(asked: Asked) -> None:
    asked.rate()
    asked.clock.pass_seconds(60)
    asked.rate(OTHER)
    assert set(asked.stats._last) == {OTHER}


def test_counters_are_told_as_they_are(asked: Asked) -> None:
    told = asked.stats.of_pool(POOL)["members"]
    assert told == [
        {
            "member_id": str(member_id(1)),
            "connections": 5,
            "active": 0,
            "inactive": 0,
            "packets_in": 0,
            "bytes_in": 15,
            "packets_out": 0,
            "bytes_out": 0,
        }
    ]


def test_rates_are_differences_by_time_of_members_seen_twice() -> None:
    before = (10.0, (MemberCounters(member_id(1), 5, bytes_in=100), MemberCounters(member_id(2))))
    after = (14.0, (MemberCounters(member_id(1), 7, bytes_in=500), MemberCounters(member_id(3))))
    found = rates(before, after)
    assert set(found) == {str(member_id(1))}
    assert found[str(member_id(1))] == {
        RATE: 0.5,
        "packets_in_per_second": 0.0,
        "bytes_in_per_second": 100.0,
        "packets_out_per_second": 0.0,
        "bytes_out_per_second": 0.0,
    }
