# SPDX-License-Identifier: Apache-2.0
"""Connections that a director tells of, and those that it takes over from another one."""

from dataclasses import replace

import pytest

from cloudlb.engines.base import Sharer
from cloudlb.model.dataplane import Algorithm, FlowState
from cloudlb.model.eastwest import FlowEntry
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import ModeNumber, pack_address
from tests.packet.conftest import REDIRECTED, UPLINK_MAC, Bench
from tests.packet.frames import client_of, tcp, udp
from tests.planes import VIP4, VIP6, backend, backends, director, member_id

ROUTER = 9
OTHER = Mac("02:00:00:00:00:02")
THIRD = Mac("02:00:00:00:00:03")
OPENING, ESTABLISHED, CLOSING = 0, 1, 2


def shared(*numbers: int, vip: Address = VIP4) -> object:
    """A pool of several directors that takes turns."""
    return director(backends(*numbers), address=vip, router=ROUTER)


def sharer(bench: Bench) -> Sharer:
    assert bench.engine.sharing
    return bench.engine.sharing


def told(bench: Bench) -> list[tuple[int, int, int]]:
    """Client's port, member and state of the connections that are news."""
    return [
        (int.from_bytes(e.client_port), int.from_bytes(e.member[-2:]), e.state)
        for e in sharer(bench).news()
    ]


def entry(
    member: int, sport: int = 40000, state: int = ESTABLISHED, idle: int = 0, vip: Address = VIP4
) -> FlowEntry:
    """A connection of the client as another director tells of it."""
    return FlowEntry(
        pool=(1).to_bytes(16),
        client=pack_address(client_of(vip)),
        client_port=sport.to_bytes(2),
        port=(80).to_bytes(2),
        protocol=6,
        state=state,
        mode=0,
        alias=0,
        idle=idle,
        member=member_id(member).bytes,
    )


def counted(bench: Bench) -> dict[int, tuple[int, int]]:
    """Active and inactive connections of each member."""
    counters = bench.engine.counters(director(()).pool_id)
    return {c.member_id.int & 0xFFFF: (c.active, c.inactive) for c in counters}


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_a_connection_is_told_when_it_begins_and_when_its_state_changes(
    bench: Bench, vip: Address
) -> None:
    bench.apply(shared(1, vip=vip))
    seen = []
    for flags in ("S", "S", "A", "PA", "A", "FA", "A"):
        bench.direct(tcp(flags, vip=vip))
        seen.append(told(bench))
    changes = [(40000, 1, OPENING)], [(40000, 1, ESTABLISHED)], [(40000, 1, CLOSING)]
    assert seen == [changes[0], [], changes[1], [], [], changes[2], []]


def test_datagrams_are_told_once(bench: Bench) -> None:
    bench.apply(shared(1))
    for _ in range(3):
        bench.direct(udp())
    assert [state for _, _, state in told(bench)] == [3]


