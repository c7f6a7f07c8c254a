# SPDX-License-Identifier: Apache-2.0
"""Facts reach the conductor: none is lost, the newest wins, old news is no news."""

import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from cloudlb.agents.reporter import Reporter, Revisions
from cloudlb.model.errors import Unavailable
from cloudlb.model.host import Inventory, Role
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import HealthReport, Realization, RealizationState, Report
from tests.planes import member_id

POOL, OTHER = UUID(int=1), UUID(int=2)
DONE = Realization(POOL, 1, RealizationState.REALIZED)
FAILING = Realization(POOL, 1, RealizationState.FAILING, "busy")
INVENTORY = Inventory(1, (Role.COMPUTE,), "memory")
DEAD = member_id(1)


def _unnumbered(report: Report) -> Report:
    """The report without the numbers that order its words."""
    return replace(
        report,
        realizations=tuple(replace(word, revision=0) for word in report.realizations),
        health=tuple(replace(word, revision=0) for word in report.health),
    )


class Bus:
    """Takes reports, or none while it is down; ``during`` happens while it takes one."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.is_down = False
        self.during: Callable[[], None] = lambda: None
        self.reporter = Reporter(self._send, Revisions(iter(range(0, 10**9, 1000)).__next__), 10)

    def _send(self, report: Report) -> None:
        during, self.during = self.during, lambda: None
        during()
        if self.is_down:
            raise Unavailable("The conductor does not answer.")
        self.reports.append(_unnumbered(report))

    def next(self) -> Report:
        """What is reported now."""
        assert self.reporter._report()
        return self.reports[-1]

    def fail(self) -> None:
        """A report that does not arrive."""
        self.is_down = True
        assert not self.reporter._report()
        self.is_down = False

    @property
    def has_news(self) -> bool:
        return self.reporter._news.is_set()


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_facts_are_reported_together(bus: Bus) -> None:
    bus.reporter.set_generation(7)
    bus.reporter.realized(DONE)
    bus.reporter.inventory(INVENTORY)
    bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
    assert bus.next() == Report(
        7, (DONE,), INVENTORY, (HealthReport(DEAD, Health.OFFLINE, "refuses", 0),)
    )


def test_what_was_reported_is_not_reported_again(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.reporter.inventory(INVENTORY)
    bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
    bus.next()
    assert bus.next() == Report(0)


def test_a_report_that_failed_is_kept_whole(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.reporter.inventory(INVENTORY)
    bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
    bus.fail()
    assert bus.has_news
    report = bus.next()
    assert (report.realizations, report.inventory, len(report.health)) == ((DONE,), INVENTORY, 1)


def test_of_several_words_on_one_thing_the_newest_is_reported(bus: Bus) -> None:
    bus.reporter.realized(FAILING)
    bus.reporter.realized(DONE)
    bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
    bus.reporter.health(DEAD, Health.ONLINE, "answers")
    bus.reporter.inventory(INVENTORY)
    bus.reporter.inventory(replace(INVENTORY, revision=2, engine="ebpf"))
    assert bus.next() == Report(
        0,
        (DONE,),
        replace(INVENTORY, revision=2, engine="ebpf"),
        (HealthReport(DEAD, Health.ONLINE, "answers", 0),),
    )


def test_words_on_different_pools_do_not_push_each_other_out(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.reporter.realized(replace(DONE, pool_id=OTHER))
    assert {word.pool_id for word in bus.next().realizations} == {POOL, OTHER}


def test_a_pool_that_is_as_it_was_reported_is_no_news(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.next()
    bus.reporter.realized(DONE)
    assert not bus.has_news
    assert bus.next().realizations == ()


def test_a_pool_that_failed_and_is_back_before_that_was_told_is_told_as_it_is(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.next()
    bus.reporter.realized(FAILING)
    bus.fail()
    bus.reporter.realized(DONE)
    assert FAILING not in bus.next().realizations


def test_a_conductor_that_counts_anew_is_told_all(bus: Bus) -> None:
    bus.reporter.set_generation(9)
    bus.reporter.realized(DONE)
    bus.next()
    bus.reporter.set_generation(3)
    bus.reporter.realized(DONE)
    assert bus.next().realizations == (DONE,)


def test_the_same_of_a_newer_snapshot_is_news(bus: Bus) -> None:
    bus.reporter.realized(DONE)
    bus.next()
    bus.reporter.realized(replace(DONE, generation=2))
    assert bus.next().realizations == (replace(DONE, generation=2),)


@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "lost"])
def test_what_changes_while_a_report_is_under_way_is_told_next(bus: Bus, arrives: bool) -> None:
    def change() -> None:
        bus.reporter.realized(DONE)
        bus.reporter.health(DEAD, Health.ONLINE, "answers")
        bus.reporter.inventory(replace(INVENTORY, revision=2, engine="ebpf"))

    bus.reporter.realized(FAILING)
    bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
    bus.reporter.inventory(INVENTORY)
    bus.during = change
    if arrives:
        bus.next()
    else:
        bus.fail()
    assert bus.has_news
    report = bus.next()
    assert report.realizations == (DONE,)
    assert report.inventory == replace(INVENTORY, revision=2, engine="ebpf")
    assert [word.health for word in report.health] == [Health.ONLINE]


def test_a_host_that_has_not_changed_is_no_news(bus: Bus) -> None:
    bus.reporter.inventory(INVENTORY)
    bus.next()
    bus.reporter.inventory(replace(INVENTORY, revision=2))
    assert not bus.has_news
    assert bus.next().inventory is None


def test_a_host_that_changed_and_changed_back_is_told_as_it_is(bus: Bus) -> None:
    bus.reporter.inventory(INVENTORY)
    bus.next()
    bus.reporter.inventory(replace(INVENTORY, revision=2, engine="ebpf"))
    bus.reporter.inventory(replace(INVENTORY, revision=3))
    assert bus.next().inventory == replace(INVENTORY, revision=3)


class Service:
    """The reporter's thread with a conductor that a test can wait for."""

    def __init__(self, interval: float) -> None:
        self.arrived = threading.Semaphore(0)
        self.reports: list[Report] = []
        self.reporter = Reporter(self._send, Revisions(), interval)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.reporter.run, args=(self.stopping,))
        self.thread.start()

    def _send(self, report: Report) -> None:
        self.reports.append(report)
        self.arrived.release()

    def wait(self) -> Report:
        """The next report."""
        assert self.arrived.acquire(timeout=10), "no report came"
        return self.reports[-1]

    def stop(self) -> None:
        """End the thread: news wakes it up."""
        self.stopping.set()
        self.reporter.health(DEAD, Health.ONLINE, "")
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_without_news_an_empty_report_tells_that_the_agent_lives() -> None:
    service = Service(interval=0.01)
    service.reporter.set_generation(3)
    service.wait()
    service.wait()
    assert service.wait() == Report(3)
    service.stop()


