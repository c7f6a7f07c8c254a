# SPDX-License-Identifier: Apache-2.0
"""What members' answers, or their silence, say of connections, and what becomes of these."""

from dataclasses import replace

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from cloudlb.model.dataplane import Algorithm, FlowState, Mode, Plane
from cloudlb.model.eastwest import Sign, SignKind
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Number, pack_address
from cloudlb.net.bpf.ring import MOST_AT_ONCE
from tests.packet.conftest import PASS, Bench
from tests.packet.director import MODES, from_client, from_member, sent, translating
from tests.packet.edge import CLIENT_PORT, NUMBER, OWN_PORT, PORT, answer, opened, own_of
from tests.packet.frames import client_of, tcp
from tests.planes import (
    VIP4,
    VIP6,
    backend,
    backends,
    both,
    compute,
    director,
    member_id,
    translated,
    watched,
)

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
ENDS = pytest.mark.parametrize(
    ("flags", "kind"),
    [("FA", SignKind.CLOSED), ("R", SignKind.RESET), ("RA", SignKind.RESET)],
)
LEAST = director(backends(1, 2), Algorithm.LC_ACTIVE)


def signs(bench: Bench) -> list[Sign]:
    """What the programs have told since it was asked last, as young as can be."""
    assert bench.engine.sharing
    return [sign._replace(age=0) for sign in bench.engine.sharing.signs()]


def sign(
    kind: SignKind,
    member: int = NUMBER,
    vip: Address = VIP4,
    sport: int = CLIENT_PORT,
    age: int = 0,
) -> Sign:
    """What a member does with the client's connection."""
    return Sign(
        pool=(1).to_bytes(16),
        member=member_id(member).bytes,
        client=pack_address(client_of(vip)),
        client_port=sport.to_bytes(2),
        port=PORT.to_bytes(2),
        kind=kind,
        age=age,
    )


def conclude(bench: Bench, *told: Sign) -> None:
    assert bench.engine.sharing
    bench.engine.sharing.conclude(told)


def states(bench: Bench) -> list[FlowState]:
    return [flow.state for flow in bench.engine.flows(LEAST.pool_id, 10)]


def active(bench: Bench) -> dict[int, int]:
    """Active connections of each member."""
    return {c.member_id.int & 0xFFFF: c.active for c in bench.engine.counters(LEAST.pool_id)}


def establish(bench: Bench, sport: int = CLIENT_PORT, vip: Address = VIP4) -> int | None:
    """The member of a connection that a client has opened."""
    bench.direct(tcp("S", sport, vip))
    return bench.direct(tcp("A", sport, vip))


def segment(flags: str, port: int = PORT) -> Packet:
    """What a guest answers."""
    return TCP(sport=port, dport=CLIENT_PORT, flags=flags) / b"answer"


@pytest.mark.requirement("L6")
@pytest.mark.requirement("L7")
@FAMILIES
@ENDS
def test_an_end_that_a_guest_makes_is_told(
    bench: Bench, vip: Address, flags: str, kind: SignKind
) -> None:
    bench.apply(watched(compute(NUMBER, address=vip)))
    frame = answer(vip, segment(flags))
    assert bench.from_guest(frame) == frame
    assert signs(bench) == [sign(kind, vip=vip)]


@FAMILIES
@ENDS
def test_behind_edge_nat_it_is_told_in_the_clients_terms(
    bench: Bench, vip: Address, flags: str, kind: SignKind
) -> None:
    bench.apply(watched(translated(NUMBER, port=OWN_PORT, address=vip)))
    opened(bench, vip)
    bench.from_guest(answer(own_of(vip), segment(flags, OWN_PORT)))
    assert signs(bench) == [sign(kind, vip=vip)]


@pytest.mark.parametrize("flags", ["SA", "A", "PA"])
def test_what_ends_nothing_is_told_to_nobody(bench: Bench, flags: str) -> None:
    bench.apply(watched(compute(NUMBER)))
    bench.from_guest(answer(VIP4, segment(flags)))
    assert signs(bench) == []


