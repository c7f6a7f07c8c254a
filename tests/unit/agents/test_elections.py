# SPDX-License-Identifier: Apache-2.0
"""Who stands in an election when: the first director at once, the others after a head start."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from cloudlb.agents import elections
from cloudlb.agents.candidacy import Path as Way
from cloudlb.agents.candidacy import VirtualRouter
from cloudlb.agents.elections import Elections
from cloudlb.agents.orders import Desk
from cloudlb.model.pool import Failover
from tests.unit.agents.clock import Clock

INTERVAL = 0.5
HEAD_START = 4.0


def router(number: int, priority: int) -> VirtualRouter:
    ways = (Way("eth0", ip_address("192.0.2.1"), (ip_address("192.0.2.2"),)),)
    return VirtualRouter(number, priority, Failover.PREEMPT, "eth0", ways)


FIRST, SECOND = router(1, 254), router(2, 253)


class Host:
    """A host whose electing process is only told of."""

    def __init__(self, directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk, self.clock = Desk(directory / "election"), clock
        self.wanted: tuple[VirtualRouter, ...] | None = ()
        self.process: int | None = None
        monkeypatch.setattr(elections, "find", lambda _: self.process)
        monkeypatch.setattr(elections, "_works_on", lambda *_: True)
        monkeypatch.setattr(elections, "end", lambda _: setattr(self, "process", None))
        monkeypatch.setattr(elections.os, "kill", lambda *_: None)
        monkeypatch.setattr(Elections, "_start", lambda *_: setattr(self, "process", 1))
        self.boot()

    def boot(self) -> None:
        """Another agent."""
        self.elections = Elections(
            self.desk.directory,
            INTERVAL,
            Path("/pins"),
            lambda: self.wanted,
            self.looked,
            self.clock,
        )

    def looked(self) -> None:
        pass

    def stands_in(self, *wanted: VirtualRouter) -> list[int]:
        """The routers that the electing process has orders for after a look."""
        self.wanted = wanted
        self.elections.look()
        orders = self.desk.read()
        return [d.router for d in orders.duties] if orders and self.process else []


@pytest.fixture
def host(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, clock, monkeypatch)


@pytest.mark.requirement("L14")
def test_the_first_director_stands_at_once_and_others_after_its_head_start(host: Host) -> None:
    assert host.stands_in(FIRST, SECOND) == [1]
    host.clock.pass_seconds(HEAD_START - 0.1)
    assert host.stands_in(FIRST, SECOND) == [1]
    host.clock.pass_seconds(0.1)
    assert host.stands_in(FIRST, SECOND) == [1, 2]


def test_a_director_that_is_nowhere_first_starts_nothing_before(host: Host) -> None:
    assert host.stands_in(SECOND) == []
    assert host.process is None
    host.clock.pass_seconds(HEAD_START)
    assert host.stands_in(SECOND) == [2]


@pytest.mark.requirement("L18")
def test_an_agent_that_comes_back_leaves_an_election_as_it_is(host: Host) -> None:
    host.stands_in(SECOND)
    host.clock.pass_seconds(HEAD_START)
    host.stands_in(SECOND)
    host.boot()
    assert host.stands_in(SECOND) == [2]


@pytest.mark.requirement("L18")
def test_an_electing_process_that_has_died_is_followed_at_once(host: Host) -> None:
    host.stands_in(SECOND)
    host.clock.pass_seconds(HEAD_START)
    host.stands_in(SECOND)
    host.process = None
    assert host.stands_in(SECOND) == [2]


def test_a_host_that_has_come_up_again_gives_the_head_start_again(host: Host) -> None:
    host.stands_in(SECOND)
    host.clock.pass_seconds(HEAD_START)
    host.stands_in(SECOND)
    host.process = None
    host.boot()
    assert host.stands_in(SECOND) == []


def test_an_election_that_ended_and_comes_again_is_a_new_one(host: Host) -> None:
    host.stands_in(FIRST, SECOND)
    host.clock.pass_seconds(HEAD_START)
    assert host.stands_in(FIRST, SECOND) == [1, 2]
    assert host.stands_in(FIRST) == [1]
    assert host.stands_in(FIRST, SECOND) == [1]
