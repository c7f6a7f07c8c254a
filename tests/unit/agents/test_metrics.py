# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets of an agent."""

import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cloudlb.agents import metrics
from cloudlb.agents.metrics import HostMetrics, MetricsServer, Standing
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.errors import EngineError
from cloudlb.model.load import Load
from cloudlb.model.pool import Health
from tests.planes import member_id
from tests.views import member, view

POOL = UUID(int=1)
COUNTED = MemberCounters(member_id(1), 7, 2, 1, 70, 7000, 60, 60000)

Samples = dict[tuple[str, ...], float]


class Kernel(MemoryEngine):
    """One member with fixed counters."""

    refuses = False

    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        if self.refuses:
            raise EngineError("The kernel refuses its counters.", "no map")
        return (COUNTED,)

    def events(self) -> dict[str, int]:
        return {"no_service": 3}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def host(kernel: Kernel) -> HostMetrics:
    health = {member_id(1): Health.ONLINE, member_id(2): Health.OFFLINE}
    views = {POOL: view(member(1), member(2), member(3))}
    standing = Standing(generation=5, answered_at=1234.5, failing=1)
    loads = {"c1": Load(3, 10), "c2": Load(4.5, 20)}
    return HostMetrics(
        kernel,
        threading.RLock(),
        lambda: views,
        lambda: health,
        lambda: standing,
        lambda: loads,
    )


def samples(text: str) -> Samples:
    """Values by name and the values of all labels but the pool, in the labels' order."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (v for k, v in sorted(sample.labels.items()) if k != "pool")
            found[(sample.name, *labels)] = sample.value
    return found


def scrape(host: HostMetrics) -> Samples:
    registry = CollectorRegistry()
    registry.register(host)
    return samples(generate_latest(registry).decode())


def test_a_members_counters_are_told_by_direction_and_state(host: HostMetrics) -> None:
    found, one = scrape(host), str(member_id(1))
    assert found["cloudlb_member_connections_total", one] == 7
    assert found["cloudlb_member_connections_current", one, "active"] == 2
    assert found["cloudlb_member_connections_current", one, "inactive"] == 1
    assert found["cloudlb_member_packets_total", "in", one] == 70
    assert found["cloudlb_member_packets_total", "out", one] == 60
    assert found["cloudlb_member_bytes_total", "in", one] == 7000
    assert found["cloudlb_member_bytes_total", "out", one] == 60000


def test_members_are_up_or_down_once_they_were_judged(host: HostMetrics) -> None:
    up = {key[1]: value for key, value in scrape(host).items() if key[0] == "cloudlb_member_up"}
    assert up == {str(member_id(1)): 1, str(member_id(2)): 0}


def test_dropped_packets_are_told_by_reason(host: HostMetrics) -> None:
    assert scrape(host)["cloudlb_events_total", "no_service"] == 3


def test_a_pool_is_told_by_its_names(host: HostMetrics) -> None:
    names = ("192.0.2.101", "dr", "pool1", "lan", "round_robin")
    assert ("cloudlb_pool_info", *names) in scrape(host)


@pytest.mark.requirement("D11")
def test_the_loads_that_a_host_goes_by_are_told(host: HostMetrics) -> None:
    found = scrape(host)
    assert [found["cloudlb_load", name] for name in ("c1", "c2")] == [3, 4.5]
    assert [found["cloudlb_load_limit", name] for name in ("c1", "c2")] == [10, 20]


def test_how_the_agent_stands_is_told(host: HostMetrics) -> None:
    found = scrape(host)
    assert found[("cloudlb_generation",)] == 5
    assert found[("cloudlb_conductor_answered_timestamp_seconds",)] == 1234.5
    assert found[("cloudlb_pools_failing",)] == 1


def test_what_the_kernel_does_not_tell_is_left_out(host: HostMetrics, kernel: Kernel) -> None:
    kernel.refuses = True
    names = {key[0] for key in scrape(host)}
    assert "cloudlb_generation" in names
    assert "cloudlb_member_packets_total" not in names


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port that another process listens at."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder


def test_a_port_that_is_taken_is_told_once_and_tried_again(
    host: HostMetrics,
    taken: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(metrics, "_RETRY", 0.01)
    port, stopping = taken.getsockname()[1], threading.Event()
    server = MetricsServer("127.0.0.1", port, host)
    thread = threading.Thread(target=server.run, args=(stopping,))
    thread.start()
    try:
        _wait_for(caplog, "state=failing")
        taken.close()
        _wait_for(caplog, "state=serving")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert samples(answer.read().decode())[("cloudlb_generation",)] == 5
    finally:
        stopping.set()
        thread.join(15)
    assert caplog.text.count("state=failing") == 1


def _wait_for(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + 15
    while text not in caplog.text:
        assert time.monotonic() < deadline, f"{text} was not logged"
        time.sleep(0.005)
