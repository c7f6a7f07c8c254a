# SPDX-License-Identifier: Apache-2.0
"""A pool may say itself when its connections are forgotten, at the director and at the taps."""

from dataclasses import replace

import pytest
from scapy.layers.inet import UDP

from cloudlb.engines.base import Timeouts as HostTimeouts
from cloudlb.model.network import Address
from cloudlb.model.pool import Timeouts
from cloudlb.net.bpf.layout import unpack_address
from tests.packet.conftest import Bench
from tests.packet.edge import opened
from tests.packet.frames import tcp, udp
from tests.planes import VIP4, VIP6, backends, director, translated

pytestmark = pytest.mark.requirement("L11")
FRAMES = {
    "opening": [tcp("S")],
    "established": [tcp("S"), tcp("A")],
    "closing": [tcp("S"), tcp("A"), tcp("FA")],
    "udp": [udp()],
}
STATES = pytest.mark.parametrize("state", FRAMES)


def swept(bench: Bench, after: int = 0, host: HostTimeouts | None = None) -> None:
    """Have an engine with these time-outs sweep, so many seconds later."""
    bench.age(after)
    engine = bench.reopen(host)
    engine.sweep()
    engine.close()


def remembered(bench: Bench) -> set[Address]:
    """The pools' addresses of all connections."""
    return {unpack_address(key.address) for key, _ in bench.maps.flows.items()}


@STATES
def test_a_pool_may_remember_longer_than_its_host(bench: Bench, state: str) -> None:
    plane = director(backends(1))
    bench.apply(replace(plane, timeouts=Timeouts(**{state: 100})))
    for frame in FRAMES[state]:
        bench.direct(frame)
    impatient = HostTimeouts(**{state: 0.0})
    swept(bench, 60, impatient)
    assert remembered(bench) == {VIP4}
    swept(bench, 40, impatient)
    assert remembered(bench) == set()


@STATES
def test_a_pool_may_forget_earlier_than_others(bench: Bench, state: str) -> None:
    bench.apply(
        replace(director(backends(1)), timeouts=Timeouts(**{state: 100})),
        director(backends(2), address=VIP6, pool=2),
    )
    for frame in FRAMES[state]:
        bench.direct(frame)
    bench.direct(udp(vip=VIP6))
    swept(bench, 100)
    assert remembered(bench) == {VIP6}


def test_another_time_goes_for_connections_that_there_are(bench: Bench) -> None:
    plane = director(backends(1))
    bench.apply(plane)
    bench.direct(udp())
    bench.apply(replace(plane, timeouts=Timeouts(udp=100)))
    swept(bench, 100)
    assert remembered(bench) == set()


def test_times_of_states_that_a_pool_does_not_name_are_the_hosts(bench: Bench) -> None:
    bench.apply(replace(director(backends(1)), timeouts=Timeouts(closing=100)))
    bench.direct(udp())
    swept(bench, 200)
    assert remembered(bench) == {VIP4}
    swept(bench, 100)
    assert remembered(bench) == set()


def test_sessions_at_the_tap_have_their_pools_time(bench: Bench) -> None:
    bench.apply(replace(translated(17, port=8080), timeouts=Timeouts(udp=100)))
    opened(bench, VIP4, UDP)
    swept(bench, 60)
    assert len(list(bench.maps.sessions.items())) == 1
    swept(bench, 40)
    assert not list(bench.maps.sessions.items())
