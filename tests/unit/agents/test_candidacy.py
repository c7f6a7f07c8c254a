# SPDX-License-Identifier: Apache-2.0
"""The elections that a host stands in, and keepalived's configuration for them.

To accept another text: CLOUDLB_GOLDEN=write pytest tests/unit/agents/test_candidacy.py, then read
the difference.
"""

import os
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloudlb.agents import keepalived
from cloudlb.agents.candidacy import VirtualRouter, routers
from cloudlb.model.ether import Mac
from cloudlb.model.host import Uplink
from cloudlb.model.pool import Failover
from cloudlb.model.snapshot import Peer
from tests.views import view

GOLDEN = Path(__file__).with_name("keepalived.conf")
LINKS = {"lan": "eth0"}


def peer(number: int, *addresses: str, management: str | None = "") -> Peer:
    """The director dN, by default with an address of each family and one for management."""
    here = addresses or (f"192.0.2.{number}", f"fe80::{number}", f"2001:db8::{number}")
    uplink = Uplink("lan", "eth0", Mac("52:54:00:00:00:01"), tuple(map(ip_address, here)))
    reached = management if management is not None else ""
    at = ip_address(f"198.51.100.{number}") if management == "" else None
    return Peer(f"d{number}", ip_address(reached) if reached else at, (uplink,))


PEERS = (peer(1), peer(2), peer(3))
PAIR = view(directors=("d2", "d1"), virtual_router=9)


def stand(*views: object, host: str = "d1", peers: tuple[Peer, ...] = PEERS, link: str = "mgmt0"):
    return routers(host, views, peers, LINKS, link)  # type: ignore[arg-type]


@pytest.mark.requirement("L14")
def test_the_order_of_the_directors_is_that_of_their_priorities() -> None:
    assert stand(PAIR)[0].priority < stand(PAIR, host="d2")[0].priority <= 254


def test_both_networks_carry_heartbeats_to_the_other_directors() -> None:
    (router,) = stand(PAIR)
    on_network, management = router.paths
    assert (on_network.interface, management.interface) == ("eth0", "mgmt0")
    assert on_network.peers == (ip_address("192.0.2.2"),)
    assert management.source == ip_address("198.51.100.1")


def test_pools_of_one_router_are_one_election() -> None:
    other = view(number=2, directors=("d2", "d1"), virtual_router=9)
    third = view(number=3, directors=("d1", "d3"), virtual_router=4)
    assert [router.number for router in stand(PAIR, other, third)] == [4, 9]


@pytest.mark.parametrize(
    "none",
    [
        view(),
        view(directors=("d2", "d3"), virtual_router=9),
        replace(PAIR, removing=True),
    ],
    ids=["one director", "others direct", "removing"],
)
def test_others_are_not_ours(none: object) -> None:
    assert stand(none) == ()


def test_a_family_that_one_director_lacks_is_no_path() -> None:
    mixed = (peer(1), peer(2, "fe80::2", "2001:db8::2"))
    (router,) = stand(PAIR, peers=mixed)
    assert router.paths[0].peers == (ip_address("2001:db8::2"),)


def test_without_a_management_address_of_every_director_there_is_one_path() -> None:
    (router,) = stand(PAIR, peers=(peer(1), peer(2, management=None)))
    assert [path.interface for path in router.paths] == ["eth0"]


def test_a_director_without_any_common_family_stands_in_no_election() -> None:
    apart = (
        peer(1, "192.0.2.1", management=None),
        peer(2, "2001:db8::2", management=None),
    )
    assert stand(PAIR, peers=apart) == ()


def everything() -> tuple[VirtualRouter, ...]:
    """Routers of every kind."""
    six = (peer(1), peer(2), peer(3, "2001:db8::3"))
    stays = view(
        number=2, directors=("d1", "d2", "d3"), virtual_router=200, failover=Failover.STAY
    )
    return (*stand(PAIR), *stand(stays, peers=six, link=""))


def test_the_configuration_is_the_accepted_one() -> None:
    text = keepalived.configuration(everything(), 0.5, Path("/run/events"))
    if os.environ.get("CLOUDLB_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('GROUP "router9" MASTER 0', (9, True)),
        ('GROUP "router9" FAULT 0', (9, False)),
        ('INSTANCE "router200" BACKUP 253', (200, False)),
        ('INSTANCE "router9_1" MASTER 254', None),
        ('GROUP "other" MASTER 0', None),
        ("", None),
    ],
)
def test_only_whole_routers_are_heard(line: str, said: tuple[int, bool] | None) -> None:
    assert keepalived.transition(line) == said
