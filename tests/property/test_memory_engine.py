# SPDX-License-Identifier: Apache-2.0
"""The engine without a kernel converges and keeps connections, as the kernel's must."""

from dataclasses import replace
from ipaddress import IPv4Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import Algorithm, Plane
from tests.planes import NETWORK, PORTS, VIP4, backends, director, members, planes


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), planes()), max_size=12))
def test_any_state_changes_into_any_other(story: list[tuple[int, bool, Plane]]) -> None:
    engine = MemoryEngine()
    wanted: dict[UUID, Plane] = {}
    for pool, remove, plane in story:
        plane = replace(plane, pool_id=UUID(int=pool), address=VIP4 + pool)
        wanted.pop(plane.pool_id, None)
        if not remove:
            wanted[plane.pool_id] = plane
        engine.apply(plane.pool_id, None if remove else plane)
        assert engine.observe() == wanted


@pytest.mark.requirement("L9")
@given(
    st.lists(st.tuples(members(), st.sampled_from(Algorithm)), max_size=12),
    st.sampled_from(Algorithm),
)
def test_a_connection_stays_while_its_member_does(
    story: list[tuple[tuple, Algorithm]], first: Algorithm
) -> None:
    engine = MemoryEngine()
    connection = Connection(NETWORK, IPv4Address("198.51.100.9"), 40000, VIP4, PORTS[0])
    plane = director(backends(1, 2, 3), first)
    engine.apply(plane.pool_id, plane)
    had = engine.connect(connection)
    for others, scheduler in story:
        plane = director(others, scheduler)
        engine.apply(plane.pool_id, plane)
        has = engine.connect(connection)
        if had in {b.member_id for b in others}:
            assert has == had
        else:
            assert has in {b.member_id for b in others if b.eligible} | {None}
        had = has
