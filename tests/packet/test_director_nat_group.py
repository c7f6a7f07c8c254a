# SPDX-License-Identifier: Apache-2.0
"""Several directors that translate: each knows what the others have begun, or whom to ask."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import TCP, UDP

from cloudlb.engines.base import Sharer
from cloudlb.model.dataplane import Algorithm, AliasPart, Mode, Plane
from cloudlb.model.eastwest import FlowEntry
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import ModeNumber, pack_address
from tests.packet.conftest import REDIRECTED, UPLINK_MAC, Bench
from tests.packet.director import (
    FIRST,
    LAST,
    MODES,
    alias_in,
    configure,
    from_client,
    from_member,
    passes,
    sent,
    to_client,
    to_member,
    translating,
)
from tests.packet.edge import CLIENT_PORT, NUMBER, OWN_PORT, PORT, Transport, back, there
from tests.packet.frames import client_of
from tests.planes import VIP4, VIP6, mac, member_id

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
ROUTER, OTHER, THIRD, ALIAS = 7, mac(77), mac(78), 62001
ESTABLISHED, DATAGRAMS = 1, 3


def of_two(mode: Mode, vip: Address, place: int = 0, **fields: int | None) -> Plane:
    """A pool that this host directs together with another one."""
    plane = translating(mode, vip, NUMBER, **fields)
    assert plane.frontend
    part = AliasPart(place, 2) if mode is Mode.FULL_NAT else None
    return replace(plane, frontend=replace(plane.frontend, router=ROUTER, aliases=part))


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A director that has heard of nobody."""
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()
    befriended(shared_bench, seconds=-1.0)
    configure(shared_bench, first_alias=FIRST, aliases=LAST - FIRST + 1)


def sharer(bench: Bench) -> Sharer:
    """The connections of a bench."""
    assert bench.engine.sharing
    return bench.engine.sharing


def befriended(bench: Bench, seconds: float = 60.0, silent: float = 0.0) -> None:
    """Another director may know what is not known here."""
    sharer(bench).befriend(ROUTER, OTHER, [OTHER, THIRD], silent, seconds)


def entry(
    mode: Mode, vip: Address, kind: Transport = TCP, sport: int = CLIENT_PORT, idle: int = 0
) -> FlowEntry:
    """A client's connection as another director tells of it."""
    return FlowEntry(
        pool=(1).to_bytes(16),
        client=pack_address(client_of(vip)),
        client_port=sport.to_bytes(2),
        port=PORT.to_bytes(2),
        protocol=6 if kind is TCP else 17,
        state=ESTABLISHED if kind is TCP else DATAGRAMS,
        mode=ModeNumber[mode.name],
        alias=ALIAS if mode is Mode.FULL_NAT else 0,
        idle=idle,
        member=member_id(NUMBER).bytes,
    )


def as_seen(mode: Mode, vip: Address) -> tuple[Address, int]:
    """What the member takes for the client of a connection that was taken over."""
    return (client_of(vip), CLIENT_PORT) if mode is Mode.NAT else (vip, ALIAS)


@pytest.mark.requirement("L14")
@MODES
@FAMILIES
@PROTOCOLS
def test_answers_and_packets_of_a_connection_that_was_told_go_on(
    nat: Bench, mode: Mode, vip: Address, kind: Transport
) -> None:
    """Its member may speak first."""
    nat.apply(of_two(mode, vip))
    sharer(nat).adopt([entry(mode, vip, kind)])
    client, port = as_seen(mode, vip)
    answer = from_member(client, back(kind, OWN_PORT, dport=port))
    assert sent(nat, answer) == to_client(vip, back(kind))
    segment = there(kind, flags="PA") if kind is TCP else there(kind)
    assert (out := sent(nat, from_client(vip, segment)))
    segment = there(kind, OWN_PORT, sport=port, **({"flags": "PA"} if kind is TCP else {}))
    assert out == to_member(client, segment)


