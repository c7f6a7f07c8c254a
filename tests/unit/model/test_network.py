# SPDX-License-Identifier: Apache-2.0
"""Which addresses of a network pools may claim, and which are members' own."""

from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from cloudlb.model.network import UNSERVED, Network, unserved


def network(prefixes: list[str], vip_range: list[str]) -> Network:
    return Network(
        UUID(int=1),
        "project",
        "net",
        7,
        tuple(map(ip_network, prefixes)),
        tuple(map(ip_network, vip_range)),
    )


NET = network(["192.0.2.0/24", "2001:db8::/64"], ["192.0.2.0/29", "2001:db8::/126"])


@pytest.mark.parametrize(
    ("address", "offered"),
    [
        ("192.0.2.1", True),
        ("192.0.2.7", True),
        ("192.0.2.0", False),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db8::3", True),
        ("2001:db8::", False),
        ("2001:db8::4", False),
        ("198.51.100.1", False),
    ],
)
def test_addresses_of_the_range_are_offered(address: str, offered: bool) -> None:
    assert NET.offers(ip_address(address)) is offered


def test_the_broadcast_address_is_not_offered() -> None:
    whole = network(["192.0.2.0/24"], ["192.0.2.0/24"])
    assert not whole.offers(ip_address("192.0.2.255"))


def test_the_last_address_of_an_ipv6_prefix_is_offered() -> None:
    whole = network(["2001:db8::/120"], ["2001:db8::/120"])
    assert whole.offers(ip_address("2001:db8::ff"))


@pytest.mark.parametrize("prefix", ["192.0.2.4/31", "192.0.2.4/32", "2001:db8::4/127"])
def test_every_address_of_a_point_to_point_prefix_is_offered(prefix: str) -> None:
    tiny = network([prefix], [prefix])
    assert all(tiny.offers(address) for address in ip_network(prefix))


def test_candidates_are_what_is_offered_lowest_first() -> None:
    assert [str(a) for a in NET.candidates(4)] == [f"192.0.2.{n}" for n in range(1, 8)]
    assert [str(a) for a in NET.candidates(6)] == [f"2001:db8::{n}" for n in (1, 2, 3)]


def test_a_network_without_a_range_offers_nothing() -> None:
    none = network(["192.0.2.0/24"], [])
    assert not none.offers(ip_address("192.0.2.9"))
    assert list(none.candidates(4)) == []


@pytest.mark.parametrize("block", ["10.0.0.0/8", "100.64.0.0/10", "2001:db8::/32", "fd00::/8"])
def test_what_hosts_have_is_served(block: str) -> None:
    assert unserved(ip_network(block)) == ""


@pytest.mark.parametrize("block", ["0.0.0.0/0", "::/0", *(str(b) for b, _ in UNSERVED)])
def test_a_block_with_an_address_that_means_no_host_is_not_served(block: str) -> None:
    assert unserved(ip_network(block)) != ""


def test_the_kind_of_the_addresses_is_told() -> None:
    assert unserved(ip_network("127.1.0.0/16")) == "loopback"
    assert unserved(ip_network("ff02::1/128")) == "multicast"


@pytest.mark.parametrize(
    ("addresses", "version", "own"),
    [
        (("192.0.2.9", "2001:db8::9"), 4, "192.0.2.9"),
        (("192.0.2.9", "2001:db8::9"), 6, "2001:db8::9"),
        (("192.0.2.9", "fe80::9"), 6, "192.0.2.9"),
        (("192.0.2.30", "192.0.2.9", "192.0.2.100"), 4, "192.0.2.9"),
        (("192.0.2.7", "192.0.2.30"), 4, "192.0.2.30"),
        (("10.0.0.1", "192.0.2.30"), 4, "192.0.2.30"),
        (("192.0.2.7", "10.0.0.1", "fe80::9", "2001:db8:1::9"), 4, None),
        ((), 6, None),
    ],
)
def test_a_members_own_address_is_the_lowest_that_no_pool_may_claim(
    addresses: tuple[str, ...], version: int, own: str | None
) -> None:
    for order in (addresses, addresses[::-1]):
        found = NET.own_address(tuple(map(ip_address, order)), version)
        assert found == (ip_address(own) if own else None)
