# SPDX-License-Identifier: Apache-2.0
"""What a transaction locks, and the one order in which it does.

A network's lock covers the network; a pool's the pool and its members; a host's the host with
all that is kept for it: realizations, servers, sightings, quarantines. Locks are taken in the
order pools (by id), networks, the numbers of virtual routers, hosts (by name), so that
transactions wait for each other, but never in a circle. Who writes one pool or network takes
its lock by `pools.get` or `networks.get` and those of the hosts by `desired.announce`; who writes
several takes them here.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from cloudlb.db import desired, hosts, networks, pools, virtual_routers
from cloudlb.db.models import HostRow, MemberRow, PoolRow, RealizationRow, ServerRow
from cloudlb.db.records import PoolRecord
from cloudlb.db.session import Raced


@dataclass(frozen=True, slots=True)
class Held:
    """Locked pools by id and hosts by name; ``asked`` are hosts that were looked for."""

    pools: dict[UUID, PoolRecord]
    asked: frozenset[str]
    rows: dict[str, HostRow]

    def hosts(self, names: Iterable[str]) -> dict[str, HostRow]:
        """Those of the hosts that exist, by name; `Raced` for one that was not looked for."""
        wanted = set(names)
        if late := wanted - self.asked:
            raise Raced(f"hosts that are not locked: {', '.join(sorted(late))}")
        return {name: self.rows[name] for name in sorted(wanted) if name in self.rows}

    def check(self, pool_ids: Collection[UUID]) -> None:
        """Raise `Raced` if there is a pool among these that was not locked."""
        if late := set(pool_ids) - set(self.pools):
            raise Raced(f"pools that are not locked: {', '.join(map(str, sorted(late)))}")


def take(
    session: Session,
    names: Collection[str],
    changing: Collection[UUID] = (),
    others: Collection[UUID] = (),
) -> Held:
    """Lock pools and hosts: ``names``, and all that may be raised when ``changing`` pools change.

    Of ``others`` only members are written. What was read before may have changed meanwhile.
    """
    rows = _lock_pools(session, {*changing, *others})
    concerned = [row for row in rows if UUID(row.id) in changing]
    wanted = {*names, *_hosts_around(session, concerned)}
    if any(row.forwarding for row in concerned):
        virtual_routers.lock(session)
    held = {UUID(row.id): pools.record(row) for row in rows}
    return Held(held, frozenset(wanted), hosts.lock(session, wanted))


def _lock_pools(session: Session, pool_ids: Collection[UUID]) -> list[PoolRow]:
    if not pool_ids:
        return []
    query = (
        select(PoolRow)
        .where(PoolRow.id.in_(sorted(map(str, pool_ids))))
        .order_by(PoolRow.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(query))


def _hosts_around(session: Session, rows: Collection[PoolRow]) -> set[str]:
    """Hosts that know pools or may have to: also those that only see a server of a member.

    The end of a pool is told to its whole network, and may leave a quarantine there.
    """
    if not rows:
        return set()
    ids = [row.id for row in rows]
    known = select(RealizationRow.host).where(RealizationRow.pool_id.in_(ids))
    seen = (
        select(ServerRow.host)
        .join(MemberRow, MemberRow.server == ServerRow.id)
        .where(MemberRow.pool_id.in_(ids))
    )
    found = set(session.scalars(union(known, seen)))
    found.update(name for row in rows for name in row.directors)
    ending = sorted({row.network_id for row in rows if row.deleted_at is not None})
    if ending:
        networks.keep(session, ending)
    for network_id in ending:
        found.update(desired.mapping(session, UUID(network_id)))
    return found
