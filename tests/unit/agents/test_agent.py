# SPDX-License-Identifier: Apache-2.0
"""The agent put together: what it pulls it applies and reports, with and without a conductor."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents import agent as agents
from cloudlb.agents import announce, upkeep
from cloudlb.agents.agent import Agent, Settings
from cloudlb.agents.pools import Source
from cloudlb.agents.store import SnapshotStore
from cloudlb.drivers.dr import DirectRouting
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.errors import EngineError, InvalidRequest, Unavailable
from cloudlb.model.host import Role
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import Realization, RealizationState, Report, Snapshot
from tests.planes import member_id
from tests.views import member, snapshot, tcp_monitor, view

POOL = UUID(int=1)


class Conductor:
    """Gives what is wanted, takes what is told; can be away."""

    def __init__(self) -> None:
        self.wanted = snapshot()
        self.is_away = False
        self.asked: list[int] = []
        self.reports: list[Report] = []

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        assert host == "d1"
        self.asked.append(have_generation)
        if self.is_away:
            raise Unavailable("The conductor does not answer.")
        return self.wanted if have_generation != self.wanted.generation else None

    def report(self, host: str, report: Report) -> None:
        assert host == "d1"
        if self.is_away:
            raise Unavailable("The conductor does not answer.")
        self.reports.append(report)

    def health_of(self, number: int) -> Health | None:
        """The last word on a member."""
        words = [w for r in self.reports for w in r.health if w.member_id == member_id(number)]
        return words[-1].health if words else None

    def told(self, pool_id: UUID = POOL) -> Realization | None:
        """The last word on a pool."""
        words = [w for r in self.reports for w in r.realizations if w.pool_id == pool_id]
        return replace(words[-1], revision=0) if words else None


def until(what: str, holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)


class Host:
    """A host with its kernel, disk and conductor, on which agents start and stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.conductor = Conductor()
        self.kernel = MemoryEngine()
        self.threads: list[threading.Thread] = []
        self.stopping = threading.Event()
        self.pull_interval = 3600.0

    def make(self) -> Agent:
        settings = Settings(
            host="d1",
            roles=(Role.DIRECTOR,),
            network_mappings={"lan": "lo"},
            engine="memory",
            libvirt_uri="",
            state_dir=self.directory,
            pull_interval=self.pull_interval,
            report_interval=3600,
        )
        self.agent = Agent(settings, self.conductor, {"dr": DirectRouting()}, self.kernel)
        return self.agent

    def start(self) -> "Host":
        """A new agent with all its threads."""
        self.make()
        return self.run()

    def run(self) -> "Host":
        """The threads of the agent that was made."""
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=run, args=(self.stopping,), name=name)
            for name, run in self.agent.threads().items()
        ]
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self.agent._reporter._news.set()
        for thread in self.threads:
            thread.join(15)
            assert not thread.is_alive(), thread.name
        self.threads = []

    def wants(self, wanted: Snapshot) -> None:
        """The conductor wants something else, and rings."""
        self.conductor.wanted = wanted
        self.agent.changed(wanted.generation)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    if made.threads:
        made.stop()


ONE = snapshot(view(member(1)), generation=5)


def test_what_the_conductor_wants_is_applied_reported_and_kept(host: Host) -> None:
    host.conductor.wanted = ONE
    host.start()
    until("the report", lambda: host.conductor.told() is not None)
    assert host.conductor.told() == Realization(
        POOL, 5, RealizationState.REALIZED, announcing=True
    )
    assert set(host.kernel.observe()) == {POOL}
    until("the file", lambda: SnapshotStore(host.directory).load() is not None)
    loaded = SnapshotStore(host.directory).load()
    assert loaded is not None
    assert loaded[0] == ONE


def test_a_doorbell_has_it_pulled_at_once(host: Host) -> None:
    host.start()
    until("the first pull", lambda: host.conductor.asked)
    host.wants(ONE)
    until("the pool", lambda: POOL in host.kernel.observe())
    host.wants(snapshot(generation=6))
    until("its end", lambda: POOL not in host.kernel.observe())


