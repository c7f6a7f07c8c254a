# SPDX-License-Identifier: Apache-2.0
"""Round robin: each new connection goes to the next member."""

import os
import threading
from collections import Counter

import pytest

from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Number
from tests.packet.conftest import FLOWS, Bench
from tests.packet.frames import from_port, tcp, udp
from tests.planes import VIP4, VIP6, backend, backends, director

SYN = tcp()


@pytest.mark.requirement("L4")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_new_connections_go_to_the_members_in_their_order(bench: Bench, vip: Address) -> None:
    bench.apply(director(backends(3, 1, 2), address=vip))
    chosen = [bench.direct(tcp(sport=40000 + n, vip=vip)) for n in range(9)]
    assert chosen == [3, 1, 2] * 3


@pytest.mark.requirement("L4")
def test_datagrams_of_new_clients_take_turns_like_connections(bench: Bench) -> None:
    bench.apply(director(backends(1, 2)))
    assert [bench.direct(udp(sport=40000 + n)) for n in range(4)] == [1, 2, 1, 2]


@pytest.mark.requirement("L24")
def test_the_first_turn_is_the_earliest_members(bench: Bench) -> None:
    bench.apply(director([backend(9), backend(1), backend(5)]))
    assert bench.direct(tcp()) == 9


def test_members_of_weight_zero_and_idle_ones_have_no_turn(bench: Bench) -> None:
    members = [backend(1), backend(2, weight=0), backend(3, idle=True), backend(4)]
    bench.apply(director(members))
    assert [bench.direct(tcp(sport=40000 + n)) for n in range(4)] == [1, 4, 1, 4]


@pytest.mark.requirement("L4")
def test_the_counts_are_exact_over_a_thousand_connections(bench: Bench) -> None:
    bench.apply(director(backends(1, 2, 3)))
    frame = tcp()
    chosen = Counter(bench.direct(from_port(frame, 10000 + n)) for n in range(999))
    assert chosen == {1: 333, 2: 333, 3: 333}


@pytest.mark.requirement("L4")
def test_connections_arriving_on_two_cpus_at_once_are_shared_equally(bench: Bench) -> None:
    bench.apply(director(backends(1, 2, 3)))
    cpus = sorted(os.sched_getaffinity(0))
    frame = tcp()
    start = threading.Barrier(2)
    chosen: list[int | None] = []

    def connect(cpu: int, first_port: int) -> None:
        os.sched_setaffinity(0, {cpu})
        start.wait()
        chosen.extend([bench.direct(from_port(frame, first_port + n)) for n in range(500)])

    threads = [
        threading.Thread(target=connect, args=(cpu, port))
        for cpu, port in ((cpus[0], 10000), (cpus[-1], 20000))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(chosen)
    assert set(counts) == {1, 2, 3}
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.requirement("L4")
def test_no_turn_is_lost_or_given_twice_between_two_cpus(bench: Bench) -> None:
    """With a full flow table each run of the same SYN takes a turn: many in one system call."""
    bench.apply(director(backends(1, 2, 3)))
    for n in range(FLOWS):
        bench.direct(from_port(SYN, n))
    cpus = sorted(os.sched_getaffinity(0))
    start = threading.Barrier(2)

    def connect(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        start.wait()
        bench.run("director", from_port(SYN, 50000), bench.uplink, repeat=200_000)

    threads = [threading.Thread(target=connect, args=(cpu,)) for cpu in (cpus[0], cpus[-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.maps.tickets[Number(0)].value == FLOWS + 400_000


@pytest.mark.requirement("L4")
def test_each_pool_has_its_own_turn(bench: Bench) -> None:
    bench.apply(director(backends(1, 2), pool=1))
    bench.apply(director(backends(3, 4), pool=2, address=VIP4 + 1))
    chosen = [
        bench.direct(tcp(sport=40000 + n, vip=vip)) for n in range(2) for vip in (VIP4, VIP4 + 1)
    ]
    assert chosen == [1, 3, 2, 4]


def test_without_a_member_to_choose_the_connection_is_dropped_and_counted(bench: Bench) -> None:
    bench.apply(director([backend(1, idle=True)]))
    assert bench.direct(tcp()) is None
    assert bench.engine.events()["no_member"] == 1