def test_guests_that_are_not_watched_are_left_alone(bench: Bench) -> None:
    bench.apply(compute(NUMBER))
    bench.from_guest(answer(VIP4, segment("R")))
    assert signs(bench) == []


def test_what_a_guest_ends_at_its_own_address_is_its_own_affair(bench: Bench) -> None:
    bench.apply(watched(translated(NUMBER, port=OWN_PORT)))
    bench.from_guest(answer(own_of(VIP4), segment("R", OWN_PORT)))
    assert signs(bench) == []


def test_who_is_watched_is_read_back(bench: Bench) -> None:
    plane = watched(both(director(backends(1, NUMBER)), NUMBER))
    bench.apply(plane)
    assert bench.reopen().observe()[plane.pool_id] == plane


@pytest.mark.requirement("L6")
@FAMILIES
@pytest.mark.parametrize("kind", [SignKind.CLOSED, SignKind.RESET])
def test_a_connection_that_its_member_has_ended_counts_no_more(
    bench: Bench, vip: Address, kind: SignKind
) -> None:
    bench.apply(director(backends(1, 2), Algorithm.LC_ACTIVE, vip))
    assert establish(bench, vip=vip) == 1
    assert establish(bench, CLIENT_PORT + 1, vip) == 2
    conclude(bench, sign(kind, 2, vip, CLIENT_PORT + 1))
    assert active(bench) == {1: 1, 2: 0}
    assert bench.direct(tcp("S", CLIENT_PORT + 2, vip)) == 2


def test_what_is_said_of_another_members_connection_changes_nothing(bench: Bench) -> None:
    bench.apply(LEAST)
    establish(bench)
    conclude(
        bench, sign(SignKind.RESET, 2), sign(SignKind.RESET, 7), sign(SignKind.RESET, 1, VIP6)
    )
    assert states(bench) == [FlowState.ESTABLISHED]


def test_a_connection_that_is_not_known_does_not_come_about(bench: Bench) -> None:
    bench.apply(LEAST)
    conclude(bench, sign(SignKind.RESET, 1))
    assert states(bench) == []
    assert active(bench) == {1: 0, 2: 0}


def test_a_thousand_ends_are_told_at_once(bench: Bench) -> None:
    bench.apply(director(backends(1), Algorithm.LC_ACTIVE))
    ports = range(20000, 21000)
    for sport in ports:
        establish(bench, sport)
    conclude(bench, *(sign(SignKind.CLOSED, 1, sport=sport) for sport in ports))
    assert active(bench) == {1: 0}


def test_an_end_that_is_older_than_the_connection_is_not_its_own(bench: Bench) -> None:
    """The client has used the port again while the end of the former connection was on its way."""
    bench.apply(LEAST)
    establish(bench)
    conclude(bench, sign(SignKind.RESET, 1, age=2000))
    assert states(bench) == [FlowState.ESTABLISHED]


def test_a_syn_in_an_established_connection_may_begin_another_one(bench: Bench) -> None:
    bench.apply(LEAST)
    establish(bench)
    _grow_old(bench, 5)
    bench.direct(tcp("S"))
    conclude(bench, sign(SignKind.RESET, 1, age=2000))
    assert states(bench) == [FlowState.ESTABLISHED]
    conclude(bench, sign(SignKind.RESET, 1))
    assert states(bench) == [FlowState.CLOSING]


def _grow_old(bench: Bench, seconds: int) -> None:
    """Connections began, or ended, so much earlier."""
    ago = seconds * bench.maps.settings[Number(0)].second
    for key, flow in list(bench.maps.flows.items()):
        bench.maps.flows[key] = flow._replace(since=(flow.since - ago) & 0xFFFFFFFF)


@pytest.mark.requirement("L9")
def test_a_client_that_still_talks_a_second_later_has_a_connection_that_goes_on(
    bench: Bench,
) -> None:
    bench.apply(LEAST)
    establish(bench)
    conclude(bench, sign(SignKind.CLOSED, 1))
    assert bench.direct(tcp("A")) == 1
    assert states(bench) == [FlowState.CLOSING]
    _grow_old(bench, 2)
    assert bench.direct(tcp("PA", payload=b"more")) == 1
    assert states(bench) == [FlowState.ESTABLISHED]
    assert active(bench) == {1: 1, 2: 0}


