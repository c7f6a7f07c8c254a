# SPDX-License-Identifier: Apache-2.0
"""Forgetting a host that an administrator declares gone."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloudlb.db import desired, hosts, locks, members, removal
from cloudlb.db.models import RealizationRow, ServerRow


def forget_host(session: Session, name: str, now: float) -> desired.Bell:
    """Forget a host, and settle and announce the pools that it had a part in.

    Its servers are gone with it, so their members wait until another host reports them.
    """
    held = locks.take(session, {name}, _known(session, name) | _served(session, name))
    touched, moved = _known(session, name), _served(session, name)
    held.check(touched | moved)
    hosts.remove(session, name)
    del held.rows[name]
    told = removal.settle(session, held, touched, moved, lambda _record: False, now)
    return desired.raise_hosts(session, held.hosts(told))


def _known(session: Session, name: str) -> set[UUID]:
    """The pools that a host knows."""
    rows = session.scalars(select(RealizationRow.pool_id).where(RealizationRow.host == name))
    return {UUID(pool_id) for pool_id in rows}


def _served(session: Session, name: str) -> set[UUID]:
    """The pools that have a server of a host as member."""
    seen = session.scalars(select(ServerRow.id).where(ServerRow.host == name))
    return {pool for pool, _, _ in members.of_servers(session, [UUID(s) for s in seen])}