def test_news_does_not_wait_for_the_next_interval() -> None:
    service = Service(interval=3600)
    service.reporter.realized(DONE)
    assert service.wait().realizations[0].pool_id == DONE.pool_id
    service.stop()


def test_a_later_word_has_a_higher_number() -> None:
    sent: list[Report] = []
    reporter = Reporter(sent.append, Revisions(), 10)
    for word in (DONE, FAILING):
        reporter.realized(word)
        assert reporter._report()
    first, second = (report.realizations[0].revision for report in sent)
    assert 0 < first < second


def test_the_inventory_is_told_again_when_that_is_asked_for(bus: Bus) -> None:
    bus.reporter.inventory(INVENTORY)
    bus.next()
    bus.reporter.repeat()
    bus.reporter.inventory(INVENTORY)
    assert bus.next().inventory == INVENTORY


class TestHealthToldAgain:
    @pytest.fixture
    def told(self, bus: Bus) -> Bus:
        """A bus whose other end was told of a dead member."""
        bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
        bus.next()
        return bus

    def test_the_last_word_is_told_again_as_news(self, told: Bus) -> None:
        told.reporter.repeat()
        assert told.has_news
        assert told.next().health == (HealthReport(DEAD, Health.OFFLINE, "refuses", 0),)
        assert told.next().health == ()

    def test_it_has_a_higher_number(self) -> None:
        sent: list[Report] = []
        reporter = Reporter(sent.append, Revisions(), 10)
        reporter.health(DEAD, Health.OFFLINE, "refuses")
        assert reporter._report()
        reporter.repeat()
        assert reporter._report()
        first, second = (report.health[0].revision for report in sent)
        assert first < second

    def test_a_newer_word_that_waits_stands(self, told: Bus) -> None:
        told.reporter.health(DEAD, Health.ONLINE, "answers")
        told.reporter.repeat()
        assert [word.health for word in told.next().health] == [Health.ONLINE]

    def test_a_member_that_is_not_watched_any_more_is_not_told_of(self, told: Bus) -> None:
        told.reporter.watch({member_id(2)})
        told.reporter.repeat()
        assert told.next().health == ()

    def test_nor_is_what_was_still_to_be_told_of_it(self, bus: Bus) -> None:
        bus.reporter.health(DEAD, Health.OFFLINE, "refuses")
        bus.reporter.health(member_id(2), Health.OFFLINE, "refuses")
        bus.reporter.watch({member_id(2)})
        assert [word.member_id for word in bus.next().health] == [member_id(2)]


def test_revisions_rise_when_the_clock_does_not() -> None:
    readings = iter((5_000_000, 5_000_000, 4_000_000, 9_000_000))
    revisions = Revisions(readings.__next__)
    assert [revisions.next() for _ in range(4)] == [5000, 5001, 5002, 9000]
