# SPDX-License-Identifier: Apache-2.0
"""The queue: each key once, in order, failures later and later, one line for one failure."""

import logging
import threading

import pytest

from cloudlb.agents.reconcile import FIRST_RETRY, LAST_RETRY, ReconcileQueue
from tests.unit.agents.clock import Clock


class Work:
    """A queue on a clock that stands still, and what it handled."""

    def __init__(self, clock: Clock, jitter: float = 0.5) -> None:
        self.clock = clock
        self.done: list[str] = []
        self.broken: set[str] = set()
        self.queue: ReconcileQueue[str] = ReconcileQueue(self._handle, clock, lambda: jitter)

    def _handle(self, key: str) -> None:
        self.done.append(key)
        if key in self.broken:
            raise RuntimeError(f"{key} is broken")

    def work(self) -> list[str]:
        """Handle all that is due now; the keys in their order."""
        self.done.clear()
        while (key := self.queue._next(timeout=0)) is not None:
            self.queue._work(key)
        return list(self.done)

    def next_try(self, key: str) -> float:
        """Seconds until a key is handled again."""
        return self.queue._due[key] - self.clock()


@pytest.fixture
def work(clock: Clock) -> Work:
    return Work(clock)


def test_a_key_that_was_added_often_is_handled_once(work: Work) -> None:
    for _ in range(3):
        work.queue.add("a")
    assert work.work() == ["a"]
    assert work.work() == []


def test_keys_are_handled_in_the_order_in_which_they_came(work: Work) -> None:
    for key in "cabac":
        work.queue.add(key)
    assert work.work() == ["c", "a", "b"]


def test_a_delayed_key_waits(work: Work) -> None:
    work.queue.add("late", 5)
    work.queue.add("soon", 1)
    assert work.work() == []
    work.clock.pass_seconds(1)
    assert work.work() == ["soon"]
    work.clock.pass_seconds(4)
    assert work.work() == ["late"]


def test_a_key_that_is_needed_earlier_is_handled_earlier_and_once(work: Work) -> None:
    work.queue.add("a", 5)
    work.queue.add("a")
    assert work.work() == ["a"]
    work.clock.pass_seconds(10)
    assert work.work() == []


def test_a_key_that_is_needed_later_too_keeps_its_earlier_turn(work: Work) -> None:
    work.queue.add("a", 1)
    work.queue.add("a", 5)
    work.clock.pass_seconds(1)
    assert work.work() == ["a"]
    work.clock.pass_seconds(10)
    assert work.work() == []


def test_a_key_that_is_added_while_it_is_handled_is_handled_again(clock: Clock) -> None:
    seen: list[str] = []

    def handle(key: str) -> None:
        seen.append(key)
        if len(seen) == 1:
            queue.add(key)

    queue: ReconcileQueue[str] = ReconcileQueue(handle, clock)
    queue.add("a")
    while (key := queue._next(timeout=0)) is not None:
        queue._work(key)
    assert seen == ["a", "a"]


def test_a_failure_comes_back_twice_as_late_each_time_up_to_the_limit(work: Work) -> None:
    work.broken = {"a"}
    work.queue.add("a")
    waits = []
    for _ in range(12):
        assert work.work() == ["a"]
        waits.append(work.next_try("a"))
        work.clock.pass_seconds(waits[-1])
    assert waits[:8] == pytest.approx([FIRST_RETRY * 2**n for n in range(8)])
    assert waits[8:] == pytest.approx([LAST_RETRY] * 4)


def test_a_failure_of_days_is_still_tried_again(work: Work) -> None:
    work.broken = {"a"}
    work.queue.add("a")
    for _ in range(3000):
        assert work.work() == ["a"]
        work.clock.pass_seconds(work.next_try("a"))
    assert work.next_try("a") == pytest.approx(0)


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_retries_are_spread_by_a_fifth(clock: Clock, jitter: float, factor: float) -> None:
    work = Work(clock, jitter)
    work.broken = {"a"}
    work.queue.add("a")
    work.work()
    assert work.next_try("a") == pytest.approx(FIRST_RETRY * factor)


def test_a_failed_key_that_is_added_is_due_at_once(work: Work) -> None:
    work.broken = {"a"}
    work.queue.add("a")
    work.work()
    work.queue.add("a")
    assert work.work() == ["a"]


def test_after_a_success_the_next_failure_comes_back_soon(work: Work) -> None:
    work.broken = {"a"}
    for _ in range(5):
        work.queue.add("a")
        work.work()
    work.broken = set()
    work.queue.add("a")
    work.work()
    work.broken = {"a"}
    work.queue.add("a")
    work.work()
    assert work.next_try("a") == pytest.approx(FIRST_RETRY)


def test_one_failing_key_holds_up_no_other(work: Work) -> None:
    work.broken = {"a"}
    for key in "abc":
        work.queue.add(key)
    assert work.work() == ["a", "b", "c"]


def test_a_failure_is_told_once_and_so_is_its_end(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloudlb.agents.reconcile")
    work.broken = {"a"}
    for _ in range(4):
        work.queue.add("a")
        work.work()
    work.broken = set()
    for _ in range(2):
        work.queue.add("a")
        work.work()
    assert [record.getMessage() for record in caplog.records] == [
        "key=a state=failing error=RuntimeError('a is broken')",
        "key=a state=recovered",
    ]


def test_the_worker_wakes_up_for_a_new_key_and_ends_when_told() -> None:
    handled, stopping = threading.Event(), threading.Event()
    queue: ReconcileQueue[str] = ReconcileQueue(lambda _key: handled.set())
    worker = threading.Thread(target=queue.run, args=(stopping,))
    worker.start()
    queue.add("a")
    assert handled.wait(10), "the key was not handled"
    stopping.set()
    worker.join(10)
    assert not worker.is_alive()
