# SPDX-License-Identifier: Apache-2.0
"""The director against a model of it, over any sequence of packets and changes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlb.model.network import Address
from tests.packet.conftest import Bench
from tests.packet.frames import DROP, PASS, REDIRECT
from tests.packet.model import Director, Sent
from tests.planes import PORTS, VIP4, VIP6, backend, director
from tests.soak import count

VIPS = {VIP4: 1, VIP6: 2}
SERVICES = frozenset((port.protocol.value, port.port) for port in PORTS)

rarely = st.sampled_from((False,) * 9 + (True,))
packets = st.builds(
    Sent,
    protocol=st.sampled_from(("tcp", "tcp", "tcp", "udp", "echo", "icmp", "other")),
    vip=st.sampled_from(tuple(VIPS)),
    client=st.integers(0, 2),
    sport=st.sampled_from((1, 40000, 65535)),
    dport=st.sampled_from((80, 80, 53, 81)),
    flags=st.sampled_from(("S", "S", "SA", "A", "PA", "FA", "R", "RA", "")),
    to_host=rarely.map(lambda odd: not odd),
    vlan=rarely,
    fragment=rarely,
    elsewhere=rarely,
    payload=st.binary(max_size=9),
)
changes = st.tuples(
    st.sampled_from(tuple(VIPS)), st.dictionaries(st.integers(1, 5), st.booleans(), max_size=4)
)


@pytest.mark.requirement("L4")
@pytest.mark.requirement("L9")
@settings(
    max_examples=count(200, 5000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.one_of(packets, packets, packets, changes), max_size=30))
def test_the_director_does_what_the_model_says(
    shared_bench: Bench, steps: list[Sent | tuple[Address, dict[int, bool]]]
) -> None:
    model = _start(shared_bench)
    for step in steps:
        if isinstance(step, Sent):
            assert _verdict(shared_bench, step) == model.verdict(step), step
        else:
            _apply(shared_bench, *step)
            model.change(*step)


def _start(bench: Bench) -> Director:
    """Both with the same two pools, no connections, and the first member's turn."""
    for vip, pool in VIPS.items():
        bench.engine.apply(director((), pool=pool).pool_id, None)
        _apply(bench, vip, {1: True, 2: True, 3: True})
    bench.engine.sweep()
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    for key, record in bench.maps.pools.items():
        bench.maps.tickets[key] = bench.maps.tickets[key]._replace(value=0)
        assert record.length == 3
    return Director({vip: dict.fromkeys((1, 2, 3), True) for vip in VIPS}, SERVICES)


def _apply(bench: Bench, vip: Address, members: dict[int, bool]) -> None:
    listed = [backend(number, idle=not takes) for number, takes in members.items()]
    bench.apply(director(listed, address=vip, pool=VIPS[vip]))


def _verdict(bench: Bench, packet: Sent) -> int | str:
    frame = packet.frame()
    result, out = bench.run("director", frame, bench.uplink)
    if result == REDIRECT and out[26:] != frame[26:]:
        return "answer"
    if result == REDIRECT:
        return int.from_bytes(out[4:6])
    assert result in (PASS, DROP)
    return "pass" if result == PASS else "drop"
