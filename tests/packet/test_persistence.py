# SPDX-License-Identifier: Apache-2.0
"""Persistence: a client's new connections go where its former ones went."""

import time
from ipaddress import ip_address

import pytest

from cloudlb.model.dataplane import Algorithm, Backend, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence
from tests.packet.conftest import Bench
from tests.packet.frames import client_of, tcp
from tests.planes import VIP4, VIP6, backend, backends, director

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
pytestmark = pytest.mark.requirement("L10")


def persistent(
    members: tuple[Backend, ...], vip: Address = VIP4, timeout: int = 600, prefix: int = 0
) -> Plane:
    """A pool with round robin whose clients stay."""
    persistence = Persistence(timeout, prefix or vip.max_prefixlen)
    return director(members, Algorithm.ROUND_ROBIN, vip, persistence=persistence)


def connect(bench: Bench, client: Address, sport: int, vip: Address = VIP4) -> int | None:
    """The member of a client's new connection."""
    return bench.direct(tcp("S", sport, vip, client))


@FAMILIES
def test_connections_of_a_client_go_to_one_member(bench: Bench, vip: Address) -> None:
    bench.apply(persistent(backends(1, 2, 3), vip))
    for number, member in enumerate((1, 2, 3, 1)):
        client = client_of(vip, number)
        assert {connect(bench, client, sport, vip) for sport in range(1, 9)} == {member}


@pytest.mark.parametrize(
    ("vip", "prefix", "clients", "members"),
    [
        (VIP4, 24, ("198.51.100.1", "198.51.100.254", "198.51.101.1"), [1, 1, 2]),
        (VIP4, 27, ("198.51.100.31", "198.51.100.1", "198.51.100.32"), [1, 1, 2]),
        (VIP6, 64, ("2001:db8:1::1", "2001:db8:1::ffff:1", "2001:db8:1:1::1"), [1, 1, 2]),
        (VIP6, 49, ("2001:db8:1::", "2001:db8:1:7fff::", "2001:db8:1:8000::"), [1, 1, 2]),
    ],
)
def test_clients_of_one_prefix_are_one(
    bench: Bench, vip: Address, prefix: int, clients: tuple[str, ...], members: list[int]
) -> None:
    bench.apply(persistent(backends(1, 2, 3), vip, prefix=prefix))
    assert [connect(bench, ip_address(c), 1, vip) for c in clients] == members


def test_after_its_time_a_client_is_as_new(bench: Bench) -> None:
    bench.apply(persistent(backends(1, 2, 3), timeout=1))
    assert connect(bench, client_of(VIP4), 1) == 1
    time.sleep(1.1)
    assert connect(bench, client_of(VIP4), 2) == 2
    bench.engine.sweep()
    assert len(list(bench.maps.clients.items())) == 1


def test_the_sweep_forgets_clients_whose_time_is_over(bench: Bench) -> None:
    bench.apply(persistent(backends(1), timeout=1))
    connect(bench, client_of(VIP4), 1)
    time.sleep(1.1)
    bench.engine.sweep()
    assert not list(bench.maps.clients.items())


@pytest.mark.parametrize(
    "other", [(backend(1, 0), backend(2)), (backend(1, idle=True), backend(2)), backends(2)]
)
def test_a_member_that_takes_no_new_connections_loses_its_clients(
    bench: Bench, other: tuple[Backend, ...]
) -> None:
    bench.apply(persistent(backends(1, 2)))
    assert connect(bench, client_of(VIP4), 1) == 1
    bench.apply(persistent(other))
    assert connect(bench, client_of(VIP4), 2) == 2
    bench.apply(persistent(backends(1, 2)))
    assert connect(bench, client_of(VIP4), 3) == 2


def test_each_pool_has_its_own_clients(bench: Bench) -> None:
    second = director(backends(3, 4), address=VIP4 + 1, pool=2, persistence=Persistence(600, 32))
    bench.apply(persistent(backends(1, 2)), second)
    assert [connect(bench, client_of(VIP4), n, VIP4) for n in (1, 2)] == [1, 1]
    assert [connect(bench, client_of(VIP4), n, VIP4 + 1) for n in (1, 2)] == [3, 3]


def test_persistence_can_be_taken_away(bench: Bench) -> None:
    bench.apply(persistent(backends(1, 2)))
    assert [connect(bench, client_of(VIP4), n) for n in (1, 2)] == [1, 1]
    bench.apply(director(backends(1, 2)))
    assert [connect(bench, client_of(VIP4), n) for n in (3, 4)] == [2, 1]
