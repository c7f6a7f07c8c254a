# SPDX-License-Identifier: Apache-2.0
"""Counters of members, and how they end with them."""

import pytest
from scapy.layers.inet import TCP

from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.network import Address
from tests.packet.conftest import GUEST_MAC, Bench
from tests.packet.frames import CLIENT_MAC, client_of, ether, ip, tcp, udp
from tests.planes import VIP4, VIP6, backends, both, compute, director, member_id

pytestmark = pytest.mark.requirement("L16")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
POOL = director(()).pool_id


def answer(vip: Address, source: Address | None = None) -> bytes:
    """A member's segment to the client."""
    segment = TCP(sport=80, dport=40000, flags="SA") / b"answer"
    return bytes(ether(CLIENT_MAC, GUEST_MAC) / ip(source or vip, client_of(vip)) / segment)


@FAMILIES
def test_what_is_sent_to_a_member_counts_for_it(bench: Bench, vip: Address) -> None:
    bench.apply(director(backends(1, 2), address=vip))
    frames = [tcp("S", vip=vip), tcp("A", vip=vip), tcp("PA", vip=vip, payload=bytes(500))]
    for frame in frames:
        bench.direct(frame)
    bench.direct(udp(vip=vip))
    first, second = bench.engine.counters(POOL)
    assert first == MemberCounters(
        member_id(1),
        connections=1,
        active=1,
        packets_in=3,
        bytes_in=sum(map(len, frames)),
    )
    assert second == MemberCounters(
        member_id(2), connections=1, active=1, packets_in=1, bytes_in=len(udp(vip=vip))
    )


@FAMILIES
def test_what_a_member_answers_counts_for_it(bench: Bench, vip: Address) -> None:
    bench.apply(compute(17, address=vip))
    frame = answer(vip)
    for _ in range(3):
        bench.run("from_guest", frame, bench.tap)
    (counters,) = bench.engine.counters(POOL)
    assert counters == MemberCounters(member_id(17), packets_out=3, bytes_out=3 * len(frame))


@FAMILIES
@pytest.mark.parametrize("options", [[], [("Timestamp", (1, 2))]], ids=["plain", "options"])
@pytest.mark.parametrize(("octets", "packets"), [(300 * 4, 4), (300 * 4 + 1, 5), (10, 1)])
def test_what_is_still_to_be_cut_counts_as_the_packets_that_it_becomes(
    bench: Bench, vip: Address, options: list[object], octets: int, packets: int
) -> None:
    bench.apply(both(director(backends(17), address=vip), 17))
    there = TCP(sport=40000, dport=80, flags="S", options=options) / bytes(octets)
    back = TCP(sport=80, dport=40000, flags="A", options=options) / bytes(octets)
    asked = bytes(ether() / ip(client_of(vip), vip) / there)
    answered = bytes(ether(CLIENT_MAC, GUEST_MAC) / ip(vip, client_of(vip)) / back)
    bench.run("director", asked, bench.uplink, segment=300)
    bench.run("from_guest", answered, bench.tap, segment=300)
    (counters,) = bench.engine.counters(POOL)
    assert (counters.packets_in, counters.packets_out) == (packets, packets)


@FAMILIES
def test_what_a_guest_says_for_itself_does_not_count(bench: Bench, vip: Address) -> None:
    bench.apply(compute(17, address=vip))
    bench.run("from_guest", answer(vip, vip + 1), bench.tap)
    assert bench.engine.counters(POOL) == (MemberCounters(member_id(17)),)


def test_both_directions_count_on_a_director_with_the_guest(bench: Bench) -> None:
    bench.apply(both(director(backends(17)), 17))
    bench.direct(tcp())
    bench.run("from_guest", answer(VIP4), bench.tap)
    (counters,) = bench.engine.counters(POOL)
    assert (counters.packets_in, counters.packets_out) == (1, 1)


def test_another_members_tap_counts_for_nobody_here(bench: Bench) -> None:
    bench.apply(compute(30))
    bench.run("from_guest", answer(VIP4), bench.tap)
    assert bench.engine.counters(POOL) == (MemberCounters(member_id(30)),)


def test_counters_are_told_in_the_members_order(bench: Bench) -> None:
    bench.apply(director(backends(3, 1, 2)))
    assert [c.member_id for c in bench.engine.counters(POOL)] == [member_id(n) for n in (3, 1, 2)]


def test_counters_go_on_over_a_change_of_the_pool(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.direct(tcp())
    bench.apply(director(backends(2, 1)))
    assert bench.engine.counters(POOL)[1].packets_in == 1


def test_a_member_starts_from_zero_on_a_used_number(bench: Bench) -> None:
    bench.apply(both(director(backends(17)), 17))
    bench.direct(tcp())
    bench.run("from_guest", answer(VIP4), bench.tap)
    bench.apply(director(()))
    bench.engine.observe()
    bench.apply(director(backends(2)))
    assert bench.engine.counters(POOL) == (MemberCounters(member_id(2)),)


def test_packets_on_their_way_to_a_guest_are_left_alone(bench: Bench) -> None:
    bench.apply(compute(17))
    for frame in (tcp(), udp(), tcp(vip=VIP6)):
        assert bench.run("to_guest", frame, bench.tap)[1] == frame
    assert bench.engine.counters(POOL) == (MemberCounters(member_id(17)),)