def test_connections_of_a_pool_with_one_director_are_told_to_nobody(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.direct(tcp("S"))
    assert told(bench) == []
    assert list(sharer(bench).all(60.0)) == []


def test_all_connections_are_told_with_their_age(bench: Bench) -> None:
    bench.apply(shared(1, 2))
    for sport in (40000, 40001):
        bench.direct(tcp("S", sport=sport))
    everything = {int.from_bytes(e.client_port): e for e in sharer(bench).all(60.0)}
    assert everything.keys() == {40000, 40001}
    assert everything[40000] == entry(1, state=OPENING)


@pytest.mark.requirement("L14")
def test_a_connection_with_a_packet_while_all_are_read_is_told_as_young(bench: Bench) -> None:
    """Its packet is later than the moment from which ages are counted."""
    bench.apply(shared(1))
    bench.direct(tcp("S"))
    bench.age(-2)
    assert [told.idle for told in sharer(bench).all(60.0)] == [0]
    (flow,) = bench.engine.flows(director(()).pool_id, 10)
    assert flow.idle == 0


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("algorithm", [Algorithm.ROUND_ROBIN, Algorithm.LC_ACTIVE])
def test_a_connection_goes_on_where_another_director_has_it(
    bench: Bench, vip: Address, algorithm: Algorithm
) -> None:
    bench.apply(director(backends(1, 2, 3, 4), algorithm, vip, router=ROUTER))
    sharer(bench).adopt([entry(1 + n % 4, 40000 + n, vip=vip) for n in range(100)])
    goes = [bench.direct(tcp("PA", sport=40000 + n, vip=vip)) for n in range(100)]
    assert goes == [1 + n % 4 for n in range(100)]


@pytest.mark.requirement("L14")
def test_counts_of_connections_are_taken_over_with_them(bench: Bench) -> None:
    bench.apply(director(backends(1, 2), Algorithm.LC_ACTIVE, router=ROUTER))
    sharer(bench).adopt([entry(1, 40000 + n) for n in range(5)])
    sharer(bench).adopt([entry(2, 41000, OPENING)])
    assert counted(bench) == {1: (5, 0), 2: (0, 1)}
    assert bench.direct(tcp("S", sport=50000)) == 2


def test_the_same_connection_told_again_counts_once(bench: Bench) -> None:
    bench.apply(shared(1, 2))
    for state in (OPENING, OPENING, ESTABLISHED, CLOSING):
        sharer(bench).adopt([entry(1, state=state)])
    assert sum(map(sum, counted(bench).values())) == 1


def test_what_is_known_better_here_stays(bench: Bench) -> None:
    bench.apply(shared(1, 2))
    chosen = bench.direct(tcp("S"))
    other = 2 if chosen == 1 else 1
    sharer(bench).adopt([entry(other, idle=30)])
    assert bench.direct(tcp("PA")) == chosen


def test_connections_of_members_and_pools_that_are_not_known_are_left_alone(
    bench: Bench,
) -> None:
    bench.apply(shared(1))
    unknown = replace_pool(entry(1))
    sharer(bench).adopt([entry(7), unknown, entry(1, 40001)])
    assert [f.client_port for f in bench.engine.flows(director(()).pool_id, 10)] == [40001]


def replace_pool(told: FlowEntry) -> FlowEntry:
    return told._replace(pool=(99).to_bytes(16))


def test_a_pool_with_one_director_takes_nothing_over(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    sharer(bench).adopt([entry(1)])
    assert bench.engine.flows(director(()).pool_id, 10) == ()


def test_a_connection_keeps_the_mode_that_it_began_with(bench: Bench) -> None:
    bench.apply(director(backends(1), router=ROUTER))
    sharer(bench).adopt([entry(1)._replace(mode=ModeNumber.TUN)])
    assert [told.mode for told in sharer(bench).all(60)] == [ModeNumber.TUN]


def test_states_and_ages_are_kept(bench: Bench) -> None:
    bench.apply(shared(1))
    sharer(bench).adopt([entry(1, state=CLOSING, idle=20)])
    (flow,) = bench.engine.flows(director(()).pool_id, 10)
    assert flow.state is FlowState.CLOSING
    assert 20 <= flow.idle < 40


@pytest.mark.requirement("L9")
def test_a_connection_to_a_member_that_takes_no_new_ones_is_taken_over(bench: Bench) -> None:
    bench.apply(director((backend(1, idle=True), backend(2)), router=ROUTER))
    sharer(bench).adopt([entry(1)])
    assert bench.direct(tcp("PA")) == 1


def known_by(bench: Bench, seconds: float = 60.0, silent: float = 0.0) -> None:
    """Another director may know what is not known here."""
    sharer(bench).befriend(ROUTER, OTHER, [OTHER, THIRD], silent, seconds)


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("algorithm", [Algorithm.ROUND_ROBIN, Algorithm.WLC_ACTIVE])
def test_a_packet_of_a_connection_that_is_not_known_goes_to_the_other_director(
    bench: Bench, vip: Address, algorithm: Algorithm
) -> None:
    bench.apply(director(backends(1, 2), algorithm, vip, router=ROUTER))
    known_by(bench)
    result, frame = bench.run("director", tcp("PA", vip=vip), bench.uplink)
    assert (result, frame[:6], frame[6:12]) == (REDIRECTED, OTHER.packed, UPLINK_MAC.packed)
    assert bench.engine.flows(director(()).pool_id, 10) == ()
    assert bench.engine.events()["passed_on"] == 1


def direct_or_pass(bench: Bench, frame: bytes) -> int:
    """The member that gets a frame, 0 for the other director."""
    result, sent = bench.run("director", frame, bench.uplink)
    assert result == REDIRECTED
    return 0 if sent[:6] == OTHER.packed else sent[5]


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_ports_that_are_used_again_at_the_other_director_are_its_affair(
    bench: Bench, vip: Address
) -> None:
    """It has told of the closing connection, and not yet of the one that came after it."""
    bench.apply(shared(1, 2, vip=vip))
    sharer(bench).adopt([entry(2, state=CLOSING, vip=vip)])
    known_by(bench)
    assert direct_or_pass(bench, tcp("PA", vip=vip)) == 0
    sharer(bench).adopt([entry(1, state=OPENING, vip=vip)])
    assert direct_or_pass(bench, tcp("PA", vip=vip)) == 1


def test_a_connection_that_is_half_closed_goes_on_when_the_other_director_is_dead(
    bench: Bench,
) -> None:
    bench.apply(shared(1, 2))
    sharer(bench).adopt([entry(2, state=CLOSING)])
    known_by(bench, silent=4.0)
    assert direct_or_pass(bench, tcp("A")) == 2


def test_a_connection_that_closes_here_stays_here(bench: Bench) -> None:
    bench.apply(shared(1, 2))
    sharer(bench).adopt([entry(2)])
    known_by(bench)
    assert [direct_or_pass(bench, tcp(flags)) for flags in ("A", "FA", "A")] == [2, 2, 2]


def test_a_new_connection_is_for_the_one_that_gets_it(bench: Bench) -> None:
    bench.apply(shared(1))
    known_by(bench)
    assert bench.direct(tcp("S")) == 1
    assert bench.direct(tcp("A")) == 1


def test_what_the_other_director_does_not_know_either_does_not_circle(bench: Bench) -> None:
    bench.apply(shared(1))
    known_by(bench)
    frame = tcp("PA")
    for sender in (OTHER, THIRD):  # that one asks us, whom we do not ask
        assert bench.direct(frame[:6] + sender.packed + frame[12:]) == 1


def test_one_that_was_not_heard_for_long_gets_nothing(bench: Bench) -> None:
    bench.apply(shared(1))
    known_by(bench, -1.0)
    assert bench.direct(tcp("PA")) == 1


@pytest.mark.parametrize("algorithm", [Algorithm.SOURCE_HASH, Algorithm.MAGLEV])
def test_a_hash_finds_the_member_by_itself(bench: Bench, algorithm: Algorithm) -> None:
    bench.apply(director(backends(1, 2), algorithm, router=ROUTER))
    known_by(bench)
    assert bench.direct(tcp("PA")) in (1, 2)


def test_a_pool_with_one_director_passes_nothing_on(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    known_by(bench)
    assert bench.direct(tcp("PA")) == 1


def test_news_that_nobody_reads_hold_nothing_up(bench: Bench) -> None:
    bench.apply(replace(shared(1)))  # type: ignore[type-var]
    for number in range(1000):
        assert bench.direct(tcp("S", sport=10000 + number)) == 1
