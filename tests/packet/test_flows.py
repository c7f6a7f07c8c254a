# SPDX-License-Identifier: Apache-2.0
"""Connections keep their member for life, and are forgotten when they are over."""

import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlb.engines.base import Timeouts
from cloudlb.model.dataplane import Algorithm, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from tests.packet.conftest import FLOWS, Bench
from tests.packet.frames import DROP, from_port, tcp, udp
from tests.planes import PORTS, VIP4, VIP6, backend, backends, director, member_id
from tests.soak import count

CHANGES: dict[str, Plane] = {
    "member added": director(backends(1, 2, 3, 4)),
    "member added in front": director(backends(9, 1, 2, 3)),
    "other members removed": director(backends(1)),
    "order reversed": director(backends(3, 2, 1)),
    "weights changed": director([backend(1, 7), backend(2, 0), backend(3, 100)]),
    "weight zero": director([backend(1, 0), *backends(2, 3)]),
    "idle": director([backend(1, idle=True), *backends(2, 3)]),
    "all idle": director([backend(n, idle=True) for n in (1, 2, 3)]),
    "other scheduler": director(backends(1, 2, 3), Algorithm.SOURCE_HASH),
    "port closed": director(backends(1, 2, 3), ports=(Port(Protocol.TCP, 443),)),
}


@pytest.fixture
def established(bench: Bench) -> Bench:
    """A bench with members 1, 2 and 3 where port 40000 has a connection with member 1."""
    bench.apply(director(backends(1, 2, 3)))
    assert [bench.direct(tcp("S")), bench.direct(tcp("A"))] == [1, 1]
    return bench


@pytest.mark.requirement("L9")
@pytest.mark.parametrize("change", CHANGES)
def test_an_established_connection_stays_when(established: Bench, change: str) -> None:
    established.apply(CHANGES[change])
    established.engine.sweep()
    assert established.direct(tcp("PA", payload=b"more")) == 1


