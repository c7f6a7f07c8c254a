# SPDX-License-Identifier: Apache-2.0
"""Numbers of virtual routers: pools with the same directors in the same order share an election.

A number is told apart on a host by nothing but itself, so no two groups that have a director in
common may have the same one (VRID, RFC 9568, section 5.2.3: 1 to 255).
"""

from collections.abc import Iterator

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from cloudlb.db.models import PoolRow, SequenceRow
from cloudlb.model.errors import Conflict
from cloudlb.model.pool import Pool

_LOCK = "virtual_router"
_NUMBERS = range(1, 256)


def number(session: Session, pool: Pool, old: Pool | None = None) -> int:
    """The number of a pool's virtual router, 0 with one director; it keeps the one it had.

    Choosing is one transaction's at a time; to be called after the locks of pools and networks
    and before those of hosts.
    """
    if len(pool.directors) < 2:
        return 0
    if old and old.virtual_router and _group(old) == _group(pool):
        return old.virtual_router
    lock(session)
    used: set[int] = set()
    for other in _others(session, pool):
        group = (other.network_id, tuple(other.directors), other.failover)
        if group == _group(pool):
            return other.virtual_router
        if set(other.directors) & set(pool.directors):
            used.add(other.virtual_router)
    free = next((n for n in _NUMBERS if n not in used), None)
    if free is None:
        raise Conflict(
            "The directors are in 255 different groups with others, and an election can tell no "
            "more apart. Name them in an order that another pool has, or give members servers on "
            "the hosts of another pool's.",
            field="pool.directors",
        )
    return free


def _group(pool: Pool) -> tuple[str, tuple[str, ...], str]:
    return str(pool.network_id), pool.directors, pool.failover.value


def _others(session: Session, pool: Pool) -> Iterator[PoolRow]:
    query = select(PoolRow).where(PoolRow.virtual_router != 0, PoolRow.id != str(pool.id))
    yield from session.scalars(query.order_by(PoolRow.id))


def lock(session: Session) -> None:
    """Nobody else chooses until the end of the transaction; the first one makes the row."""
    query = select(SequenceRow).where(SequenceRow.name == _LOCK).with_for_update()
    if session.scalar(query) is None:
        session.execute(insert(SequenceRow).values(name=_LOCK, value=0))
