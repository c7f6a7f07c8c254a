# SPDX-License-Identifier: Apache-2.0
"""Source hashing: a client's address decides, and changes move as few clients as possible."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import Algorithm, Backend, Plane
from cloudlb.model.network import Address
from cloudlb.model.schedule import client_hash
from tests.packet.conftest import SEED, Bench
from tests.packet.frames import client_of, tcp
from tests.planes import NETWORK, PORTS, VIP4, VIP6, backend, backends, director
from tests.soak import count

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
CLIENTS = 64


def hashed(members: tuple[Backend, ...], vip: Address = VIP4) -> Plane:
    """A pool with source hashing."""
    return director(members, Algorithm.SOURCE_HASH, vip)


def choices(bench: Bench, vip: Address, clients: int = CLIENTS) -> list[int | None]:
    """The member of each client, asked without leaving a connection behind."""
    chosen = [bench.direct(tcp("S", vip=vip, client=client_of(vip, n))) for n in range(clients)]
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    return chosen


def reference(engine: MemoryEngine, vip: Address, clients: int = CLIENTS) -> list[int | None]:
    """The member that the engine without a kernel has for each client."""
    found = []
    for n in range(clients):
        connection = Connection(NETWORK, client_of(vip, n), 40000, vip, PORTS[0])
        member = engine.connect(connection, SEED)
        engine.close_connection(connection)
        found.append(None if member is None else member.int & 0xFFFF)
    return found


@pytest.mark.requirement("L8")
@FAMILIES
def test_clients_go_where_the_reference_says(bench: Bench, vip: Address) -> None:
    plane = hashed((backend(1), backend(2, 3), backend(3), backend(4, 0)), vip)
    memory = MemoryEngine()
    memory.apply(plane.pool_id, plane)
    bench.apply(plane)
    assert choices(bench, vip) == reference(memory, vip)


@pytest.mark.requirement("L8")
@settings(
    max_examples=count(25, 500),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=6, max_size=6),
        min_size=1,
        max_size=5,
    ),
    vip=st.sampled_from((VIP4, VIP6)),
)
def test_clients_go_where_the_reference_says_after_any_changes(
    bench: Bench, changes: list[list[tuple[int, bool]]], vip: Address
) -> None:
    memory = MemoryEngine()
    pool_id = hashed((), vip).pool_id
    bench.engine.apply(pool_id, None)
    for change in changes:
        members = tuple(
            backend(number, weight, idle=idle) for number, (weight, idle) in enumerate(change, 1)
        )
        plane = hashed((backend(9), *members), vip)
        memory.apply(pool_id, plane)
        bench.apply(plane)
        assert choices(bench, vip, 24) == reference(memory, vip, 24)


@FAMILIES
def test_all_connections_of_a_client_go_to_one_member(bench: Bench, vip: Address) -> None:
    bench.apply(hashed(backends(1, 2, 3), vip))
    assert len({bench.direct(tcp("S", sport=40000 + n, vip=vip)) for n in range(40)}) == 1


@FAMILIES
def test_the_seed_of_the_pool_decides_too(bench: Bench, vip: Address) -> None:
    assert client_hash(client_of(vip), SEED) != client_hash(client_of(vip), SEED + 1)
    bench.apply(hashed(backends(*range(1, 9)), vip))
    ((key, record),) = bench.maps.pools.items()
    before = choices(bench, vip)
    bench.maps.pools[key] = record._replace(seed=SEED + 1)
    assert choices(bench, vip) != before


@pytest.mark.requirement("L8")
def test_clients_are_shared_by_weight(bench: Bench) -> None:
    bench.apply(hashed((backend(1, 1), backend(2, 3))))
    counts = Counter(choices(bench, VIP4, 400))
    assert 2 < counts[2] / counts[1] < 4.5


@pytest.mark.requirement("L8")
def test_a_removed_members_clients_move_and_no_others(bench: Bench) -> None:
    bench.apply(hashed(backends(1, 2, 3, 4)))
    before = choices(bench, VIP4, 200)
    bench.apply(hashed(backends(1, 2, 4)))
    after = choices(bench, VIP4, 200)
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {3}
    assert 3 not in after


@pytest.mark.requirement("L8")
def test_an_added_member_takes_its_share_and_nobody_else_gains(bench: Bench) -> None:
    bench.apply(hashed(backends(1, 2, 3)))
    before_slots = _table(bench)
    before = choices(bench, VIP4, 200)
    bench.apply(hashed(backends(1, 2, 3, 4)))
    after = choices(bench, VIP4, 200)
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {4}
    moved = sum(old != new for old, new in zip(before_slots, _table(bench), strict=True))
    assert moved == len(before_slots) // 4


@pytest.mark.requirement("L8")
def test_clients_of_an_idle_member_come_back_to_it(bench: Bench) -> None:
    bench.apply(hashed(backends(1, 2)))
    before = choices(bench, VIP4)
    bench.apply(hashed((backend(1, idle=True), backend(2, idle=True))))
    assert set(choices(bench, VIP4)) == {None}
    bench.apply(hashed(backends(1, 2)))
    assert choices(bench, VIP4) == before


def _table(bench: Bench) -> list[int]:
    ((_, record),) = bench.maps.pools.items()
    slots = bench.maps.slots
    key = next(iter(slots.items()))[0]
    return [slots[key._replace(value=record.base + index)].value for index in range(record.length)]
