# SPDX-License-Identifier: Apache-2.0
"""Pools on this host: from the snapshot, through the driver, into the engine."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine
from cloudlb.model.dataplane import Plane
from cloudlb.model.errors import CloudlbError
from cloudlb.model.snapshot import (
    MemberView,
    PoolView,
    Realization,
    RealizationState,
    Snapshot,
)

LOG = logging.getLogger(__name__)
_LOOK_AT_DRAIN = 1.0


@dataclass(frozen=True, slots=True)
class Drain:
    """A removed member that still has connections here, at most until ``deadline``."""

    pool_id: UUID
    member_id: UUID
    deadline: float


class Pools:
    """What is wanted of pools here, and the one method that brings one about.

    ``reconcile`` looks at what is wanted, what probes say and what the kernel has, whatever the
    reason for calling it was. ``engine`` is used under ``lock``. ``later(pool_id, seconds)`` asks
    for another call, ``realized`` hears the result, ``announce`` that this host has become the
    director of a plane's address.
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
    ) -> None:
        self._host, self._drivers, self._engine, self._lock = host, drivers, engine, lock
        self._realized, self._announce, self._later = realized, announce, later
        self._clock = clock
        self._wanted: dict[UUID, PoolView] = {}
        self._generation = 0
        self._adds = True
        self._down: frozenset[UUID] = frozenset()
        self._drains: dict[UUID, Drain] = {}
        self._kernel: dict[UUID, Plane] = engine.observe()

    def want(self, snapshot: Snapshot, adds: bool = True) -> frozenset[UUID]:
        """Take a complete view; the pools to reconcile, those to prune among them.

        Without ``adds`` (the view is too old to announce addresses by) pools are neither added
        to the kernel nor removed from it, but those that are there follow their probes.
        """
        with self._lock:
            self._wanted = {view.pool.id: view for view in snapshot.pools}
            removing = {m.member.id for v in snapshot.pools for m in v.members if m.removing}
            self._drains = {m: d for m, d in self._drains.items() if m in removing}
            self._generation = snapshot.generation
            self._adds = adds
            return self._all()

    def set_down(self, members: frozenset[UUID]) -> None:
        """Take note of the members that probes found dead; call `reconcile` for their pools."""
        with self._lock:
            self._down = members

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
        return wanted | there if self._adds else wanted & there

    def reconcile(self, pool_id: UUID) -> None:
        """Make the kernel agree with what is wanted of one pool, and say how far that went.

        Raises `CloudlbError` (after saying so) when the kernel refuses.
        """
        with self._lock:
            view, generation = self._wanted.get(pool_id), self._generation
            try:
                plane, draining = self._decide(view)
                if not self._adds and not _have_same_part(self._kernel.get(pool_id), plane):
                    return
                self._bring_about(pool_id, plane)
            except CloudlbError as error:
                self._say(pool_id, generation, RealizationState.FAILING, error.message)
                raise
        if view is not None:
            state = RealizationState.REALIZED if plane else RealizationState.GONE
            self._say(pool_id, generation, state, draining=draining)

    def _decide(self, view: PoolView | None) -> tuple[Plane | None, tuple[UUID, ...]]:
        """The plane to bring about, and the members that still drain here."""
        if view is None:
            return None, ()
        kept = self._without_drained(view)
        plane = self._driver(view.pool.data_plane).compile(kept, self._host, self._down)
        if plane is None or plane.frontend is None:
            return plane, ()
        return plane, tuple(m.member.id for m in kept.members if m.removing)

    def _bring_about(self, pool_id: UUID, plane: Plane | None) -> None:
        """Apply the pool's plane if the kernel has another."""
        old = self._kernel.get(pool_id)
        if plane != old:
            self._engine.apply(pool_id, plane)
            LOG.info("pool=%s state=%s", pool_id, "applied" if plane else "removed")
            if plane and plane.frontend and not (old and old.frontend):
                self._announce(plane)
        if plane is None:
            self._kernel.pop(pool_id, None)
        else:
            self._kernel[pool_id] = plane

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
        is_here = m.placement is not None and m.placement.host == self._host
        if not is_director:
            return is_here
        return self._drains_on(view, m, counts)

    def _drains_on(self, view: PoolView, m: MemberView, counts: Mapping[UUID, int]) -> bool:
        """Whether a living removed member still has connections and time.

        Its deadline stands until the member is forgotten or taken back: a kernel that refuses
        to let it go gives it no more time.
        """
        alive = m.placement is not None and m.placement.running and m.member.id not in self._down
        if not alive or not counts.get(m.member.id):
            return False
        drain = self._drains.setdefault(
            m.member.id,
            Drain(view.pool.id, m.member.id, self._clock() + view.pool.drain_timeout),
        )
        if self._clock() >= drain.deadline:
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
    ) -> None:
        self._realized(Realization(pool_id, generation, state, reason, draining))


def _have_same_part(old: Plane | None, new: Plane | None) -> bool:
    """Whether the host had a part in the pool and keeps it: directing or not."""
    return old is not None and new is not None and bool(old.frontend) == bool(new.frontend)
