# SPDX-License-Identifier: Apache-2.0
"""Direct routing: pools compiled to planes, compared with planes.json.

To accept new planes: CLOUDLB_GOLDEN=write pytest tests/unit/drivers, then read the difference.
"""

import json
import os
from collections.abc import Set
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from uuid import UUID

import pytest

from cloudlb.drivers.dr import DirectRouting
from cloudlb.model.dataplane import Algorithm, Plane
from cloudlb.model.network import Network
from cloudlb.model.plain import decode, encode
from cloudlb.model.pool import (
    ConnectionCount,
    Member,
    Persistence,
    Placement,
    Pool,
    Port,
    Protocol,
    RotationOrder,
    Scheduler,
    Timeouts,
)
from cloudlb.model.snapshot import MemberView, PoolView
from tests import views
from tests.planes import mac, member_id

GOLDEN = Path(__file__).with_name("planes.json")
NETWORK = Network(
    UUID(int=2), "project", "net", 7, (ip_network("192.0.2.0/24"),), (ip_network("192.0.2.0/24"),)
)
POOL = Pool(
    UUID(int=1),
    "project",
    NETWORK.id,
    "web",
    ip_address("192.0.2.100"),
    (Port(Protocol.UDP, 53), Port(Protocol.TCP, 443), Port(Protocol.TCP, 80)),
    "dr",
    Scheduler.ROUND_ROBIN,
    ("d1", "d2"),
)


@dataclass(frozen=True)
class Case:
    """A pool as a host is told of it."""

    view: PoolView
    host: str = "d1"
    down: Set[UUID] = frozenset()


def member(number: int, host: str = "c1", weight: int = 1, *, up: bool = True) -> MemberView:
    wanted = Member(
        member_id(number), "project", POOL.id, UUID(int=number), weight=weight, admin_state_up=up
    )
    return MemberView(wanted, Placement(host, mac(number)))


def off(view: MemberView) -> MemberView:
    """The same member with its server shut off."""
    assert view.placement
    return replace(view, placement=replace(view.placement, running=False))


VIEW = PoolView(POOL, NETWORK, (member(3), member(1, "c2", 5), member(2)))
CASES = {
    "director": Case(VIEW),
    "second director": Case(VIEW, "d2"),
    "compute with two guests": Case(VIEW, "c1"),
    "compute with one guest": Case(VIEW, "c2"),
    "bystander": Case(VIEW, "c9"),
    "director with a guest": Case(replace(VIEW, members=(*VIEW.members, member(4, "d1")))),
    "no members": Case(replace(VIEW, members=())),
    "pool removed": Case(replace(VIEW, removing=True), "c1"),
    "pool closed": Case(replace(VIEW, pool=replace(POOL, admin_state_up=False))),
    "pool closed, compute": Case(replace(VIEW, pool=replace(POOL, admin_state_up=False)), "c1"),
    "member closed": Case(replace(VIEW, members=(member(3, up=False), member(1)))),
    "member draining": Case(replace(VIEW, members=(replace(member(3), removing=True), member(1)))),
    "member down": Case(VIEW, down=frozenset({member_id(1)})),
    "member off": Case(replace(VIEW, members=(off(member(3)), member(1)))),
    "member nowhere": Case(replace(VIEW, members=(replace(member(3), placement=None), member(1)))),
    "member of weight zero": Case(replace(VIEW, members=(member(3, weight=0), member(1)))),
    "source hash, IPv6": Case(
        replace(
            VIEW,
            pool=replace(
                POOL, scheduler=Scheduler.SOURCE_HASH, address=ip_address("2001:db8::100")
            ),
        )
    ),
    "persistence": Case(replace(VIEW, pool=replace(POOL, persistence=Persistence(600, 24)))),
    "timeouts": Case(replace(VIEW, pool=replace(POOL, timeouts=Timeouts(udp=60)))),
    "timeouts, compute": Case(replace(VIEW, pool=replace(POOL, timeouts=Timeouts(udp=60))), "c1"),
}


def compiled(case: Case) -> Plane | None:
    return DirectRouting().compile(case.view, case.host, case.down)


@pytest.fixture(scope="module")
def golden() -> dict[str, object]:
    """The planes that were accepted."""
    if os.environ.get("CLOUDLB_GOLDEN") == "write":
        planes = {name: encode(compiled(case)) for name, case in CASES.items()}
        GOLDEN.write_text(json.dumps(planes, indent=1) + "\n")
    found: dict[str, object] = json.loads(GOLDEN.read_text())
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_pool_compiles_to_the_golden_plane(golden: dict[str, object], name: str) -> None:
    expected = golden[name] and decode(Plane, golden[name])
    assert compiled(CASES[name]) == expected