def test_one_that_both_ends_have_closed_stays_so(bench: Bench) -> None:
    bench.apply(LEAST)
    establish(bench)
    conclude(bench, sign(SignKind.CLOSED, 1))
    bench.direct(tcp("FA"))
    _grow_old(bench, 2)
    bench.direct(tcp("A"))
    assert states(bench) == [FlowState.CLOSING]
    assert active(bench) == {1: 0, 2: 0}


@pytest.mark.requirement("L13")
def test_a_reset_of_a_syn_is_a_refusal(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.direct(tcp("S"))
    conclude(bench, sign(SignKind.RESET, 1))
    assert signs(bench) == [sign(SignKind.REFUSED, 1)]
    assert states(bench) == [FlowState.CLOSING]


@pytest.mark.requirement("L13")
def test_many_refusals_are_told_once_in_a_while(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    ports = range(20000, 20050)
    for sport in ports:
        bench.direct(tcp("S", sport))
    conclude(bench, *(sign(SignKind.RESET, 1, sport=sport) for sport in ports))
    assert len(signs(bench)) == 1


@pytest.mark.requirement("L13")
def test_a_client_that_asks_again_after_a_second_was_not_answered(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.direct(tcp("S"))
    bench.direct(tcp("S"))
    assert signs(bench) == []
    bench.age(1)
    bench.direct(tcp("S"))
    assert signs(bench) == [sign(SignKind.UNANSWERED, 1)]


@MODES
@FAMILIES
@ENDS
def test_a_director_that_translates_sees_the_ends_itself(
    bench: Bench, mode: Mode, vip: Address, flags: str, kind: SignKind
) -> None:
    """So it sees refusals, too."""
    bench.apply(_counting(translating(mode, vip, NUMBER)))
    syn = sent(bench, from_client(vip, TCP(sport=CLIENT_PORT, dport=PORT, flags="S")))
    assert syn
    source = client_of(vip) if mode is Mode.NAT else vip
    at = 14 + (20 if vip.version == 4 else 40)
    client_port = int.from_bytes(syn[at : at + 2])
    reply = TCP(sport=OWN_PORT, dport=client_port, flags=flags)
    assert _answered(bench, from_member(source, reply))
    assert states(bench) == [FlowState.CLOSING]
    refused = [sign(SignKind.REFUSED, vip=vip)] if kind is SignKind.RESET else []
    assert signs(bench) == refused


def _counting(plane: Plane) -> Plane:
    assert plane.frontend
    return replace(plane, frontend=replace(plane.frontend, algorithm=Algorithm.LC_ACTIVE))


def _answered(bench: Bench, frame: bytes) -> bool:
    result, _ = bench.run("director", frame, bench.uplink)
    return result != PASS


@pytest.mark.requirement("L6")
def test_ends_at_a_tap_of_the_director_itself_come_back_to_it(bench: Bench) -> None:
    """As on a host that is director and has guests."""
    plane = watched(both(director((backend(NUMBER),), Algorithm.LC_ACTIVE), NUMBER))
    bench.apply(plane)
    establish(bench)
    bench.from_guest(answer(VIP4, segment("R")))
    conclude(bench, *signs(bench))
    assert active(bench) == {NUMBER: 0}


def test_signs_that_nobody_reads_hold_nothing_up(bench: Bench) -> None:
    bench.apply(watched(compute(NUMBER)))
    frame = answer(VIP4, segment("R"))
    bench.run("from_guest", frame, bench.tap, repeat=10000)
    assert bench.from_guest(frame) == frame
    found = 0
    while some := len(signs(bench)):
        assert some <= MOST_AT_ONCE
        found += some
    assert 1000 < found < 10000
    bench.from_guest(frame)
    assert signs(bench) == [sign(SignKind.RESET)]