@pytest.mark.requirement("L14")
@FAMILIES
def test_a_connection_is_told_with_its_alias_and_not_before(nat: Bench, vip: Address) -> None:
    nat.apply(of_two(Mode.FULL_NAT, vip))
    list(sharer(nat).news())
    assert (out := sent(nat, from_client(vip, there(TCP))))
    (told,) = sharer(nat).news()
    assert (told.alias, told.mode) == (alias_in(out), ModeNumber.FULL_NAT)
    assert [told.alias for told in sharer(nat).all(60.0)] == [alias_in(out)]


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("place", [0, 1])
def test_each_director_gives_aliases_of_its_own(nat: Bench, place: int) -> None:
    nat.apply(of_two(Mode.FULL_NAT, VIP4, place))
    seen = set()
    for sport in range(40000, 40060):
        out = sent(nat, from_client(VIP4, there(TCP, sport=sport)))
        assert out
        seen.add(alias_in(out))
    assert len(seen) == 60
    assert all(FIRST <= alias <= LAST and alias % 2 == place for alias in seen)


@pytest.mark.parametrize(
    ("first", "aliases", "place", "given"),
    [
        (61000, 1, 0, [61000]),
        (61000, 1, 1, []),
        (61001, 1, 1, [61001]),
        (61001, 2, 0, [61002]),
        (61001, 3, 1, [61001, 61003]),
    ],
)
def test_a_director_gives_all_of_its_aliases_and_no_other(
    nat: Bench, first: int, aliases: int, place: int, given: list[int]
) -> None:
    configure(nat, first_alias=first, aliases=aliases)
    nat.apply(of_two(Mode.FULL_NAT, VIP4, place))
    out = [sent(nat, from_client(VIP4, there(TCP, sport=sport))) for sport in range(40000, 40004)]
    assert sorted(alias_in(frame) for frame in out if frame) == given


@pytest.mark.requirement("L14")
@FAMILIES
def test_of_two_clients_with_an_alias_the_later_keeps_it(nat: Bench, vip: Address) -> None:
    nat.apply(of_two(Mode.FULL_NAT, vip))
    for sport, idle in ((40001, 5), (40002, 0), (40003, 5)):
        sharer(nat).adopt([entry(Mode.FULL_NAT, vip, sport=sport, idle=idle)])
    out = sent(nat, from_member(vip, back(TCP, OWN_PORT, dport=ALIAS)))
    assert out == to_client(vip, back(TCP, dport=40002))
    flows = nat.engine.flows(of_two(Mode.FULL_NAT, vip).pool_id, 10)
    assert {flow.client_port for flow in flows} == {40001, 40002}


def other_gets(bench: Bench, frame: bytes) -> bool:
    """Whether a frame is sent to the other director, as it is otherwise."""
    result, out = bench.run("director", frame, bench.uplink)
    changed = OTHER.packed + UPLINK_MAC.packed + frame[12:]
    return (result, out) == (REDIRECTED, changed)


@pytest.mark.requirement("L14")
@MODES
@FAMILIES
def test_an_answer_in_a_connection_that_is_not_known_goes_to_the_other_director(
    nat: Bench, mode: Mode, vip: Address
) -> None:
    nat.apply(of_two(mode, vip))
    befriended(nat)
    client, port = as_seen(mode, vip)
    answer = from_member(client, back(TCP, OWN_PORT, dport=port))
    assert other_gets(nat, answer)
    circling = [answer[:6] + sender.packed + answer[12:] for sender in (OTHER, THIRD)]
    other = from_member(client, back(TCP, OWN_PORT + 1, dport=port))
    for frame in (*circling, other):  # from directors, and from a port that serves no pool
        assert passes(nat, frame) if mode is Mode.NAT else sent(nat, frame) is None
    befriended(nat, silent=4.0)
    assert not other_gets(nat, answer)


@FAMILIES
def test_a_member_without_a_port_of_its_own_answers_from_the_pools(
    nat: Bench, vip: Address
) -> None:
    nat.apply(of_two(Mode.NAT, vip, port=None))
    befriended(nat)
    assert other_gets(nat, from_member(client_of(vip), back(TCP, PORT)))
    assert passes(nat, from_member(client_of(vip), back(TCP, OWN_PORT)))


@pytest.mark.requirement("L14")
@FAMILIES
@pytest.mark.parametrize("algorithm", [Algorithm.ROUND_ROBIN, Algorithm.MAGLEV])
def test_no_second_alias_is_given_to_a_connection_of_the_other_director(
    nat: Bench, vip: Address, algorithm: Algorithm
) -> None:
    """A hash would find its member again, who knows it by another port."""
    plane = of_two(Mode.FULL_NAT, vip)
    assert plane.frontend
    nat.apply(replace(plane, frontend=replace(plane.frontend, algorithm=algorithm)))
    befriended(nat)
    assert other_gets(nat, from_client(vip, there(TCP, flags="PA")))