@pytest.mark.requirement("L9")
@settings(
    max_examples=count(60, 3000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.lists(st.sampled_from(sorted(CHANGES)), max_size=12))
def test_an_established_connection_stays_whatever_changes_in_any_order(
    established: Bench, changes: list[str]
) -> None:
    for change in changes:
        established.apply(CHANGES[change])
        assert established.direct(tcp("A")) == 1


@pytest.mark.requirement("L9")
def test_connections_of_both_families_and_protocols_stay_apart(bench: Bench) -> None:
    bench.apply(
        director(backends(1, 2, 3, 4)), director(backends(5, 6, 7, 8), address=VIP6, pool=2)
    )
    openers = [
        *(tcp("S", 40000 + n) for n in range(2)),
        *(udp(40000 + n) for n in range(2)),
        *(tcp("S", 40000 + n, VIP6) for n in range(2)),
        *(udp(40000 + n, VIP6) for n in range(2)),
    ]
    assert [bench.direct(frame) for frame in openers] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [bench.direct(frame) for frame in openers] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_syn_sent_again_goes_to_the_same_member_and_counts_once(bench: Bench) -> None:
    bench.apply(director(backends(1, 2)))
    assert [bench.direct(tcp("S")) for _ in range(3)] == [1, 1, 1]
    first, second = bench.engine.counters(director(()).pool_id)
    assert (first.connections, first.inactive, second.connections) == (1, 1, 0)


@pytest.mark.parametrize("end", ["FA", "R"])
def test_a_port_used_again_after_the_end_is_a_new_connection(established: Bench, end: str) -> None:
    established.direct(tcp(end))
    assert established.direct(tcp("S")) == 2


@pytest.mark.requirement("L9")
@pytest.mark.parametrize("change", [None, "idle"])
def test_a_late_syn_is_for_the_connection_that_it_once_opened(
    established: Bench, change: str | None
) -> None:
    """Its member knows better than to begin anew, also one that takes no new connections."""
    if change:
        established.apply(CHANGES[change])
    assert [established.direct(tcp(flags)) for flags in ("S", "PA", "S", "A")] == [1, 1, 1, 1]


def test_a_syn_does_not_keep_a_connection_alive(established: Bench) -> None:
    (key, flow), *_ = established.maps.flows.items()
    established.maps.flows[key] = flow._replace(seen=flow.seen - 100)
    established.direct(tcp("S"))
    assert established.maps.flows[key].seen == flow.seen - 100


@pytest.mark.requirement("L9")
def test_a_syn_for_a_member_that_may_be_dead_begins_anew_after_seconds(
    established: Bench,
) -> None:
    established.apply(CHANGES["idle"])
    established.age(5)
    assert established.direct(tcp("S")) in (2, 3)


def test_a_connection_that_has_ended_still_gets_its_last_packets(established: Bench) -> None:
    assert [established.direct(tcp(flags)) for flags in ("FA", "A", "R")] == [1, 1, 1]


def test_a_syn_and_ack_is_no_new_connection(established: Bench) -> None:
    assert established.direct(tcp("SA")) == 1


@pytest.mark.requirement("L9")
def test_an_idle_member_keeps_its_connection_and_gets_no_new_one(established: Bench) -> None:
    established.apply(CHANGES["idle"])
    new = [established.direct(tcp("S", 50000 + n)) for n in range(6)]
    assert set(new) == {2, 3}
    assert established.direct(tcp("A")) == 1


def test_a_connection_opening_towards_a_member_that_became_idle_starts_elsewhere(
    bench: Bench,
) -> None:
    bench.apply(director(backends(1, 2)))
    assert bench.direct(tcp("S")) == 1
    bench.apply(director([backend(1, idle=True), backend(2)]))
    assert bench.direct(tcp("S")) == 2


def test_connections_of_a_removed_member_are_forgotten_by_the_sweep(established: Bench) -> None:
    established.apply(director(backends(2, 3)))
    established.engine.sweep()
    assert not list(established.maps.flows.items())


def test_connections_of_a_removed_member_go_on_at_another_before_the_sweep(
    established: Bench,
) -> None:
    established.apply(director(backends(2, 3)))
    assert established.direct(tcp("A")) in (2, 3)


@pytest.mark.requirement("L9")
def test_a_member_with_a_used_number_gets_no_connection_of_the_one_before(
    established: Bench,
) -> None:
    number = _number_of(established, 1)
    established.apply(director(backends(2, 3)))
    established.engine.observe()  # sweeps, and gives numbers from the lowest again
    established.apply(director([*backends(2, 3), backend(7, 0)]))
    assert _number_of(established, 7) == number
    assert established.direct(tcp("A")) in (2, 3)


def test_a_number_is_not_given_again_while_connections_refer_to_it(established: Bench) -> None:
    number = _number_of(established, 1)
    established.apply(director(backends(2, 3)))
    established.engine._mirror.member_numbers._next = number
    established.apply(director(backends(2, 3, 7)))
    assert _number_of(established, 7) != number


def _number_of(bench: Bench, member: int) -> int:
    wanted = member_id(member).bytes
    return next(k.value for k, m in bench.maps.members.items() if m.id == wanted and m.state)


@pytest.fixture
def full(bench: Bench) -> Callable[[int], bytes]:
    """A bench whose flow table is full of established connections; SYNs from further ports."""
    bench.apply(director(backends(1, 2, 3)))
    for n in range(FLOWS):
        bench.direct(from_port(tcp("S"), n) if n == 0 else from_port(_SYN, n))
        bench.direct(from_port(_ACK, n))
    assert len(list(bench.maps.flows.items())) == FLOWS
    return lambda n: from_port(_SYN, 20000 + n)


_SYN, _ACK = tcp("S"), tcp("A")


@pytest.mark.requirement("L11")
def test_a_full_table_keeps_the_established_connections(
    bench: Bench, full: Callable[[int], bytes]
) -> None:
    for n in range(200):
        bench.direct(full(n))
    bench.apply(director(backends(1, 2, 3, 4)))
    chosen = [bench.direct(from_port(_ACK, n)) for n in range(FLOWS)]
    assert chosen == list(itertools.islice(itertools.cycle((1, 2, 3)), FLOWS))


@pytest.mark.requirement("L11")
def test_connections_beyond_a_full_table_are_sent_consistently(
    bench: Bench, full: Callable[[int], bytes]
) -> None:
    first = [bench.direct(full(n)) for n in range(60)]
    again = [bench.direct(from_port(_ACK, 20000 + n)) for n in range(60)]
    assert set(first) == {1, 2, 3}
    assert again == first
    assert bench.engine.events()["table_full"] == 120


def test_a_port_used_again_finds_its_place_in_a_full_table(
    bench: Bench, full: Callable[[int], bytes]
) -> None:
    bench.direct(from_port(tcp("FA"), 5))
    bench.direct(from_port(_SYN, 5))
    assert bench.engine.events()["table_full"] == 0
    assert len(list(bench.maps.flows.items())) == FLOWS


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        ([tcp("S")], "opening"),
        ([tcp("S"), tcp("A")], "established"),
        ([tcp("S"), tcp("A"), tcp("FA")], "closing"),
        ([udp()], "udp"),
    ],
    ids=["opening", "established", "closing", "udp"],
)
@pytest.mark.requirement("L11")
def test_a_connection_is_forgotten_after_the_time_of_its_state(
    bench: Bench, frames: list[bytes], state: str
) -> None:
    bench.apply(director(backends(1, 2)))
    for frame in frames:
        bench.direct(frame)
    _swept_with(bench, {other: 0.0 for other in _STATES if other != state})
    assert len(list(bench.maps.flows.items())) == 1
    _swept_with(bench, {state: 0.0})
    assert not list(bench.maps.flows.items())
    assert bench.engine.counters(director(()).pool_id)[0].active == 0
    assert bench.engine.counters(director(()).pool_id)[0].inactive == 0


