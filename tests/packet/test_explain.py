# SPDX-License-Identifier: Apache-2.0
"""What is said of a client's next packet is what then happens to it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlb.model.dataplane import Algorithm, Backend, Reason
from cloudlb.model.errors import EngineError
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence, Port, Protocol
from tests.packet.conftest import Bench
from tests.packet.frames import client_of, tcp
from tests.planes import PORTS, VIP4, VIP6, backend, backends, compute, director, member_id
from tests.soak import count

WEB = PORTS[0]
POOL = director(()).pool_id


def said(bench: Bench, vip: Address, client: Address, sport: int) -> int | None:
    """The number of the member that is foretold."""
    found = bench.engine.explain(POOL, client, sport, WEB).member_id
    return None if found is None else found.int & 0xFFFF


@settings(
    max_examples=count(40, 2000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    algorithm=st.sampled_from(Algorithm),
    vip=st.sampled_from((VIP4, VIP6)),
    weights=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    prefix=st.sampled_from((None, 8, 24, 31)),
    flows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=8, unique=True),
)
def test_the_next_packet_goes_where_it_was_said_to(
    bench: Bench,
    algorithm: Algorithm,
    vip: Address,
    weights: list[int],
    prefix: int | None,
    flows: list[tuple[int, int]],
) -> None:
    bench.clear()
    members = [backend(n, weight) for n, weight in enumerate(weights, 1)]
    persistence = Persistence(60, prefix) if prefix else None
    bench.apply(director(members, algorithm, vip, persistence=persistence))
    for number, sport in flows:
        client = client_of(vip, number)
        foretold = said(bench, vip, client, sport)
        assert bench.direct(tcp("S", sport, vip, client)) == foretold
        assert bench.direct(tcp("A", sport, vip, client)) == said(bench, vip, client, sport)


@pytest.mark.parametrize(
    ("members", "port", "reason"),
    [
        (backends(1, 2), WEB, Reason.TURN),
        (backends(1, 2), Port(Protocol.TCP, 81), Reason.NO_SERVICE),
        ((backend(1, 0),), WEB, Reason.NO_MEMBER),
    ],
)
def test_it_says_why(
    bench: Bench, members: tuple[Backend, ...], port: Port, reason: Reason
) -> None:
    bench.apply(director(members))
    found = bench.engine.explain(POOL, client_of(VIP4), 1, port)
    assert found.reason is reason
    assert found.detail


def test_a_host_that_does_not_direct_the_pool_says_so(bench: Bench) -> None:
    bench.apply(compute(1))
    with pytest.raises(EngineError, match="does not direct"):
        bench.engine.explain(POOL, client_of(VIP4), 1, WEB)


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_connections_are_listed_with_their_state(bench: Bench, vip: Address) -> None:
    bench.apply(director(backends(1, 2), address=vip))
    for sport in (1, 2):
        bench.direct(tcp("S", sport, vip))
    bench.direct(tcp("A", 2, vip))
    listed = sorted(bench.engine.flows(POOL, 10), key=lambda flow: flow.client_port)
    assert [(f.client_port, f.member_id, f.state.value) for f in listed] == [
        (1, member_id(1), "opening"),
        (2, member_id(2), "established"),
    ]
    assert all(f.client == client_of(vip) and f.port == WEB and f.idle < 5 for f in listed)
    assert len(bench.engine.flows(POOL, 1)) == 1


def test_other_pools_connections_are_not_listed(bench: Bench) -> None:
    bench.apply(director(backends(1)), director(backends(2), address=VIP4 + 1, pool=2))
    bench.direct(tcp("S", 1, VIP4 + 1))
    assert bench.engine.flows(POOL, 10) == ()
