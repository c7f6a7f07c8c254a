# SPDX-License-Identifier: Apache-2.0
"""When something that was deleted is gone: decided purely, then written.

Deletion is a mark. A removed pool goes when every host has said that it has nothing of it; a
removed member when every host has applied its removal and none still has connections of it. A
silent host does not hold up a pool: that goes without it, and its address stays in quarantine. It
may have connections of a removed member, which goes when the time that these had is over.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from cloudlb.db import desired, directing, facts, members, pools
from cloudlb.db.locks import Held
from cloudlb.db.records import MemberRecord, PoolRecord, RealizationRecord

LOG = logging.getLogger(__name__)

Silent = Callable[[RealizationRecord], bool]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is gone: hosts that are done with the pool, members, the pool itself.

    ``silent`` hosts had a part of the removed pool and did not say that it is gone.
    """

    hosts: tuple[str, ...] = ()
    members: tuple[UUID, ...] = ()
    pool: bool = False
    silent: tuple[str, ...] = ()


def decide(
    record: PoolRecord,
    known: Sequence[MemberRecord],
    realizations: Sequence[RealizationRecord],
    is_silent: Silent,
    now: float,
) -> Verdict:
    """What of a pool is gone.

    A host that has not heard of a member's removal, since it is silent or the bus is down, goes on
    with its connections, and must not find it gone when it hears again.
    """
    wanted = set() if record.removing else desired.hosts_of(record.pool, known)
    done = tuple(r.host for r in realizations if facts.is_gone(r) and r.host not in wanted)
    rest = [r for r in realizations if r.host not in done]
    if record.removing:
        silent = tuple(r.host for r in rest if is_silent(r))
        if len(silent) == len(rest):
            return Verdict(done, pool=True, silent=silent)
        return Verdict(done)
    speaking = [r for r in rest if not is_silent(r)]

    def is_gone(m: MemberRecord) -> bool:
        holders = speaking if _has_drained(record, m, now) else rest
        return m.removing and not any(facts.holds(r, m) for r in holders)

    return Verdict(done, tuple(m.member.id for m in known if is_gone(m)))


def _has_drained(record: PoolRecord, member: MemberRecord, now: float) -> bool:
    """Whether the time is over that a removed member's connections have."""
    return now >= (member.deleted_at or now) + record.pool.drain_timeout


def ripe(session: Session, is_silent: Silent, now: float) -> set[UUID]:
    """The pools of which something that was deleted is gone, by what can be seen without locks."""
    waiting = facts.being_removed(session)
    records = pools.some(session, waiting)
    return {
        record.pool.id
        for record, known, realizations in _around(session, records)
        if decide(record, known, realizations, is_silent, now) != Verdict()
    }


def settle(
    session: Session,
    held: Held,
    touched: Collection[UUID],
    moved: Collection[UUID],
    is_silent: Silent,
    now: float,
) -> set[str]:
    """Write what is gone of pools, and want those anew whose members ``moved`` or went.

    The pools and all hosts around them are ``held``. Returns the hosts to raise because of it.
    """
    told: set[str] = set()
    wanted = sorted({*touched, *moved} & held.pools.keys())
    for record, known, realizations in _around(session, [held.pools[p] for p in wanted]):
        verdict = decide(record, known, realizations, is_silent, now)
        for host in verdict.hosts:
            desired.forget(session, record.pool.id, host)
        _log(record, verdict)
        if verdict.pool:
            told |= _finish(session, held, record, verdict, now)
            continue
        members.remove(session, verdict.members)
        if verdict.members or record.pool.id in moved:
            left = [m for m in known if m.member.id not in verdict.members]
            rows = [r for r in realizations if r.host not in verdict.hosts]
            told |= _renew(session, held, record, left, rows, now)
    return told


def _around(
    session: Session, records: Sequence[PoolRecord]
) -> list[tuple[PoolRecord, list[MemberRecord], list[RealizationRecord]]]:
    """Pools with their members and realizations."""
    if not records:
        return []
    session.flush()
    ids = [record.pool.id for record in records]
    by_pool = members.of_pools(session, ids)
    realized = desired.of_pools(session, ids)
    return [(r, by_pool[r.pool.id], realized[r.pool.id]) for r in records]


def _renew(
    session: Session,
    held: Held,
    record: PoolRecord,
    left: Sequence[MemberRecord],
    realizations: Sequence[RealizationRecord],
    now: float,
) -> set[str]:
    """Want a pool anew of the hosts that know it or must; these."""
    pool = record.pool if record.removing else directing.settle(session, record.pool, left)
    wanted = set() if record.removing else desired.hosts_of(pool, left)
    rows = held.hosts(wanted | {r.host for r in realizations})
    desired.renew(session, record.pool.id, realizations, wanted, rows, now)
    return set(rows)


def _log(record: PoolRecord, verdict: Verdict) -> None:
    """A line per thing that is gone; repeated if the transaction is."""
    for host in verdict.hosts:
        LOG.info("pool=%s host=%s change=gone", record.pool.id, host)
    for member in verdict.members:
        LOG.info("pool=%s member=%s change=gone", record.pool.id, member)
    if verdict.pool:
        silent = ",".join(verdict.silent)
        LOG.info(
            "pool=%s address=%s change=gone quarantine=%s",
            record.pool.id,
            record.pool.address,
            silent,
        )


def _finish(
    session: Session, held: Held, record: PoolRecord, verdict: Verdict, now: float
) -> set[str]:
    """Forget a pool; hosts that did not speak keep its address from others until they do.

    Every host of the network is to be told, since its guests may announce the address again.
    """
    pools.remove(session, record.pool.id)
    silent = held.hosts(verdict.silent)
    generations = {name: row.generation + 1 for name, row in silent.items()}
    facts.quarantine(session, record.pool, generations, now)
    return {*silent, *desired.mapping(session, record.pool.network_id)}
