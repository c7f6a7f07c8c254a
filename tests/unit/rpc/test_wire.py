# SPDX-License-Identifier: Apache-2.0
"""Conductor and agent talk over a real bus, which is in this process."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg

from cloudlb import conf as configuration
from cloudlb.model.errors import (
    CloudlbError,
    Conflict,
    EngineError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
)
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import HealthReport, Realization, RealizationState, Report, Snapshot
from cloudlb.rpc import client
from cloudlb.rpc.client import AgentClient, ConductorClient
from cloudlb.rpc.context import ContextSerializer, RequestContext
from cloudlb.rpc.doorbell import doorbell
from cloudlb.rpc.server import serve_agent, serve_conductor
from tests.planes import member_id
from tests.views import member, pool, snapshot, tcp_monitor, view

SNAPSHOT = snapshot(view(member(1), member(2, removing=True), monitor=tcp_monitor()))
REPORT = Report(
    3,
    (Realization(pool().id, 3, RealizationState.FAILING, "busy", (member_id(2),)),),
    None,
    (HealthReport(member_id(1), Health.OFFLINE, "refuses", 9),),
)


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> cfg.ConfigOpts:
    """The bus is in this process; the host is d1."""
    file = tmp_path_factory.mktemp("rpc") / "cloudlb.conf"
    file.write_text("[DEFAULT]\nhost = d1\ntransport_url = kombu+inprocess://\n")
    return configuration.load(["--config-file", str(file)], "cloudlb-tests")


class Conductor:
    """Has one snapshot and remembers what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.told: list[tuple[str, Report]] = []
        self.error: Exception | None = None

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        self.asked.append((host, have_generation))
        if self.error:
            raise self.error
        return SNAPSHOT if have_generation != SNAPSHOT.generation else None

    def report(self, host: str, report: Report) -> None:
        self.told.append((host, report))


class Agent:
    """Remembers doorbells and repeats questions."""

    def __init__(self) -> None:
        self.rung: queue.Queue[int] = queue.Queue()
        self.error: Exception | None = None

    def changed(self, generation: int) -> None:
        self.rung.put(generation)

    def ask(self, question: str, args: dict[str, Any]) -> Any:
        if self.error:
            raise self.error
        return {"question": question, **args}


@pytest.fixture(scope="module")
def bus(conf: cfg.ConfigOpts) -> Iterator[tuple[Conductor, Agent]]:
    """A conductor and the agent of d1 that answer; to stop them takes a second each."""
    conductor, agent = Conductor(), Agent()
    stopping = threading.Event()
    servers = [serve_conductor(conf, conductor), serve_agent(conf, agent)]
    threads = [threading.Thread(target=server.run, args=(stopping,)) for server in servers]
    for thread in threads:
        thread.start()
    _wait_for(conf)
    yield conductor, agent
    stopping.set()
    for thread in threads:
        thread.join(20)


def _wait_for(conf: cfg.ConfigOpts) -> None:
    """What is asked before anybody listens is lost."""
    for attempt in range(5):
        try:
            ConductorClient(conf, timeout=2).get_desired("d1", 0)
            AgentClient(conf).ask("d1", "ready", {}, timeout=2)
        except Unavailable:
            assert attempt < 4, "nobody answers on the bus"
        else:
            return


@pytest.fixture
def conductor(bus: tuple[Conductor, Agent]) -> Conductor:
    """One that answers on the bus and was asked nothing yet."""
    bus[0].__init__()  # type: ignore[misc]
    return bus[0]


@pytest.fixture
def agent(bus: tuple[Conductor, Agent]) -> Agent:
    """The agent of d1, on the bus; it was asked nothing yet."""
    bus[1].__init__()  # type: ignore[misc]
    return bus[1]


def test_a_snapshot_arrives_as_it_was_sent(conf: cfg.ConfigOpts, conductor: Conductor) -> None:
    assert ConductorClient(conf).get_desired("d1", 0) == SNAPSHOT
    assert conductor.asked == [("d1", 0)]


def test_who_has_the_current_snapshot_gets_none(
    conf: cfg.ConfigOpts, conductor: Conductor
) -> None:
    assert ConductorClient(conf).get_desired("d1", SNAPSHOT.generation) is None


def test_a_report_arrives_as_it_was_sent(conf: cfg.ConfigOpts, conductor: Conductor) -> None:
    ConductorClient(conf).report("d1", REPORT)
    assert conductor.told == [("d1", REPORT)]


