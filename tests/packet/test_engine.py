# SPDX-License-Identifier: Apache-2.0
"""The eBPF engine: what is in the kernel is the plane, and changes cost what they change."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cloudlb.model.dataplane import Algorithm, Plane
from cloudlb.model.errors import EngineError
from cloudlb.model.pool import Port, Protocol
from cloudlb.net.bpf.layout import DeliveryKey, MemberState, Number, pack_address
from tests.packet.conftest import Bench
from tests.packet.frames import tcp
from tests.planes import (
    PORTS,
    VIP4,
    backend,
    backends,
    both,
    compute,
    director,
    planes,
)
from tests.soak import count

POOL = director(()).pool_id
kernel = settings(
    max_examples=count(8, 300),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # looking at the kernel is slow
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def dump(bench: Bench) -> dict[str, object]:
    """All that planes are made of in the kernel."""
    names = ("ports", "vips", "services", "pools", "members", "deliveries")
    found: dict[str, object] = {
        name: {k: v for k, v in getattr(bench.maps, name).items() if any(v)} for name in names
    }
    return found | {"flows": sorted(bench.maps.flows.items())}


@contextmanager
def writes(bench: Bench) -> Iterator[Counter[str]]:
    """Elements written and deleted meanwhile, by map."""
    counted: Counter[str] = Counter()
    names = {getattr(bench.maps, n).fd: n for n in type(bench.maps).__slots__}
    libbpf = bench.programs.libbpf
    real = libbpf.update, libbpf.update_batch, libbpf.delete

    def update(fd: int, key: bytes, value: bytes) -> None:
        counted[names[fd]] += 1
        real[0](fd, key, value)

    def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
        counted[names[fd]] += count
        real[1](fd, keys, values, count)

    def delete(fd: int, key: bytes) -> None:
        counted[names[fd]] += 1
        real[2](fd, key)

    libbpf.update, libbpf.update_batch, libbpf.delete = update, update_batch, delete
    try:
        yield counted
    finally:
        libbpf.update, libbpf.update_batch, libbpf.delete = real


@kernel
@given(plane=planes())
def test_what_was_applied_is_observed(shared_bench: Bench, plane: Plane) -> None:
    _remove_all(shared_bench)
    shared_bench.apply(plane)
    assert shared_bench.engine.observe() == {plane.pool_id: plane}


@pytest.mark.requirement("L17")
@kernel
@given(
    story=st.lists(
        st.tuples(st.integers(1, 3), st.booleans(), planes(), st.booleans()), max_size=6
    )
)
def test_any_state_changes_into_any_other(
    shared_bench: Bench, story: list[tuple[int, bool, Plane, bool]]
) -> None:
    _remove_all(shared_bench)
    wanted: dict[object, Plane] = {}
    for pool, remove, plane, look in story:
        plane = replace(plane, pool_id=director((), pool=pool).pool_id, address=VIP4 + pool)
        wanted.pop(plane.pool_id, None)
        if not remove:
            wanted[plane.pool_id] = plane
        shared_bench.engine.apply(plane.pool_id, None if remove else plane)
        if look:
            assert shared_bench.engine.observe() == wanted
    assert shared_bench.engine.observe() == wanted
    _is_tidy(shared_bench, list(wanted.values()))


def _remove_all(bench: Bench) -> None:
    for pool_id in bench.engine.observe():
        bench.engine.apply(pool_id, None)


def _is_tidy(bench: Bench, wanted: list[Plane]) -> None:
    """Nothing is left of what is not wanted; slots lead to members that take connections."""
    backs = [b for p in wanted if p.frontend for b in p.frontend.backends]
    assert len(list(bench.maps.pools.items())) == len(wanted)
    ports = sum(len(p.frontend.ports) for p in wanted if p.frontend)
    assert len(list(bench.maps.services.items())) == ports
    used = {k.value: m for k, m in bench.maps.members.items() if m.state != MemberState.FREE}
    for pool in dict(bench.maps.pools.items()).values():
        if not any(p.frontend and p.pool_id.bytes == pool.id for p in wanted):
            continue
        slots = [bench.maps.slots[Number(pool.base + i)].value for i in range(pool.length)]
        eligible = {b.member_id.bytes for b in backs if b.eligible}
        assert {used[slot].id for slot in slots} <= eligible
        assert all(used[slot].state == MemberState.ACTIVE for slot in slots)


@pytest.mark.requirement("L18")
@kernel
@given(plane=planes())
def test_another_engine_on_the_same_pins_finds_the_same_and_writes_nothing(
    shared_bench: Bench, plane: Plane
) -> None:
    _remove_all(shared_bench)
    shared_bench.apply(plane)
    before = dump(shared_bench)
    other = shared_bench.reopen()
    try:
        with writes(replace(shared_bench, engine=other, programs=other._programs)) as written:
            assert other.observe() == {plane.pool_id: plane}
            other.apply(plane.pool_id, plane)
        assert written == Counter()
        assert dump(shared_bench) == before
    finally:
        other.close()


@pytest.mark.requirement("L18")
def test_another_engine_keeps_the_connections(bench: Bench) -> None:
    plane = director(backends(1, 2, 3))
    bench.apply(plane)
    chosen = [bench.direct(tcp("S", 40000 + n)) for n in range(6)]
    other = bench.reopen()
    other.apply(plane.pool_id, other.observe()[plane.pool_id])
    other.sweep()
    other.close()
    assert [bench.direct(tcp("A", 40000 + n)) for n in range(6)] == chosen


@pytest.mark.requirement("L18")
def test_another_engine_removes_what_is_stale(bench: Bench) -> None:
    bench.apply(both(director(backends(17, 2)), 17), compute(17, address=VIP4 + 1, pool=2))
    other = bench.reopen()
    for pool_id in other.observe():
        other.apply(pool_id, None)
    assert other.observe() == {}
    left = dump(bench)
    assert (left["vips"], left["services"], left["pools"], left["deliveries"]) == ({}, {}, {}, {})
    other.close()


@pytest.mark.requirement("L18")
def test_another_engine_knows_the_interfaces(bench: Bench) -> None:
    other = bench.reopen()
    assert other.ports() == {bench.uplink, bench.tap}
    other.close()


CHANGES: dict[str, tuple[Plane, dict[str, int]]] = {
    "nothing": (director(backends(1, 2, 3)), {}),
    "a member added": (
        director(backends(1, 2, 3, 4)),
        {"members": 1, "traffic": 1, "connections": 1, "slots": 4, "pools": 1},
    ),
    "the last member removed": (
        director(backends(1, 2)),
        {"members": 1, "slots": 2, "pools": 1},
    ),
    "a weight": (director([backend(1, 2), *backends(2, 3)]), {"members": 1}),
    "a member idle": (
        director([backend(1, idle=True), *backends(2, 3)]),
        {"members": 1, "slots": 2, "pools": 1},
    ),
    "a port opened": (
        director(backends(1, 2, 3), ports=(Port(Protocol.TCP, 443), *PORTS)),
        {"services": 1},
    ),
    "a port closed": (director(backends(1, 2, 3), ports=PORTS[:1]), {"services": 1}),
}


@pytest.fixture(scope="module", params=[0, 200], ids=["alone", "among 200 pools"])
def crowd(request: pytest.FixtureRequest, shared_bench: Bench) -> Bench:
    """A bench with other pools."""
    for pool in range(2, request.param + 2):
        shared_bench.apply(director(backends(1, 2), address=VIP4 + pool, pool=pool))
    return shared_bench


@pytest.mark.requirement("L17")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_writes_what_it_changes_and_no_more(crowd: Bench, change: str) -> None:
    crowd.engine.apply(POOL, None)
    crowd.apply(director(backends(1, 2, 3)))
    plane, expected = CHANGES[change]
    with writes(crowd) as written:
        crowd.apply(plane)
    assert written == Counter(expected)


@pytest.mark.requirement("L17")
def test_a_table_changes_only_where_clients_move(bench: Bench) -> None:
    bench.apply(director(backends(1, 2, 3), Algorithm.SOURCE_HASH))
    with writes(bench) as written:
        bench.apply(director(backends(1, 2, 3, 4), Algorithm.SOURCE_HASH))
    assert written == {"members": 1, "traffic": 1, "connections": 1, "slots": 16}


@pytest.mark.requirement("L17")
def test_a_new_rotation_stands_elsewhere_until_it_counts(bench: Bench) -> None:
    """A packet on its way reads the old rotation or the new one, never some of both."""
    bench.apply(director(backends(1, 2, 3)))
    ((_, old),) = bench.maps.pools.items()
    before = [bench.maps.slots[Number(old.base + i)] for i in range(old.length)]
    bench.apply(director(backends(3, 4)))
    ((_, new),) = bench.maps.pools.items()
    assert new.base != old.base
    assert [bench.maps.slots[Number(old.base + i)] for i in range(old.length)] == before


def test_regions_that_are_given_back_can_be_taken_again(bench: Bench) -> None:
    bases = set()
    for turn in range(12):
        bench.apply(director(backends(1, 2, 3 + turn % 2)))
        bench.engine.sweep()
        ((_, record),) = bench.maps.pools.items()
        bases.add(record.base)
    assert len(bases) <= 3


def test_a_pool_may_take_the_address_of_one_that_goes_later(bench: Bench) -> None:
    bench.apply(director(backends(1), pool=1), director(backends(2), pool=2))
    bench.engine.apply(director((), pool=1).pool_id, None)
    assert bench.direct(tcp()) == 2


def test_a_delivery_goes_with_its_member_even_if_the_tap_is_not_attached_again_yet(
    bench: Bench,
) -> None:
    bench.apply(compute(17))
    key = DeliveryKey(bench.tap, pack_address(VIP4))
    assert bench.maps.deliveries.get(key) is not None
    other = bench.reopen()
    other.apply(POOL, None)
    other.close()
    assert bench.maps.deliveries.get(key) is None


def test_a_delivery_goes_when_the_member_is_no_guest_of_the_host_any_more(bench: Bench) -> None:
    bench.apply(both(director(backends(17)), 17))
    bench.apply(director(backends(17)))
    assert bench.maps.deliveries.get(DeliveryKey(bench.tap, pack_address(VIP4))) is None


def test_a_plane_that_does_not_fit_is_refused_with_the_reason(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    for number in range(bench.maps.members.max_entries):
        bench.engine._mirror.member_numbers.claim(number)
    with pytest.raises(EngineError) as refusal:
        bench.apply(director(backends(1, 2)))
    assert "numbers are in use" in refusal.value.detail


def test_settling_removes_the_pins_of_other_versions(bench: Bench) -> None:
    root = bench.programs._root
    for name in ("programs-0123456789abcdef-1024", "programs-draft", "of-somebody-else"):
        (root / name).mkdir()
    bench.engine.settle()
    assert {path.name for path in root.iterdir()} == {
        bench.programs._pinned.name,
        bench.programs.pins.name,
        "of-somebody-else",
    }


def test_time_outs_are_in_the_kernel(bench: Bench) -> None:
    (limits,) = [record for _, record in bench.maps.settings.items()]
    per_second = limits.established / 900
    assert per_second in (100, 250, 300, 1000)
    times = (limits.opening, limits.established, limits.closing, limits.udp, limits.second)
    assert [n / per_second for n in times] == [60, 900, 120, 300, 1]
    assert (limits.first_alias, limits.aliases) == (61000, 4097)
