# SPDX-License-Identifier: Apache-2.0
"""The agent's parts converge from any state, whatever fails on the way."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.agents.pools import Pools, Source
from cloudlb.drivers.dr import DirectRouting
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.dataplane import Plane
from cloudlb.model.errors import EngineError
from cloudlb.model.plain import decode, encode
from cloudlb.model.snapshot import PoolView, Realization, RealizationState, Snapshot
from tests.planes import member_id, planes
from tests.views import snapshots

DRIVER = DirectRouting()
states = st.dictionaries(st.integers(1, 4), st.just(None)).flatmap(
    lambda numbers: st.fixed_dictionaries({n: planes(pool=n) for n in numbers})
)
dead = st.sets(st.integers(100, 305)).map(lambda numbers: frozenset(map(member_id, numbers)))


class Moody(MemoryEngine):
    """An engine that refuses as often as it is told to."""

    refusals: Iterator[bool] = iter(())

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        if next(self.refusals, False):
            raise EngineError("refused")
        super().apply(pool_id, plane)


def _engine(state: dict[int, Plane]) -> Moody:
    engine = Moody()
    for plane in state.values():
        engine.apply(plane.pool_id, plane)
    return engine


def _agent(engine: MemoryEngine, said: list[Realization], announced: list[Plane]) -> Pools:
    return Pools(
        "d1",
        {"dr": DRIVER},
        engine,
        threading.RLock(),
        said.append,
        announced.append,
        lambda *_: None,
        lambda: 0.0,
    )


def _wanted(snapshot: Snapshot, down: frozenset[UUID]) -> dict[UUID, Plane]:
    """What a host without any connection must come to."""
    wanted: dict[UUID, Plane] = {}
    for view in snapshot.pools:
        judged = down if view.pool.monitor else frozenset()
        if plane := DRIVER.compile(_without_removed(view), "d1", judged):
            wanted[view.pool.id] = plane
    return wanted


def _without_removed(view: PoolView) -> PoolView:
    """Removed members stay at home only, and there until they are forgotten."""
    is_director = "d1" in view.pool.directors
    kept = tuple(
        m
        for m in view.members
        if not m.removing
        or (not is_director and m.placement is not None and m.placement.host == "d1")
    )
    return replace(view, members=kept)


def _work(pools: Pools, keys: Iterable[UUID]) -> None:
    """Reconcile like the queue: what failed comes again."""
    waiting = list(keys)
    while waiting:
        key = waiting.pop(0)
        try:
            pools.reconcile(key)
        except EngineError:
            waiting.append(key)


@pytest.mark.requirement("L18")
@given(states, snapshots(), dead, st.lists(st.booleans(), max_size=8))
def test_any_kernel_comes_to_any_snapshot_and_every_pool_is_told(
    state: dict[int, Plane], snapshot: Snapshot, down: frozenset[UUID], refusals: list[bool]
) -> None:
    said: list[Realization] = []
    engine = _engine(state)
    engine.refusals = iter(refusals)
    pools = _agent(engine, said, [])
    pools.set_down(down)
    _work(pools, pools.want(snapshot))
    wanted = _wanted(snapshot, down)
    assert engine.observe() == wanted
    told = {word.pool_id: word for word in said}
    for view in snapshot.pools:
        there = view.pool.id in wanted
        state_told = RealizationState.REALIZED if there else RealizationState.GONE
        word = Realization(view.pool.id, snapshot.generation, state_told)
        directs = there and view.pool.id in pools.directed()
        assert told[view.pool.id] == replace(word, announcing=directs)


@given(st.lists(snapshots(), min_size=1, max_size=5), st.data())
def test_the_last_of_many_snapshots_wins_in_whatever_order_the_work_is_done(
    story: list[Snapshot], data: st.DataObject
) -> None:
    engine, said = MemoryEngine(), []
    pools = _agent(engine, said, [])
    waiting: set[UUID] = set()
    for snapshot in story:
        waiting |= pools.want(snapshot)
        now = data.draw(st.sets(st.sampled_from(sorted(waiting)))) if waiting else set()
        _work(pools, now)
        waiting -= now
    _work(pools, waiting)
    assert engine.observe() == _wanted(story[-1], frozenset())
    last = {word.pool_id: word.generation for word in said}
    assert all(last[view.pool.id] == story[-1].generation for view in story[-1].pools)


@given(states, snapshots(), dead)
def test_an_expired_snapshot_neither_adds_nor_removes_nor_announces(
    state: dict[int, Plane], snapshot: Snapshot, down: frozenset[UUID]
) -> None:
    announced: list[Plane] = []
    engine = _engine(state)
    before = engine.observe()
    pools = _agent(engine, [], announced)
    _work(pools, pools.want(snapshot, Source.EXPIRED))
    pools.set_down(down)
    _work(pools, [*before, *pools.views()])
    after = engine.observe()
    assert set(after) == set(before)
    assert {p for p, plane in after.items() if plane.frontend} == {
        p for p, plane in before.items() if plane.frontend
    }
    assert announced == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn) -> object:
    """A snapshot's JSON with one of its parts replaced by something else."""
    whole = {"snapshot": encode(draw(snapshots()))}
    spots = list(_spots(whole))
    holder, key = draw(st.sampled_from(spots))
    holder[key] = draw(json_values)
    return whole["snapshot"]


def _spots(data: Any) -> Iterator[tuple[Any, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield data, key
        if isinstance(value, dict | list):
            yield from _spots(value)


@given(damaged())
def test_decoding_something_else_fails_as_callers_expect(data: object) -> None:
    with suppress(ValueError, TypeError, KeyError):
        decode(Snapshot, data)
