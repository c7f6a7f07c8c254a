# SPDX-License-Identifier: Apache-2.0
"""What an agent tells Prometheus; counters are read from the kernel when it asks.

A member's packets are counted by its director towards it and by its own host from it: sums over
all hosts are the member's figures. Counters start anew when a member is added to a host.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloudlb.engines.base import Engine
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.errors import EngineError
from cloudlb.model.load import Load
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import PoolView

LOG = logging.getLogger(__name__)
_RETRY = 5.0
_OF_MEMBER = ("pool", "member")
_INFO = ("pool", "name", "network", "address", "data_plane", "scheduler")


@dataclass(frozen=True, slots=True)
class Standing:
    """How an agent stands: what it works by, and when it last heard of the conductor."""

    generation: int
    answered_at: float
    failing: int


class HostMetrics(Collector):
    """The metrics of one host. ``engine`` is used under ``lock``, a pool at a time."""

    def __init__(
        self,
        engine: Engine,
        lock: threading.RLock,
        views: Callable[[], Mapping[UUID, PoolView]],
        health: Callable[[], Mapping[UUID, Health]],
        standing: Callable[[], Standing],
        loads: Callable[[], Mapping[str, Load]],
    ) -> None:
        self._loads = loads
        self._engine, self._lock = engine, lock
        self._views, self._health, self._standing = views, health, standing

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on the pools."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics; those that the kernel does not tell are left out."""
        views = self._views()
        yield _pool_info(views)
        yield _members_up(views, self._health())
        yield from _standing(self._standing())
        yield from _weighed(self._loads())
        try:
            yield from _counters({pool_id: self._counters(pool_id) for pool_id in views})
            yield self._events()
        except EngineError as error:
            LOG.warning("metrics=counters state=failing: %s", error.detail)

    def _counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        with self._lock:
            return self._engine.counters(pool_id)

    def _events(self) -> Metric:
        with self._lock:
            counted = self._engine.events()
        found = CounterMetricFamily(
            "cloudlb_events",
            "Packets that were answered, dropped or rewritten, by reason.",
            labels=("reason",),
        )
        for reason, count in counted.items():
            found.add_metric((reason,), count)
        return found


def _pool_info(views: Mapping[UUID, PoolView]) -> Metric:
    found = GaugeMetricFamily("cloudlb_pool_info", "A pool of this host; always 1.", labels=_INFO)
    for pool_id, view in views.items():
        pool = view.pool
        names = pool.name, view.network.name, str(pool.address), pool.data_plane
        found.add_metric((str(pool_id), *names, pool.scheduler), 1)
    return found


def _members_up(views: Mapping[UUID, PoolView], health: Mapping[UUID, Health]) -> Metric:
    found = GaugeMetricFamily(
        "cloudlb_member_up",
        "What probes of this host say of a member: 1 online, 0 offline.",
        labels=_OF_MEMBER,
    )
    for pool_id, view in views.items():
        for member_id in (m.member.id for m in view.members):
            if health.get(member_id, Health.UNKNOWN) is not Health.UNKNOWN:
                is_up = health[member_id] is Health.ONLINE
                found.add_metric((str(pool_id), str(member_id)), is_up)
    return found


def _standing(standing: Standing) -> Iterator[Metric]:
    for name, text, value in (
        ("cloudlb_generation", "Generation of the snapshot worked by.", standing.generation),
        (
            "cloudlb_conductor_answered_timestamp_seconds",
            "When a conductor last answered; 0: never since the start.",
            standing.answered_at,
        ),
        (
            "cloudlb_pools_failing",
            "Pools whose last reconciliation failed; it is tried again.",
            standing.failing,
        ),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def _weighed(loads: Mapping[str, Load]) -> Iterator[Metric]:
    """What this host goes by: its own load, and what it has heard of others."""
    values = GaugeMetricFamily("cloudlb_load", "What a host has to do.", labels=("host",))
    limits = GaugeMetricFamily(
        "cloudlb_load_limit", "Load from which on a host takes nothing new.", labels=("host",)
    )
    for host, load in loads.items():
        values.add_metric((host,), load.value)
        limits.add_metric((host,), load.limit)
    yield from (values, limits)


def _counters(pools: Mapping[UUID, tuple[MemberCounters, ...]]) -> Iterator[Metric]:
    directions = (*_OF_MEMBER, "direction")
    total = CounterMetricFamily(
        "cloudlb_member_connections", "Connections chosen here for a member.", labels=_OF_MEMBER
    )
    current = GaugeMetricFamily(
        "cloudlb_member_connections_current",
        "Connections of a member now: active are established, inactive are all others.",
        labels=(*_OF_MEMBER, "state"),
    )
    packets = CounterMetricFamily(
        "cloudlb_member_packets", "Packets: in towards a member, out from it.", labels=directions
    )
    octets = CounterMetricFamily(
        "cloudlb_member_bytes", "Bytes: in towards a member, out from it.", labels=directions
    )
    for pool_id, members in pools.items():
        for one in members:
            names = str(pool_id), str(one.member_id)
            total.add_metric(names, one.connections)
            current.add_metric((*names, "active"), one.active)
            current.add_metric((*names, "inactive"), one.inactive)
            packets.add_metric((*names, "in"), one.packets_in)
            packets.add_metric((*names, "out"), one.packets_out)
            octets.add_metric((*names, "in"), one.bytes_in)
            octets.add_metric((*names, "out"), one.bytes_out)
    yield from (total, current, packets, octets)


class MetricsServer:
    """Serves metrics, and those of the process, by HTTP below any path."""

    def __init__(self, host: str, port: int, metrics: Collector) -> None:
        self._host, self._port = host, port
        self._registry = CollectorRegistry()
        self._registry.register(metrics)
        ProcessCollector(registry=self._registry)

    def run(self, stopping: threading.Event) -> None:
        """Serve until ``stopping``; an address that is taken is tried again."""
        is_told = False
        while not stopping.is_set():
            try:
                server, _ = start_http_server(self._port, self._host, self._registry)
            except OSError as error:
                if not is_told:
                    where = f"{self._host}:{self._port}"
                    LOG.warning("metrics=%s state=failing: %s", where, error)
                is_told = True
                stopping.wait(_RETRY)
                continue
            LOG.info("metrics=%s:%d state=serving", self._host, server.server_port)
            stopping.wait()
            server.shutdown()
            server.server_close()
