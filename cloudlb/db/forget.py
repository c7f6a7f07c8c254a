# SPDX-License-Identifier: Apache-2.0
"""Forgetting a host that an administrator declares gone."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloudlb.db import desired, hosts, members, removal
from cloudlb.db.models import RealizationRow, ServerRow


def forget_host(session: Session, name: str, now: float) -> desired.Bell:
    """Forget a host, and settle and announce the pools that it had a part in.

    Its servers are gone with it, so their members wait until another host reports them.
    """
    rows = session.scalars(select(RealizationRow.pool_id).where(RealizationRow.host == name))
    touched = {UUID(pool_id) for pool_id in rows}
    seen = session.scalars(select(ServerRow.id).where(ServerRow.host == name))
    moved = {pool for pool, _, _ in members.of_servers(session, [UUID(s) for s in seen])}
    hosts.remove(session, name)
    return removal.settle(session, touched, moved, lambda _record: False, now)
