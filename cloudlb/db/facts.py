# SPDX-License-Identifier: Apache-2.0
"""What agents report of pools and members: realizations, health, and what is gone by it."""

import logging
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.orm import Session

from cloudlb.db.models import MemberRow, PoolRow, QuarantineRow, RealizationRow
from cloudlb.db.records import MemberRecord, RealizationRecord
from cloudlb.model.pool import Pool
from cloudlb.model.snapshot import HealthReport, Realization, RealizationState

LOG = logging.getLogger(__name__)
REASON_LENGTH = 1024


def store_realizations(
    session: Session, host: str, reported: Sequence[Realization], now: float
) -> set[UUID]:
    """Take note of a host's word on pools; the pools for which something was wanted of it.

    A word on an older generation than one already noted says nothing, nor does an older word on
    the same one. A newer generation counts whatever its revision: the agent may have lost count.
    """
    if not reported:
        return set()
    query = select(RealizationRow).where(
        RealizationRow.host == host,
        RealizationRow.pool_id.in_([str(r.pool_id) for r in reported]),
    )
    rows = {UUID(row.pool_id): row for row in session.scalars(query)}
    for word in reported:
        row = rows.get(word.pool_id)
        if row is not None and _is_news(row, word):
            _note(row, word, now)
    return set(rows)


def _is_news(row: RealizationRow, word: Realization) -> bool:
    observed = min(row.observed_generation, row.generation)
    if word.generation != observed:
        return word.generation > observed
    return word.revision >= row.revision or not word.revision


def _note(row: RealizationRow, word: Realization, now: float) -> None:
    news = row.observed_generation < row.generation <= word.generation
    if news or row.state != word.state.value:
        row.since = now
        LOG.info(
            "pool=%s host=%s generation=%d state=%s reason=%r",
            row.pool_id,
            row.host,
            word.generation,
            word.state.value,
            word.reason,
        )
    row.observed_generation = word.generation
    row.revision = word.revision
    row.state = word.state.value
    row.reason = word.reason[:REASON_LENGTH]
    row.announcing = word.announcing
    row.draining = sorted(str(member) for member in word.draining)


def store_health(session: Session, host: str, reported: Sequence[HealthReport]) -> None:
    """Take note of probes of members whose pools are locked.

    Only directors of the pool are believed, and each in its own order.
    """
    if not reported:
        return
    query = (
        select(MemberRow.id, MemberRow.health_host, MemberRow.health_revision, PoolRow.directors)
        .join(PoolRow, PoolRow.id == MemberRow.pool_id)
        .where(MemberRow.id.in_([str(word.member_id) for word in reported]))
    )
    known = {
        UUID(key): revision if by == host else -1
        for key, by, revision, directors in session.execute(query)
        if host in directors
    }
    news = [w for w in reported if w.member_id in known and w.revision > known[w.member_id]]
    if news:
        _write_health(session, host, news)


def _write_health(session: Session, host: str, news: Sequence[HealthReport]) -> None:
    table = MemberRow.__table__
    statement = (
        update(MemberRow)
        .where(table.c.id == bindparam("key"))
        .values(
            health=bindparam("word"),
            health_reason=bindparam("why"),
            health_host=host,
            health_revision=bindparam("revision"),
        )
    )
    latest = {word.member_id: word for word in sorted(news, key=lambda w: w.revision)}
    session.connection().execute(
        statement,
        [
            {
                "key": str(word.member_id),
                "word": word.health.value,
                "why": word.reason[:REASON_LENGTH],
                "revision": word.revision,
            }
            for word in latest.values()
        ],
    )


def clear_quarantines(session: Session, host: str, reported: Sequence[Realization]) -> None:
    """Free the addresses of removed pools that a host says to have nothing of any more.

    That it has seen the removal is not enough: its kernel may refuse it.
    """
    for word in reported:
        if word.state is RealizationState.GONE:
            session.execute(
                delete(QuarantineRow).where(
                    QuarantineRow.host == host,
                    QuarantineRow.pool_id == str(word.pool_id),
                    QuarantineRow.generation <= word.generation,
                )
            )


def quarantine(session: Session, pool: Pool, generations: Mapping[str, int], now: float) -> None:
    """Keep a removed pool's address from other pools, for each host that may still hold it.

    ``generations``: by host, the first one without the pool.
    """
    for host, generation in sorted(generations.items()):
        session.merge(
            QuarantineRow(
                network_id=str(pool.network_id),
                address=str(pool.address),
                host=host,
                pool_id=str(pool.id),
                data_plane=pool.data_plane,
                generation=generation,
                since=now,
            )
        )


def is_gone(record: RealizationRecord) -> bool:
    """Whether a host says that nothing of the pool is left on it."""
    return record.current and record.state == RealizationState.GONE.value


def holds(record: RealizationRecord, member: MemberRecord) -> bool:
    """Whether a host may still have connections of a removed member."""
    settled = record.current and record.state != RealizationState.FAILING.value
    return not settled or member.member.id in record.draining


def may_end(session: Session, reported: Sequence[Realization]) -> set[UUID]:
    """The pools of which a host's word may end something: that are removed, or gone there."""
    if not reported:
        return set()
    gone = {word.pool_id for word in reported if word.state is RealizationState.GONE}
    return gone | being_removed(session, {word.pool_id for word in reported})


def being_removed(session: Session, among: Collection[UUID] | None = None) -> set[UUID]:
    """Pools that are marked or have members that are (``among`` these, or of all)."""
    query = (
        select(PoolRow.id)
        .outerjoin(MemberRow, MemberRow.pool_id == PoolRow.id)
        .where(or_(PoolRow.deleted_at.is_not(None), MemberRow.deleted_at.is_not(None)))
        .distinct()
    )
    if among is not None:
        query = query.where(PoolRow.id.in_([str(p) for p in among]))
    return {UUID(pool_id) for pool_id in session.scalars(query)}


def pools_of_members(session: Session, reported: Sequence[HealthReport]) -> set[UUID]:
    """The pools whose members were probed."""
    if not reported:
        return set()
    ids = [str(word.member_id) for word in reported]
    query = select(MemberRow.pool_id).where(MemberRow.id.in_(ids)).distinct()
    return {UUID(pool_id) for pool_id in session.scalars(query)}