_STATES = ("opening", "established", "closing", "udp")


def _swept_with(bench: Bench, limits: dict[str, float]) -> None:
    """The programs' time-outs are those of the engine that was opened last; others are long."""
    other = bench.reopen(Timeouts(**{state: limits.get(state, 1e6) for state in _STATES}))
    other.sweep()
    other.close()


@pytest.mark.requirement("L11")
def test_a_packet_starts_the_time_of_its_connection_anew(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.direct(udp())
    ((_, first),) = bench.maps.flows.items()
    time.sleep(0.02)
    bench.direct(udp())
    ((_, second),) = bench.maps.flows.items()
    assert second.seen > first.seen


@pytest.mark.requirement("L16")
@pytest.mark.parametrize(
    ("flags", "active", "inactive"),
    [
        ("S", 0, 1),
        ("S A", 1, 0),
        ("S A PA", 1, 0),
        ("S A FA", 0, 1),
        ("S A FA A", 0, 1),
        ("S R", 0, 1),
        ("S A FA S A", 1, 0),
    ],
)
def test_connections_count_as_active_while_established(
    bench: Bench, flags: str, active: int, inactive: int
) -> None:
    bench.apply(director(backends(1)))
    for each in flags.split():
        bench.direct(tcp(each))
    (counters,) = bench.engine.counters(director(()).pool_id)
    assert (counters.active, counters.inactive) == (active, inactive)
    assert counters.connections == flags.split().count("S")


@pytest.mark.requirement("L16")
def test_a_connection_opened_in_vain_is_not_uncounted(established: Bench) -> None:
    established.apply(CHANGES["all idle"])
    established.age(5)
    for _ in range(3):
        result, _ = established.run("director", tcp("S"), established.uplink)
        assert result == DROP
    first = established.engine.counters(director(()).pool_id)[0]
    assert (first.active, first.inactive) == (1, 0)


def test_closing_a_port_leaves_the_others_open(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.apply(director(backends(1), ports=PORTS[:1]))
    assert bench.direct(tcp("S")) == 1
    assert bench.direct(udp()) is None


def test_an_unknown_pool_has_no_counters(bench: Bench) -> None:
    assert bench.engine.counters(director((), pool=99).pool_id) == ()


def test_a_pool_that_is_gone_forwards_nothing(established: Bench) -> None:
    established.engine.apply(director(()).pool_id, None)
    assert established.direct(tcp("A")) is None
    assert established.direct(tcp("S", 50000)) is None


def test_another_address_is_not_the_pools(bench: Bench) -> None:
    other: Address = VIP4 + 1
    bench.apply(director(backends(1)))
    assert bench.direct(tcp(vip=other)) is None
