# SPDX-License-Identifier: Apache-2.0
"""Several directors of an address: all forward alike, the elected one announces it."""

import time

import pytest
from scapy.layers.l2 import ARP, Ether

from cloudlb.model.dataplane import Algorithm
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Count, Number
from tests.packet.conftest import UPLINK_MAC, Bench
from tests.packet.frames import (
    CLIENT4,
    CLIENT6,
    PASS,
    REDIRECT,
    arp,
    client_of,
    echo,
    solicitation,
    tcp,
)
from tests.planes import VIP4, VIP6, backend, backends, director

ROUTER = 9
HOUR = 3_600_000_000_000
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
HASHES = (Algorithm.SOURCE_HASH, Algorithm.FLOW_HASH, Algorithm.MAGLEV)


def question(vip: Address) -> bytes:
    """A client asks for the Ethernet address of a pool's address."""
    return arp(CLIENT4, vip) if vip.version == 4 else solicitation(CLIENT6, vip)


def lease(bench: Bench, seconds: int, router: int = ROUTER) -> None:
    """The host is master of a virtual router for so long, or was."""
    until = time.monotonic_ns() + seconds * 1_000_000_000
    bench.maps.leases[Number(router)] = Count(max(0, until))


def answers(bench: Bench, vip: Address) -> bool:
    result, _ = bench.run("director", question(vip), bench.uplink)
    assert result in (REDIRECT, PASS)
    return result == REDIRECT


@pytest.fixture(params=[VIP4, VIP6], ids=["ipv4", "ipv6"])
def elected(bench: Bench, request: pytest.FixtureRequest) -> tuple[Bench, Address]:
    """A director among several, and the address that it forwards for."""
    vip: Address = request.param
    bench.apply(director(backends(1, 2), address=vip, router=ROUTER))
    return bench, vip


@pytest.mark.requirement("L14")
def test_a_director_that_is_not_elected_leaves_the_address_to_the_other(
    elected: tuple[Bench, Address],
) -> None:
    bench, vip = elected
    assert not answers(bench, vip)
    assert not bench.engine.announces(ROUTER)


@pytest.mark.requirement("L14")
def test_the_master_answers_for_the_address(elected: tuple[Bench, Address]) -> None:
    bench, vip = elected
    lease(bench, 3600)
    assert answers(bench, vip)
    assert bench.engine.announces(ROUTER)
    if vip.version == 4:
        reply = Ether(bench.run("director", question(vip), bench.uplink)[1])
        assert reply[ARP].hwsrc == str(UPLINK_MAC)


def test_a_lease_that_nobody_renews_ends(elected: tuple[Bench, Address]) -> None:
    bench, vip = elected
    lease(bench, -1)
    assert not answers(bench, vip)
    assert not bench.engine.announces(ROUTER)


def test_the_master_of_another_router_does_not_answer(elected: tuple[Bench, Address]) -> None:
    bench, vip = elected
    lease(bench, 3600, ROUTER + 1)
    assert not answers(bench, vip)


@pytest.mark.requirement("L14")
def test_a_director_that_is_not_elected_forwards_what_reaches_it(
    elected: tuple[Bench, Address],
) -> None:
    bench, vip = elected
    client = client_of(vip, 1)
    chosen = bench.direct(tcp("S", vip=vip, client=client))
    assert chosen in (1, 2)
    assert bench.direct(tcp("A", vip=vip, client=client)) == chosen


def test_a_director_that_is_not_elected_answers_the_echo_requests_that_it_is_sent(
    elected: tuple[Bench, Address],
) -> None:
    bench, vip = elected
    assert bench.run("director", echo(vip), bench.uplink)[0] == REDIRECT


@pytest.mark.requirement("L14")
def test_the_only_director_needs_no_election(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    assert answers(bench, VIP4)


@pytest.mark.requirement("L17")
def test_a_pool_that_gets_a_second_director_is_announced_until_they_have_elected(
    bench: Bench,
) -> None:
    bench.apply(director(backends(1)))
    bench.apply(director(backends(1), router=ROUTER))
    assert answers(bench, VIP4)
    lease(bench, 0)
    bench.apply(director(backends(1, 2), router=ROUTER))
    assert not answers(bench, VIP4), "only the first time"


def _choices(bench: Bench, vip: Address) -> list[int | None]:
    """The member of each client, without a trace of them."""
    chosen = [bench.direct(tcp("S", vip=vip, client=client_of(vip, n))) for n in range(64)]
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    return chosen


@pytest.mark.requirement("L8")
@FAMILIES
@pytest.mark.parametrize("algorithm", HASHES)
def test_directors_choose_alike_whatever_each_knew_before(
    bench: Bench, vip: Address, algorithm: Algorithm
) -> None:
    last = director((backend(1), backend(2, 3), backend(4)), algorithm, vip, router=ROUTER)
    bench.apply(last)
    fresh = _choices(bench, vip)
    bench.clear()
    histories = [backends(3, 4), backends(4), (), backends(1, 2, 3, 4, 5), backends(5, 4)]
    for members in histories:
        bench.apply(director(members, algorithm, vip, router=ROUTER))
    bench.apply(last)
    assert _choices(bench, vip) == fresh


@pytest.mark.requirement("L8")
@pytest.mark.parametrize("algorithm", [Algorithm.SOURCE_HASH, Algorithm.FLOW_HASH])
def test_a_pool_of_one_director_again_moves_as_few_clients_as_it_did(
    bench: Bench, algorithm: Algorithm
) -> None:
    bench.apply(director(backends(1, 2, 3), algorithm, router=ROUTER))
    bench.apply(director(backends(1, 2, 3), algorithm))
    before = _choices(bench, VIP4)
    bench.apply(director(backends(1, 2), algorithm))
    moved = [a for a, b in zip(before, _choices(bench, VIP4), strict=True) if a != b]
    assert set(moved) == {3}
