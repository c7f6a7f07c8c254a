# SPDX-License-Identifier: Apache-2.0
"""When something that was deleted is gone: the pure decision."""

from dataclasses import replace
from ipaddress import ip_address
from uuid import uuid4

from cloudlb.db.records import MemberRecord, PoolRecord, RealizationRecord, Whereabouts
from cloudlb.db.removal import Verdict, decide
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Health, Member, Placement, Pool, Port, Protocol, Scheduler

POOL = Pool(
    id=uuid4(),
    project_id="p",
    network_id=uuid4(),
    name="web",
    address=ip_address("192.0.2.1"),
    ports=(Port(Protocol.TCP, 80),),
    data_plane="dr",
    scheduler=Scheduler.ROUND_ROBIN,
    directors=("d1",),
)
LIVE = PoolRecord(POOL, 1.0, 1.0)
DELETED = PoolRecord(POOL, 1.0, 2.0, 2.0)
NOW = 100.0
"""Long after something was deleted, and before its drain ends."""


def _member(host: str, removed: bool = False) -> MemberRecord:
    member = Member(id=uuid4(), project_id="p", pool_id=POOL.id, server=uuid4())
    where = Whereabouts(Placement(host, Mac("52:54:00:00:00:01")))
    deleted_at = 2.0 if removed else None
    return MemberRecord(member, "s", Health.UNKNOWN, "", 1.0, 1.0, deleted_at, where)


def _host(name: str, state: str = "realized", seen: int = 5) -> RealizationRecord:
    return RealizationRecord(POOL.id, name, 5, seen, state, "", frozenset(), 0.0, 0.0)


def _speaking(_record: RealizationRecord) -> bool:
    return False


def _all_silent(_record: RealizationRecord) -> bool:
    return True


def test_nothing_is_gone_of_a_pool_that_nobody_deleted() -> None:
    assert decide(LIVE, [_member("c1")], [_host("c1"), _host("d1")], _speaking, NOW) == Verdict()


def test_a_deleted_pool_is_gone_when_every_host_says_so() -> None:
    rows = [_host("c1", "gone"), _host("d1", "gone")]
    assert decide(DELETED, [_member("c1")], rows, _speaking, NOW) == Verdict(
        ("c1", "d1"), pool=True
    )


def test_one_host_that_has_not_said_so_holds_it() -> None:
    rows = [_host("c1", "gone"), _host("d1", "gone", seen=4)]
    assert decide(DELETED, [], rows, _speaking, NOW) == Verdict(("c1",))


def test_a_silent_host_does_not_hold_it() -> None:
    rows = [_host("c1", "gone"), _host("d1")]
    verdict = decide(DELETED, [], rows, _all_silent, NOW)
    assert verdict == Verdict(("c1",), pool=True, silent=("d1",))


def test_a_speaking_host_holds_it_also_beside_a_silent_one() -> None:
    rows = [_host("c1"), _host("d1")]
    assert decide(DELETED, [], rows, lambda r: r.host == "d1", NOW) == Verdict()


def test_a_removed_member_is_gone_when_no_host_has_a_connection_of_it() -> None:
    member = _member("c1", removed=True)
    rows = [_host("c1"), _host("d1")]
    assert decide(LIVE, [member], rows, _speaking, NOW).members == (member.member.id,)


def test_a_host_that_drains_holds_a_member() -> None:
    member = _member("c1", removed=True)
    draining = replace(_host("d1"), draining=frozenset({member.member.id}))
    assert decide(LIVE, [member], [_host("c1"), draining], _speaking, NOW).members == ()


def test_a_silent_host_holds_a_member_while_it_may_drain() -> None:
    member = _member("c1", removed=True)
    late = [_host("c1"), _host("d1", seen=4)]
    assert decide(LIVE, [member], late, _all_silent, NOW).members == ()
    over = 2.0 + POOL.drain_timeout
    assert decide(LIVE, [member], late, _all_silent, over).members == (member.member.id,)
    assert decide(LIVE, [member], late, _speaking, over).members == ()


def test_a_silent_host_that_was_done_with_a_member_does_not_hold_it() -> None:
    member = _member("c1", removed=True)
    rows = [_host("c1"), _host("d1")]
    assert decide(LIVE, [member], rows, _all_silent, NOW).members == (member.member.id,)


def test_a_host_that_is_late_or_fails_holds_a_member() -> None:
    member = _member("c1", removed=True)
    for row in (_host("d1", seen=4), _host("d1", "failing")):
        assert decide(LIVE, [member], [row], _speaking, NOW).members == ()


def test_gone_is_not_believed_of_a_host_that_is_still_wanted() -> None:
    rows = [_host("c1", "gone"), _host("d1", "gone")]
    assert decide(LIVE, [_member("c1")], rows, _speaking, NOW) == Verdict()