def test_a_doorbell_for_what_it_has_asks_for_nothing(host: Host) -> None:
    host.make()._take(ONE, Source.CONDUCTOR)
    host.agent.changed(5)
    assert not host.agent._bell.is_set()
    host.agent.changed(6)
    assert host.agent._bell.is_set()


def test_links_of_the_host_carry_programs_and_stand_in_the_inventory(host: Host) -> None:
    host.conductor.wanted = ONE
    host.start()
    until("the uplink's programs", host.kernel.ports)
    inventories = host.conductor.reports
    until("the inventory", lambda: any(r.inventory and r.inventory.uplinks for r in inventories))
    (uplink,) = next(
        r.inventory.uplinks for r in inventories if r.inventory and r.inventory.uplinks
    )
    assert (uplink.network, uplink.interface) == ("lan", "lo")


def test_a_new_director_announces_on_the_networks_link(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, bytes]] = []
    monkeypatch.setattr(announce, "send_frame", lambda name, frame: sent.append((name, frame)))
    host.conductor.wanted = ONE
    host.start()
    until("the announcement", lambda: sent)
    ((name, frame),) = sent
    assert name == "lo"
    assert frame[38:42] == view(member(1)).pool.address.packed


OFF = view(member(1, running=False), monitor=tcp_monitor())


def test_a_conductor_that_lost_its_tables_is_told_of_members_health_again(host: Host) -> None:
    host.conductor.wanted = snapshot(OFF)
    host.pull_interval = 0.2
    host.start()
    until("the health", lambda: host.conductor.health_of(1))
    host.conductor.reports.clear()
    until("it again", lambda: host.conductor.health_of(1))
    assert host.conductor.health_of(1) is Health.OFFLINE


def test_a_host_that_was_forgotten_tells_at_once_what_it_has(host: Host) -> None:
    host.conductor.wanted = ONE
    host.start()
    until("the uplink", lambda: any(r.inventory for r in host.conductor.reports))
    host.conductor.reports.clear()
    host.wants(replace(snapshot(generation=6), networks=()))
    until("it again", lambda: any(r.inventory for r in host.conductor.reports))


def test_without_a_conductor_it_comes_up_from_disk(host: Host) -> None:
    SnapshotStore(host.directory).save(ONE, time.time())
    host.conductor.is_away = True
    host.start()
    until("the pool", lambda: POOL in host.kernel.observe())
    until("a question", lambda: host.conductor.asked)
    assert set(host.conductor.asked) == {0}  # what came from disk must be confirmed


def test_an_old_snapshot_on_disk_adds_nothing(host: Host) -> None:
    SnapshotStore(host.directory).save(ONE, time.time() - 86401)
    host.conductor.is_away = True
    host.start()
    until("a question", lambda: host.conductor.asked)
    assert host.kernel.observe() == {}
    assert host.agent._queue._due == {}


def test_an_agent_that_starts_again_keeps_what_is_there_until_it_is_told(host: Host) -> None:
    host.conductor.wanted = ONE
    host.start()
    until("the pool", lambda: POOL in host.kernel.observe())
    host.stop()
    (host.directory / "snapshot.json").unlink()
    host.conductor.is_away = True
    asked = len(host.conductor.asked)
    host.start()
    until("a question", lambda: len(host.conductor.asked) > asked)
    assert set(host.kernel.observe()) == {POOL}