def test_every_golden_plane_has_its_case(golden: dict[str, object]) -> None:
    assert golden.keys() == CASES.keys()


def test_the_order_of_members_on_a_compute_host_does_not_matter() -> None:
    backwards = replace(VIEW, members=tuple(reversed(VIEW.members)))
    assert compiled(Case(VIEW, "c1")) == compiled(Case(backwards, "c1"))


@pytest.mark.requirement("L24")
def test_the_order_of_members_is_the_directors_rotation() -> None:
    plane = compiled(Case(VIEW))
    assert plane
    assert plane.frontend
    assert [b.member_id for b in plane.frontend.backends] == [member_id(n) for n in (3, 1, 2)]


@pytest.mark.requirement("L1")
def test_it_can_forward_both_protocols_and_families_without_translation() -> None:
    able = DirectRouting().capabilities()
    assert able.protocols == {Protocol.TCP, Protocol.UDP}
    assert able.address_families == {4, 6}
    assert not able.port_translation
    assert able.remote_members
    assert able.remote_members.on_link
    assert "pool's address" in able.remote_members.preparation


@pytest.mark.parametrize(
    ("scheduler", "order", "connections", "algorithm"),
    [
        ("round_robin", "lvs", "lvs", Algorithm.ROUND_ROBIN),
        ("weighted_round_robin", "interleaved", "lvs", Algorithm.WRR_INTERLEAVED),
        ("weighted_round_robin", "lvs", "active", Algorithm.WRR_LVS),
        ("weighted_round_robin", "smooth", "active", Algorithm.WRR_SMOOTH),
        ("least_connections", "lvs", "active", Algorithm.LC_ACTIVE),
        ("least_connections", "smooth", "lvs", Algorithm.LC_LVS),
        ("weighted_least_connections", "lvs", "active", Algorithm.WLC_ACTIVE),
        ("weighted_least_connections", "lvs", "lvs", Algorithm.WLC_LVS),
        ("source_hash", "lvs", "lvs", Algorithm.SOURCE_HASH),
        ("flow_hash", "lvs", "lvs", Algorithm.FLOW_HASH),
        ("maglev", "lvs", "lvs", Algorithm.MAGLEV),
    ],
)
def test_a_scheduler_and_its_variant_are_an_algorithm(
    scheduler: str, order: str, connections: str, algorithm: Algorithm
) -> None:
    pool = replace(
        POOL,
        scheduler=Scheduler(scheduler),
        rotation_order=RotationOrder(order),
        connection_count=ConnectionCount(connections),
    )
    plane = compiled(Case(replace(VIEW, pool=pool)))
    assert plane
    assert plane.frontend
    assert plane.frontend.algorithm is algorithm


def _taking(view: PoolView, *down: int) -> set[int]:
    """The numbers of the members that get new connections."""
    plane = DirectRouting().compile(view, "d1", frozenset(member_id(n) for n in down))
    assert plane is not None
    assert plane.frontend is not None
    return {b.member_id.int & 0xFFFF for b in plane.frontend.backends if b.eligible}


@pytest.mark.requirement("L13")
class TestFallback:
    """Members that are dead, off, or not to be used, and who takes their place."""

    def test_backups_wait_while_another_member_is_alive(self) -> None:
        view = views.view(views.member(1), views.member(2), views.member(3, backup=True))
        assert _taking(view) == {1, 2}
        assert _taking(view, 1) == {2}
        assert _taking(view, 1, 2) == {3}

    def test_backups_serve_when_the_others_are_off_or_removed(self) -> None:
        off, gone = views.member(1, running=False), views.member(2, removing=True)
        assert _taking(views.view(off, gone, views.member(3, backup=True))) == {3}

    def test_in_panic_all_that_can_be_reached_take_connections(self) -> None:
        members = [views.member(n) for n in range(1, 4)]
        off = views.member(4, running=False)
        view = views.view(*members, off, panic_threshold=50)
        assert _taking(view, 1) == {2, 3}
        assert _taking(view, 1, 2) == {1, 2, 3}

    def test_servers_that_are_off_count_as_dead(self) -> None:
        off = [views.member(n, running=False) for n in (2, 3)]
        view = views.view(views.member(1), views.member(4), *off, panic_threshold=50)
        assert _taking(view, 1) == {1, 4}

    def test_a_closed_pool_stays_closed(self) -> None:
        view = views.view(views.member(1), admin_state_up=False, panic_threshold=50)
        assert _taking(view, 1) == set()
