# SPDX-License-Identifier: Apache-2.0
"""The directors of pools that nobody names them for: the hosts of their members."""

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy.orm import Session

from cloudlb.db import pools, virtual_routers
from cloudlb.db.records import MemberRecord
from cloudlb.model.pool import Pool


def settle(session: Session, pool: Pool, records: Iterable[MemberRecord]) -> Pool:
    """The locked pool with the directors that its members make, which are stored.

    Removed members count until they are gone: clients come by their hosts as long as these direct.
    """
    if not pool.members_direct:
        return pool
    directors = _in_order(pool, {r.where.placement.host for r in records if r.where.placement})
    if directors == pool.directors:
        return pool
    moved = replace(pool, directors=directors)
    moved = replace(moved, virtual_router=virtual_routers.number(session, moved, pool))
    pools.redirect(session, moved)
    return moved


def _in_order(pool: Pool, hosts: set[str]) -> tuple[str, ...]:
    """The entry host, if it is one of them; then who directs already: others that are new take the
    address from nobody.
    """
    order = (pool.entry_host, *pool.directors, *sorted(hosts))
    return tuple(dict.fromkeys(host for host in order if host in hosts))
