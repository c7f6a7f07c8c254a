# SPDX-License-Identifier: Apache-2.0
"""Chores are done at their intervals, and what the kernel refuses is tried again."""

import logging

import pytest

from cloudlb.agents.upkeep import Chore, Upkeep
from cloudlb.model.errors import EngineError
from tests.unit.agents.clock import Clock


class Work:
    """Counts how often it was done; refuses while it is told to."""

    def __init__(self) -> None:
        self.refuses = False
        self.tried = 0

    def __call__(self) -> None:
        self.tried += 1
        if self.refuses:
            raise EngineError("The kernel refuses.", "out of memory")


@pytest.fixture
def work() -> Work:
    return Work()


def test_a_chore_without_an_interval_is_done_in_every_round(work: Work, clock: Clock) -> None:
    upkeep = Upkeep([Chore("sweep", work)], clock)
    for _ in range(3):
        upkeep.round()
    assert work.tried == 3


def test_a_chore_with_an_interval_waits_for_it_from_the_start(work: Work, clock: Clock) -> None:
    upkeep = Upkeep([Chore("resync", work, 60)], clock)
    upkeep.round()
    assert work.tried == 0
    for _ in range(2):
        clock.pass_seconds(60)
        upkeep.round()
        upkeep.round()
    assert work.tried == 2


def test_a_refused_chore_is_told_once_and_tried_in_every_round(
    work: Work, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upkeep = Upkeep([Chore("resync", work, 60)], clock)
    clock.pass_seconds(60)
    work.refuses = True
    for _ in range(3):
        upkeep.round()
    assert work.tried == 3
    assert caplog.messages == ["upkeep=resync state=failing: out of memory"]
    work.refuses = False
    upkeep.round()
    upkeep.round()
    assert work.tried == 4
    assert caplog.messages[1:] == ["upkeep=resync state=recovered"]


def test_a_refused_chore_keeps_no_other_from_being_done(work: Work, clock: Clock) -> None:
    refused = Work()
    refused.refuses = True
    Upkeep([Chore("sweep", refused), Chore("resync", work)], clock).round()
    assert work.tried == 1


def test_other_failures_are_not_hidden(clock: Clock) -> None:
    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        Upkeep([Chore("sweep", fail)], clock).round()
