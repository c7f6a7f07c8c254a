# SPDX-License-Identifier: Apache-2.0
"""Pools on this host: from the snapshot, through the driver, into the engine."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from uuid import UUID

from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine
from cloudlb.model import desertion, load, succession
from cloudlb.model.dataplane import BackendState, Plane
from cloudlb.model.errors import CloudlbError
from cloudlb.model.load import Load
from cloudlb.model.snapshot import (
    MemberView,
    PoolView,
    Realization,
    RealizationState,
    Snapshot,
)

LOG = logging.getLogger(__name__)
_LOOK_AT_DRAIN = 1.0


class Source(Enum):
    """Where a view of what is wanted comes from, and so what it may change.

    The conductor's is complete. One from disk adds pools that are missing (the host has been
    booted) and lets those that are there follow their probes. An expired one does the latter only:
    its addresses may be elsewhere by now.
    """

    CONDUCTOR = "conductor"
    DISK = "disk"
    EXPIRED = "expired"


class Pools:
    """What is wanted of pools here, and the one method that brings one about.

    ``reconcile`` looks at what is wanted, what probes say and what the kernel has, whatever the
    reason for calling it was. ``engine`` is used under ``lock``. ``later(pool_id, seconds)`` asks
    for another call, ``realized`` hears the result, ``announce`` that this host has become the
    director of a plane's address. ``loads`` are those of the hosts that direct for each other, and
    ``shared`` hears that the kernel has begun to share a pool's connections.
    """

    def __init__(
        self,
        host: str,
        drivers: Mapping[str, DataPlaneDriver],
        engine: Engine,
        lock: threading.RLock,
        realized: Callable[[Realization], None],
        announce: Callable[[Plane], None],
        later: Callable[[UUID, float], None],
        clock: Callable[[], float] = time.monotonic,
        loads: Callable[[], Mapping[str, Load]] = dict,
        shared: Callable[[], None] = lambda: None,
    ) -> None:
        self._loads, self._shared = loads, shared
        self._host, self._drivers, self._engine, self._lock = host, drivers, engine, lock
        self._realized, self._announce, self._later = realized, announce, later
        self._clock = clock
        self._wanted: dict[UUID, PoolView] = {}
        self._generation = 0
        self._source = Source.CONDUCTOR
        self._down: frozenset[UUID] = frozenset()
        self._removed: dict[UUID, float] = {}
        self._kernel: dict[UUID, Plane] = engine.observe()
        self._unsure: set[UUID] = set()
        self._announcing: dict[UUID, bool] = {}
        self._suspects = self.idle_backends()

    def want(self, snapshot: Snapshot, source: Source = Source.CONDUCTOR) -> frozenset[UUID]:
        """Take a view; the pools to reconcile: those that have changed, and those to prune.

        Only the conductor's word removes anything: what is on disk may be older than what is in
        the kernel. See `Source`. All are reconciled when another source spoke before, or the
        conductor has begun to count anew.
        """
        with self._lock:
            old, self._wanted = self._wanted, {view.pool.id: view for view in snapshot.pools}
            goes_on = self._source is source and snapshot.generation >= self._generation
            self._removed = _removals(snapshot, self._clock())
            self._generation = snapshot.generation
            self._source = source
            if not goes_on:
                return self._all()
            same = {p for p, v in self._wanted.items() if v.generation and v == old.get(p)}
            return self._all() - same

    def set_down(self, members: frozenset[UUID], suspects: frozenset[UUID] = frozenset()) -> None:
        """Take note of the members that probes found dead; call `reconcile` for their pools.

        ``suspects`` get nothing new either, but if they are removed they drain like living ones.
        """
        with self._lock:
            self._down, self._suspects = members, suspects

    def idle_backends(self) -> frozenset[UUID]:
        """The members that get no new connections by what is in the kernel."""
        with self._lock:
            return frozenset(
                b.member_id
                for plane in self._kernel.values()
                for b in (plane.frontend.backends if plane.frontend else ())
                if b.state is not BackendState.ACTIVE
            )

    def directed(self) -> frozenset[UUID]:
        """The pools whose addresses this host answers for, by what is in the kernel."""
        with self._lock:
            return frozenset(p for p, plane in self._kernel.items() if plane.frontend)

    def said_wrongly(self) -> list[UUID]:
        """The pools of which the last word on who announces them is not true any more."""
        with self._lock:
            planes = [(p, self._kernel.get(p), said) for p, said in self._announcing.items()]
            return [p for p, plane, said in planes if plane and said != self._is_announced(plane)]

    def views(self) -> dict[UUID, PoolView]:
        """What is wanted now."""
        with self._lock:
            return dict(self._wanted)

    def resync(self) -> frozenset[UUID]:
        """Read the kernel anew; the pools to reconcile."""
        with self._lock:
            self._kernel = self._engine.observe()
            return self._all()

    def _all(self) -> frozenset[UUID]:
        wanted, there = frozenset(self._wanted), frozenset(self._kernel)
        if self._source is Source.CONDUCTOR:
            return wanted | there
        return wanted if self._source is Source.DISK else wanted & there

    def reconcile(self, pool_id: UUID) -> None:
        """Make the kernel agree with what is wanted of one pool, and say how far that went.

        Raises `CloudlbError` (after saying so) when the kernel refuses.
        """
        with self._lock:
            view = self._wanted.get(pool_id)
            generation = (view.generation if view else 0) or self._generation
            try:
                plane, draining = self._decide(view)
                if self._source is not Source.CONDUCTOR:
                    self._remember(pool_id, plane)
                    return
                self._bring_about(pool_id, plane)
            except CloudlbError as error:
                self._say(pool_id, generation, RealizationState.FAILING, error.message)
                raise
            announcing = plane is not None and self._is_announced(plane)
            self._announcing[pool_id] = announcing
            if plane is None:
                del self._announcing[pool_id]
        if view is not None:
            state = RealizationState.REALIZED if plane else RealizationState.GONE
            self._say(pool_id, generation, state, draining=draining, announcing=announcing)

    def _remember(self, pool_id: UUID, plane: Plane | None) -> None:
        """Bring about what can be known without the conductor, which hears nothing of it."""
        there = self._kernel.get(pool_id)
        if there is not None:
            self._bring_about(pool_id, _with_states_of(there, plane))
        elif plane is not None and self._source is Source.DISK:
            self._bring_about(pool_id, plane)

    def _decide(self, view: PoolView | None) -> tuple[Plane | None, tuple[UUID, ...]]:
        """The plane to bring about, and the members that still drain here."""
        if view is None:
            return None, ()
        kept = self._without_drained(view)
        down = self._down | self._suspects if view.pool.monitor else frozenset()
        plane = self._driver(view.pool.data_plane).compile(kept, self._host, down)
        if plane is None:
            return None, ()
        plane = desertion.after_deaths(plane, self._dead(kept), view.pool.down_action)
        homes = {m.member.id: m.place.host for m in kept.members if m.place}
        plane = load.borne(plane, homes, self._host, self._loads())
        plane = succession.after(plane, self._kernel.get(view.pool.id))
        if plane.frontend is None:
            return plane, ()
        return plane, tuple(m.member.id for m in kept.members if m.removing)

    def _dead(self, view: PoolView) -> frozenset[UUID]:
        """The members that probes found dead, or whose servers are off.

        One that an agent finds given up in the kernel is dead until it has answered.
        """
        off = {m.member.id for m in view.members if m.place and not m.place.running}
        before = desertion.given_up(self._kernel.get(view.pool.id)) & self._suspects
        return frozenset(self._down | before | off)

    def _bring_about(self, pool_id: UUID, plane: Plane | None) -> None:
        """Apply the pool's plane if the kernel has another."""
        old = self._kernel.get(pool_id)
        if plane != old or pool_id in self._unsure:
            self._unsure.add(pool_id)  # what is refused may be half done
            self._engine.apply(pool_id, plane)
            self._unsure.discard(pool_id)
            LOG.info("pool=%s state=%s", pool_id, "applied" if plane else "removed")
            if plane and self._is_announced(plane) and not (old and old.frontend):
                self._announce(plane)
            if _router(plane) not in (0, _router(old)):
                self._shared()
        if plane is None:
            self._kernel.pop(pool_id, None)
        else:
            self._kernel[pool_id] = plane

    def _is_announced(self, plane: Plane) -> bool:
        """Whether this host answers for the address: of several directors the elected one does."""
        return plane.frontend is not None and self._engine.announces(plane.frontend.router)

    def _driver(self, name: str) -> DataPlaneDriver:
        if name not in self._drivers:
            raise CloudlbError(
                f"Host {self._host} has no data plane {name!r}; it has "
                f"{', '.join(sorted(self._drivers))}. Install the driver's package there."
            )
        return self._drivers[name]

    def _without_drained(self, view: PoolView) -> PoolView:
        """The view without removed members that have no business here any more.

        A member's own host keeps it until the conductor has forgotten it: its guest may hold the
        address that long, and the guard must stay.
        """
        if not any(m.removing for m in view.members):
            return view
        counts = {c.member_id: c.active + c.inactive for c in self._engine.counters(view.pool.id)}
        kept = tuple(m for m in view.members if self._stays(view, m, counts))
        return replace(view, members=kept)

    def _stays(self, view: PoolView, m: MemberView, counts: Mapping[UUID, int]) -> bool:
        if not m.removing or view.removing:
            return True
        is_director = self._host in view.pool.directors
        is_here = m.place is not None and m.place.host == self._host
        if not is_director:
            return is_here
        return self._drains_on(view, m, counts)

    def _drains_on(self, view: PoolView, m: MemberView, counts: Mapping[UUID, int]) -> bool:
        """Whether a living removed member still has connections and time.

        The time is counted from its removal, wherever the agent was then: neither a restart nor
        a kernel that refuses to let it go gives it more.
        """
        alive = m.place is not None and m.place.running and m.member.id not in self._down
        if not alive or not counts.get(m.member.id):
            return False
        if self._clock() >= self._removed[m.member.id] + view.pool.drain_timeout:
            LOG.info("pool=%s member=%s state=drain-deadline", view.pool.id, m.member.id)
            return False
        self._later(view.pool.id, _LOOK_AT_DRAIN)
        return True

    def _say(
        self,
        pool_id: UUID,
        generation: int,
        state: RealizationState,
        reason: str = "",
        draining: tuple[UUID, ...] = (),
        announcing: bool = False,
    ) -> None:
        word = Realization(pool_id, generation, state, reason, draining, announcing=announcing)
        self._realized(word)


def _router(plane: Plane | None) -> int:
    return plane.frontend.router if plane and plane.frontend else 0


def _removals(snapshot: Snapshot, now: float) -> dict[UUID, float]:
    """When each removed member was removed, by the clock that says ``now``."""
    members = (m for view in snapshot.pools for m in view.members if m.removing)
    return {m.member.id: now - m.removed_for for m in members}


def _with_states_of(there: Plane, plane: Plane | None) -> Plane:
    """The plane that is there, with the states that another gives to the same backends."""
    if there.frontend is None or plane is None or plane.frontend is None:
        return there
    states = {b.member_id: b.state for b in plane.frontend.backends}
    backends = tuple(
        replace(b, state=states.get(b.member_id, b.state)) for b in there.frontend.backends
    )
    return replace(there, frontend=replace(there.frontend, backends=backends))
