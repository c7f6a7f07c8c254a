# SPDX-License-Identifier: Apache-2.0
"""IPv6 anycast: pools compiled to planes, compared with anycast.json.

See cases.py on how new planes are accepted.
"""

from dataclasses import replace

import pytest

from cloudlb.drivers.anycast_mac import AnycastMac
from cloudlb.drivers.dr import DirectRouting
from cloudlb.model.pool import Protocol, Scheduler
from cloudlb.model.snapshot import PoolView
from tests.planes import VIP6, member_id
from tests.unit.drivers.cases import Case, Golden
from tests.views import member, view

ANYCAST = AnycastMac()
POOL: PoolView = view(member(3), member(1, "c2"), data_plane="anycast_mac", address=VIP6)
CASES = {
    "director": Case(POOL),
    "compute": Case(POOL, "c1"),
    "bystander": Case(POOL, "c9"),
    "member down": Case(POOL, down=frozenset({member_id(1)})),
    "pool removed": Case(replace(POOL, removing=True)),
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The planes that were accepted."""
    return Golden("anycast.json", ANYCAST, CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pool_compiles_to_the_golden_plane(golden: Golden, name: str) -> None:
    assert CASES[name].compiled(ANYCAST) == golden.plane(name)


def test_every_golden_plane_has_its_case(golden: Golden) -> None:
    assert golden.names() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_packets_go_as_by_direct_routing(name: str) -> None:
    assert CASES[name].compiled(ANYCAST) == CASES[name].compiled(DirectRouting())


def test_it_is_for_ipv6_only_and_changes_no_port() -> None:
    able = ANYCAST.capabilities()
    assert able.address_families == {6}
    assert able.protocols == {Protocol.TCP, Protocol.UDP}
    assert able.schedulers == set(Scheduler)
    assert not able.port_translation
