# SPDX-License-Identifier: Apache-2.0
"""Every scheduler chooses as the engine without a kernel does, and as the source says."""

import itertools
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import Algorithm, Backend
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from tests.packet.conftest import SEED, Bench
from tests.packet.frames import client_of, tcp, udp
from tests.planes import NETWORK, VIP4, VIP6, backend, backends, director
from tests.soak import count

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
DNS = Port(Protocol.UDP, 53)
LEAST = (Algorithm.LC_ACTIVE, Algorithm.LC_LVS, Algorithm.WLC_ACTIVE, Algorithm.WLC_LVS)
WEIGHTED_LEAST = (Algorithm.WLC_ACTIVE, Algorithm.WLC_LVS)

member_lists = st.lists(
    st.tuples(st.sampled_from((0, 1, 2, 3, 5)), st.booleans()), min_size=1, max_size=6
).map(lambda them: tuple(backend(n, w, idle=idle) for n, (w, idle) in enumerate(them, 1)))


def connect(bench: Bench, *ports: int, vip: Address = VIP4) -> list[int | None]:
    """The members of new connections from these ports."""
    return [bench.direct(tcp("S", sport, vip)) for sport in ports]


def establish(bench: Bench, *ports: int) -> None:
    """The clients' answers: their connections are active from now on."""
    for sport in ports:
        bench.direct(tcp("A", sport))


@settings(
    max_examples=count(60, 3000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    algorithm=st.sampled_from(Algorithm),
    stages=st.lists(st.tuples(member_lists, st.integers(1, 12)), min_size=1, max_size=4),
    vip=st.sampled_from((VIP4, VIP6)),
)
@pytest.mark.requirement("L5")
@pytest.mark.requirement("L6")
@pytest.mark.requirement("L7")
@pytest.mark.requirement("L8")
def test_new_flows_go_where_the_reference_says(
    bench: Bench,
    algorithm: Algorithm,
    stages: list[tuple[tuple[Backend, ...], int]],
    vip: Address,
) -> None:
    memory = MemoryEngine()
    bench.clear()
    ports = itertools.count(40000)
    for members, flows in stages:
        plane = director(members, algorithm, vip)
        memory.apply(plane.pool_id, plane)
        bench.apply(plane)
        for sport in itertools.islice(ports, flows):
            connection = Connection(NETWORK, client_of(vip), sport, vip, DNS)
            member = memory.connect(connection, SEED)
            chosen = bench.direct(udp(sport, vip))
            assert chosen == (None if member is None else member.int & 0xFFFF)


@pytest.mark.requirement("L5")
@FAMILIES
def test_weights_4_3_2_take_turns_interleaved(bench: Bench, vip: Address) -> None:
    weighted = (backend(1, 4), backend(2, 3), backend(3, 2))
    bench.apply(director(weighted, Algorithm.WRR_INTERLEAVED, vip))
    assert connect(bench, *range(40000, 40018), vip=vip) == [1, 2, 3, 1, 2, 3, 1, 2, 1] * 2


@pytest.mark.requirement("L6")
@pytest.mark.parametrize("algorithm", LEAST)
def test_the_member_with_the_fewest_connections_is_next(
    bench: Bench, algorithm: Algorithm
) -> None:
    bench.apply(director(backends(1, 2, 3), algorithm))
    for sport, member in ((1, 1), (2, 2), (3, 3), (4, 1)):
        assert connect(bench, sport) == [member]
        establish(bench, sport)
    bench.direct(tcp("R", 3))
    assert connect(bench, 5) == [3]


@pytest.mark.requirement("L24")
def test_connections_that_only_open_do_not_count_as_active(bench: Bench) -> None:
    bench.apply(director(backends(1, 2), Algorithm.LC_ACTIVE))
    assert connect(bench, 1, 2, 3) == [1, 1, 1]
    establish(bench, 1)
    assert connect(bench, 4) == [2]


@pytest.mark.requirement("L24")
def test_by_lvs_formula_connections_that_only_open_count_a_little(bench: Bench) -> None:
    bench.apply(director(backends(1, 2), Algorithm.LC_LVS))
    assert connect(bench, 1, 2, 3) == [1, 2, 1]
    establish(bench, 2)
    assert connect(bench, 4, 5, 6) == [1, 1, 1]


@pytest.mark.requirement("L7")
@pytest.mark.parametrize("algorithm", WEIGHTED_LEAST)
def test_connections_are_in_proportion_to_the_weights(bench: Bench, algorithm: Algorithm) -> None:
    bench.apply(director((backend(1, 1), backend(2, 3)), algorithm))
    chosen = Counter()
    for sport in range(1, 401):
        chosen.update(connect(bench, sport))
        establish(bench, sport)
    assert chosen == {1: 100, 2: 300}


@pytest.mark.requirement("L7")
@pytest.mark.parametrize("algorithm", Algorithm)
def test_no_scheduler_gives_new_connections_to_a_weight_of_zero(
    bench: Bench, algorithm: Algorithm
) -> None:
    bench.apply(director((backend(1, 0), backend(2)), algorithm))
    assert set(connect(bench, *range(1, 40))) == {2}


@pytest.mark.requirement("L6")
def test_a_thousand_members_are_all_compared(bench: Bench) -> None:
    bench.apply(director(backends(*range(1, 1001)), Algorithm.LC_LVS))
    assert connect(bench, *range(1, 1024)) == [*range(1, 1001), *range(1, 24)]


@pytest.mark.requirement("L8")
@pytest.mark.parametrize("algorithm", [Algorithm.FLOW_HASH, Algorithm.MAGLEV])
def test_connections_of_one_client_are_shared(bench: Bench, algorithm: Algorithm) -> None:
    bench.apply(director(backends(1, 2, 3), algorithm))
    counts = Counter(connect(bench, *range(1, 901)))
    assert set(counts) == {1, 2, 3}
    assert max(counts.values()) < 1.4 * min(counts.values())


@pytest.mark.requirement("L8")
@pytest.mark.parametrize("algorithm", [Algorithm.FLOW_HASH, Algorithm.MAGLEV])
def test_packets_without_state_find_the_member_of_their_connection(
    bench: Bench, algorithm: Algorithm
) -> None:
    bench.apply(director(backends(1, 2, 3, 4), algorithm))
    first = connect(bench, *range(1, 101))
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    assert [bench.direct(tcp("A", sport)) for sport in range(1, 101)] == first


@pytest.mark.requirement("L8")
def test_a_member_that_leaves_moves_only_its_own_flows(bench: Bench) -> None:
    bench.apply(director(backends(1, 2, 3, 4), Algorithm.FLOW_HASH))
    before = connect(bench, *range(1, 301))
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    bench.apply(director(backends(1, 2, 4), Algorithm.FLOW_HASH))
    after = connect(bench, *range(1, 301))
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {3}