def test_a_conductor_that_fails_is_unavailable(
    conf: cfg.ConfigOpts, conductor: Conductor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    conductor.error = RuntimeError("the database is locked")
    with pytest.raises(Unavailable) as caught:
        ConductorClient(conf).get_desired("d1", 0)
    assert caught.value.message == "The conductor does not answer."
    assert "the database is locked" in caught.value.detail


def test_a_conductor_that_is_not_there_is_unavailable(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONDUCTOR", "nobody")
    with pytest.raises(Unavailable, match="The conductor does not answer"):
        ConductorClient(conf, timeout=0.2).get_desired("d1", 0)


def test_a_doorbell_is_heard(conf: cfg.ConfigOpts, agent: Agent) -> None:
    AgentClient(conf).changed("d1", 7)
    assert agent.rung.get(timeout=10) == 7


def test_a_question_is_answered(conf: cfg.ConfigOpts, agent: Agent) -> None:
    answer = AgentClient(conf).ask("d1", "stats", {"pool_id": "x"}, timeout=10)
    assert answer == {"question": "stats", "pool_id": "x"}


def test_an_agent_that_is_not_there_is_unavailable(conf: cfg.ConfigOpts, agent: Agent) -> None:
    with pytest.raises(Unavailable, match="agent of host d9 does not answer"):
        AgentClient(conf).ask("d9", "stats", {}, timeout=0.2)


@pytest.mark.parametrize("refusal", [InvalidRequest, Unsupported, NotFound, Conflict, Forbidden])
def test_what_an_agent_refuses_is_the_error_that_it_is(
    conf: cfg.ConfigOpts,
    agent: Agent,
    refusal: type[CloudlbError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent.error = refusal("An agent does not answer that.")
    with pytest.raises(refusal) as caught:
        AgentClient(conf).ask("d1", "nonsense", {}, timeout=10)
    assert type(caught.value) is refusal
    assert caught.value.message == "An agent does not answer that."
    assert "host d1" in caught.value.detail
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("error", [RuntimeError("no map"), EngineError("no map")])
def test_an_agent_that_fails_at_a_question_is_unavailable(
    conf: cfg.ConfigOpts, agent: Agent, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    agent.error = error
    with pytest.raises(Unavailable) as caught:
        AgentClient(conf).ask("d1", "stats", {}, timeout=10)
    assert caught.value.message == "The agent of host d1 does not answer."
    assert caught.value.detail == f"EndpointError: {type(error).__name__}: no map"


def until(holds: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_that_hangs_is_given_up_and_too_many_are_refused() -> None:
    bounded, bus = client.Bounded(1), threading.Event()
    with pytest.raises(TimeoutError):
        bounded.within(0.05, bus.wait)
    with pytest.raises(TimeoutError, match="too many"):
        bounded.within(5, lambda: 1)
    bus.set()
    until(lambda: bounded._places._value == 1)
    assert bounded.within(5, lambda: 1) == 1


class TestDoorbell:
    """Ringing may fail; it is told when it begins and when it ends."""

    class Bells:
        def __init__(self) -> None:
            self.rung: list[tuple[str, int]] = []
            self.error: Exception | None = None
            self.refused = 0
            self.bus = threading.Event()
            self.bus.set()

        def changed(self, host: str, generation: int) -> None:
            self.bus.wait(20)
            if self.error:
                self.refused += 1
                raise self.error
            self.rung.append((host, generation))

    def test_every_host_is_rung(self) -> None:
        bells: Any = self.Bells()
        doorbell(bells)({"d1": 7, "c1": 3})
        until(lambda: sorted(bells.rung) == [("c1", 3), ("d1", 7)])

    def test_who_rings_does_not_wait_for_a_bus_that_hangs(self) -> None:
        bells: Any = self.Bells()
        bells.bus = threading.Event()
        ring = doorbell(bells)
        for generation in range(1, 100):
            ring({"d1": generation})
        assert bells.rung == []
        bells.bus.set()
        until(lambda: bells.rung and bells.rung[-1] == ("d1", 99))
        assert len(bells.rung) <= 2, "only the newest generation is kept"

    def test_a_bus_that_is_down_is_told_once_and_its_return_too(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "cloudlb.rpc.doorbell")
        bells: Any = self.Bells()
        ring = doorbell(bells)
        bells.error = Unavailable("y", "x")
        ring({"d1": 7, "c1": 7})
        until(lambda: bells.refused == 2)
        bells.error = None
        ring({"d1": 9})
        until(lambda: bells.rung == [("d1", 9)])
        until(lambda: len(caplog.records) == 2)
        assert [record.getMessage() for record in caplog.records] == [
            "bus=down cause=x; agents pull by themselves",
            "bus=up",
        ]


def test_the_context_travels_with_its_request_id() -> None:
    serializer = ContextSerializer()
    context = RequestContext(request_id="req-1", user_id="u", project_id="p", roles=["reader"])
    arrived = serializer.deserialize_context(serializer.serialize_context(context))
    assert isinstance(arrived, RequestContext)
    assert (arrived.request_id, arrived.user_id, arrived.project_id, arrived.roles) == (
        "req-1",
        "u",
        "p",
        ["reader"],
    )
