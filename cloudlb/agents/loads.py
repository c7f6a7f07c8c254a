# SPDX-License-Identifier: Apache-2.0
"""How much this host has to do, once a second, and what others say of themselves.

For pools whose members' hosts decide by load who takes a new connection: see `model.load`.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from uuid import UUID

from cloudlb.agents.upkeep import Attempts
from cloudlb.engines.base import Engine
from cloudlb.model.load import PERIOD, Load, Measures
from cloudlb.model.snapshot import PoolView
from cloudlb.net import usage

LOG = logging.getLogger(__name__)

Loads = Mapping[str, Load]


class Scales:
    """Weighs this host by ``weights``; its ``limit`` is what it takes new connections up to.

    ``views`` are the pools that are wanted here. ``exchange`` tells the others of the host's load
    and gives theirs. ``changed`` hears of pools that may have to be given to another host.
    ``engine`` is used under ``lock``.
    """

    def __init__(
        self,
        host: str,
        weights: Measures,
        limit: float,
        engine: Engine,
        lock: threading.RLock,
        views: Callable[[], Mapping[UUID, PoolView]],
        exchange: Callable[[Load], Loads],
        changed: Callable[[UUID], None],
    ) -> None:
        self._host, self._weights, self._limit = host, weights, limit
        self._engine, self._lock, self._views = engine, lock, views
        self._exchange, self._changed = exchange, changed
        self._cpu = usage.cpu_time()
        self._passed_on = 0
        self._loads: dict[str, Load] = {}
        self._order: tuple[object, ...] = ()

    def loads(self) -> Loads:
        """This host's and those of the others that live, as last weighed; nothing before."""
        return self._loads

    def run(self, stopping: threading.Event) -> None:
        """Weigh each second until ``stopping``."""
        attempts = Attempts()
        while not stopping.wait(PERIOD):
            attempts.succeeds("loads", self.weigh)

    def weigh(self) -> None:
        """Look once, and say so where it matters."""
        pools = [v for v in self._views().values() if _goes_by_load(self._host, v)]
        if not pools:
            self._loads = {}
            return
        own = Load(self._measure(pools).weighed(self._weights), self._limit)
        self._loads = {**self._exchange(own), self._host: own}
        order = _order(self._host, self._loads)
        if order != self._order:
            LOG.debug("loads=%s", self._loads)
            self._order = order
            for view in pools:
                self._changed(view.pool.id)

    def _measure(self, pools: list[PoolView]) -> Measures:
        connections = passed_on = 0
        for view in pools:
            homes = {m.member.id: m.place.host for m in view.members if m.place}
            with self._lock:
                counted = self._engine.counters(view.pool.id)
            here = [c for c in counted if homes.get(c.member_id) == self._host]
            connections += sum(c.active for c in here)
            passed_on += sum(c.connections for c in counted) - sum(c.connections for c in here)
        before, self._cpu = self._cpu, usage.cpu_time()
        given, self._passed_on = max(0, passed_on - self._passed_on), passed_on
        cpu = self._cpu.percent_since(before)
        return Measures(connections, cpu, given, usage.tcp_sockets())


def _goes_by_load(host: str, view: PoolView) -> bool:
    pool = view.pool
    is_ours = not view.removing and pool.members_direct and host in pool.directors
    return is_ours and not pool.scheduler.is_hash


def _order(host: str, loads: Loads) -> tuple[object, ...]:
    """What of loads decides who takes a connection."""
    able = [name for name, load in loads.items() if load.has_room]
    if host in able:
        return (host,)
    return tuple(sorted(able, key=lambda name: (loads[name].value, name)))