def test_a_disk_that_is_full_stops_nothing(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    (host.directory / "snapshot.tmp").mkdir()
    host.conductor.wanted = ONE
    host.start()
    until("the report", lambda: host.conductor.told() is not None)
    until("the warning", lambda: "snapshot=5 not saved" in caplog.text)


class Refusing(MemoryEngine):
    """Takes what is wanted, but refuses all upkeep."""

    refusals = 0

    def sweep(self) -> None:
        self.refusals += 1
        raise EngineError("The kernel refuses the sweep.")


def test_a_kernel_that_refuses_upkeep_does_not_end_the_agent(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_ROUND", 0.01)
    kernel = host.kernel = Refusing()
    host.start()
    until("a second try", lambda: kernel.refusals > 1)
    host.wants(ONE)
    until("the pool", lambda: host.conductor.told() is not None)
    assert all(thread.is_alive() for thread in host.threads)
    assert caplog.text.count("upkeep=sweep state=failing") == 1


def test_an_inventory_that_the_kernel_refuses_is_taken_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def refuse(revision: int) -> None:
        tried.append(revision)
        raise EngineError("The kernel does not tell the guests' addresses.")

    monkeypatch.setattr(agents, "_INVENTORY_INTERVAL", 0.01)
    monkeypatch.setattr(host.make()._inventory, "take", refuse)
    host.run()
    until("a second try", lambda: len(tried) > 1)
    assert all(thread.is_alive() for thread in host.threads)
    assert caplog.text.count("upkeep=inventory state=failing") == 1


class TestHealth:
    """What probes and the servers' states make of members, without any thread."""

    @pytest.fixture
    def agent(self, host: Host) -> Agent:
        return host.make()

    def _health(self, agent: Agent) -> dict[UUID, Health]:
        return {m: word.health for m, word in agent._reporter._health.items()}

    def test_a_member_whose_server_is_off_is_offline_by_that(self, agent: Agent) -> None:
        off = snapshot(view(member(1, running=False), monitor=tcp_monitor()))
        agent._take(off, Source.CONDUCTOR)
        (word,) = agent._reporter._health.values()
        assert (word.member_id, word.health) == (member_id(1), Health.OFFLINE)
        assert word.reason == "its server is switched off"

    def test_that_is_told_once(self, agent: Agent) -> None:
        off = view(member(1, running=False), monitor=tcp_monitor())
        agent._take(snapshot(off), Source.CONDUCTOR)
        agent._reporter._health.clear()
        agent._take(snapshot(off, generation=2), Source.CONDUCTOR)
        assert self._health(agent) == {}

    def test_and_again_after_it_was_on(self, agent: Agent) -> None:
        off = view(member(1, running=False), monitor=tcp_monitor())
        agent._take(snapshot(off), Source.CONDUCTOR)
        on = snapshot(view(member(1), monitor=tcp_monitor()), generation=2)
        agent._take(on, Source.CONDUCTOR)
        agent._reporter._health.clear()
        agent._take(snapshot(off, generation=3), Source.CONDUCTOR)
        assert self._health(agent) == {member_id(1): Health.OFFLINE}

    def test_a_verdict_is_reported_and_its_pool_is_looked_at(self, agent: Agent) -> None:
        agent._judged(agents.Verdict(member_id(1), POOL, Health.OFFLINE, "refuses"))
        assert self._health(agent) == {member_id(1): Health.OFFLINE}
        assert POOL in agent._queue._due


class TestQuestions:
    @pytest.fixture
    def agent(self, host: Host) -> Agent:
        return host.make()

    def test_stats(self, agent: Agent) -> None:
        answer = agent.ask("stats", {"pool_id": str(POOL)})
        assert answer == {"members": [], "rates": {}, "load": None}

    def test_events(self, agent: Agent) -> None:
        assert agent.ask("events", {}) == {}

    def test_anything_else_is_refused_with_what_there_is(self, agent: Agent) -> None:
        with pytest.raises(InvalidRequest, match="it answers stats, events, flows, explain"):
            agent.ask("weather", {})

    @pytest.mark.parametrize("args", [{}, {"pool_id": "x"}, {"pool_id": None}, {"pool_id": 5}])
    def test_a_question_without_a_pool_is_refused(
        self, agent: Agent, args: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidRequest, match="needs pool_id"):
            agent.ask("stats", args)
