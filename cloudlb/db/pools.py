# SPDX-License-Identifier: Apache-2.0
"""Pools in the database."""

from collections.abc import Collection
from ipaddress import ip_address
from uuid import UUID

from sqlalchemy import case, delete, insert, literal, select, union_all, update
from sqlalchemy.orm import Session

from cloudlb.db import networks
from cloudlb.db.models import MemberRow, NetworkRow, PoolRow, QuarantineRow, SightingRow
from cloudlb.db.pages import Page, Paging, fetch
from cloudlb.db.records import PoolRecord
from cloudlb.model import plain
from cloudlb.model.network import Network
from cloudlb.model.pool import (
    ClientAddress,
    ConnectionCount,
    DownAction,
    Failover,
    Forwarding,
    Monitor,
    Persistence,
    Pool,
    Port,
    Protocol,
    RotationOrder,
    Scheduler,
    Timeouts,
    Translation,
)


def load(row: PoolRow) -> Pool:
    """The model of a row."""
    return Pool(
        id=UUID(row.id),
        project_id=row.project_id,
        network_id=UUID(row.network_id),
        name=row.name,
        description=row.description,
        address=ip_address(row.address),
        ports=tuple(Port(Protocol(p["protocol"]), p["port"]) for p in row.ports),
        data_plane=row.data_plane,
        scheduler=Scheduler(row.scheduler),
        rotation_order=RotationOrder(row.rotation_order),
        connection_count=ConnectionCount(row.connection_count),
        persistence=(
            None if row.persistence is None else plain.decode(Persistence, row.persistence)
        ),
        masquerade=row.masquerade,
        client_address=None if row.client_address is None else ClientAddress(row.client_address),
        timeouts=None if row.timeouts is None else plain.decode(Timeouts, row.timeouts),
        directors=tuple(row.directors),
        failover=Failover(row.failover),
        virtual_router=row.virtual_router,
        forwarding=None if row.forwarding is None else Forwarding(row.forwarding),
        entry_host=row.entry_host,
        translation=None if row.translation is None else Translation(row.translation),
        monitor=None if row.monitor is None else plain.decode(Monitor, row.monitor),
        down_action=DownAction(row.down_action),
        panic_threshold=row.panic_threshold,
        drain_timeout=row.drain_timeout,
        admin_state_up=row.admin_state_up,
        generation=row.generation,
    )


def record(row: PoolRow) -> PoolRecord:
    """The record of a row."""
    return PoolRecord(load(row), row.created_at, row.updated_at, row.deleted_at)


def get(
    session: Session, pool_id: UUID, project_id: str | None, lock: bool = False
) -> tuple[PoolRecord, Network] | None:
    """A pool of a project (None: of any) and its network; ``lock`` keeps other writers away.

    MariaDB cannot lock one table of a join, and all pools of a network would wait for each other.
    """
    query = (
        select(PoolRow, NetworkRow)
        .join(NetworkRow, NetworkRow.id == PoolRow.network_id)
        .where(PoolRow.id == str(pool_id))
    )
    if project_id is not None:
        query = query.where(PoolRow.project_id == project_id)
    if lock and session.get_bind().dialect.name in ("mysql", "mariadb"):
        session.execute(select(PoolRow.id).where(PoolRow.id == str(pool_id)).with_for_update())
    elif lock:
        query = query.with_for_update(of=PoolRow)
    found = session.execute(query).one_or_none()
    return None if found is None else (record(found[0]), networks.load(found[1]))


def some(session: Session, pool_ids: Collection[UUID]) -> list[PoolRecord]:
    """Those of the pools that exist, by id."""
    if not pool_ids:
        return []
    query = select(PoolRow).where(PoolRow.id.in_([str(p) for p in pool_ids]))
    return [record(row) for row in session.scalars(query.order_by(PoolRow.id))]


def page(
    session: Session,
    paging: Paging,
    project_id: str | None,
    name: str | None = None,
    network_id: str | None = None,
) -> Page[PoolRecord]:
    """A page of the pools of a project (None: of all)."""
    query = select(PoolRow)
    for column, value in (
        (PoolRow.project_id, project_id),
        (PoolRow.name, name),
        (PoolRow.network_id, network_id),
    ):
        if value is not None:
            query = query.where(column == value)
    found = fetch(session, query, PoolRow, paging)
    return Page(tuple(record(row) for (row,) in found.items), found.more)


def taken(
    session: Session, network: Network, own: Collection[UUID] = (), *, remote: bool
) -> dict[str, str]:
    """The addresses of a network that somebody has, each with who that is.

    ``own`` are servers that are to be members of a pool: they may hold its address already.
    ``remote``: also those of remote servers, which may be members of several pools.
    """
    network_id = str(network.id)
    members = [str(server) for server in own]
    queries = [
        select(
            SightingRow.address,
            SightingRow.host,
            case((SightingRow.mac == "", "gateway"), else_="seen"),
        ).where(SightingRow.network == network.name, SightingRow.server.not_in(members)),
        select(QuarantineRow.address, QuarantineRow.host, literal("silent")).where(
            QuarantineRow.network_id == network_id
        ),
        select(PoolRow.address, PoolRow.name, literal("pool")).where(
            PoolRow.network_id == network_id
        ),
    ]
    if remote:
        named = select(MemberRow.remote, PoolRow.name, literal("remote"))
        named = named.join(PoolRow, PoolRow.id == MemberRow.pool_id)
        queries.append(named.where(PoolRow.network_id == network_id, MemberRow.remote != ""))
    query = union_all(*queries)
    return {address: _HOLDERS[kind].format(who) for address, who, kind in session.execute(query)}


_HOLDERS = {
    "seen": "is in use on host {0}",
    "gateway": "is the gateway of host {0}",
    "silent": "may still be answered by host {0}, which was silent when its pool was removed; it "
    "is free when the host has spoken again or an administrator has deleted the host",
    "pool": "belongs to another pool",
    "remote": "is a remote member of pool {0}",
}


def add(session: Session, pool: Pool, now: float) -> PoolRecord:
    """Store a new pool."""
    session.execute(
        insert(PoolRow).values(
            id=str(pool.id),
            project_id=pool.project_id,
            network_id=str(pool.network_id),
            address=str(pool.address),
            created_at=now,
            updated_at=now,
            **_spec(pool),
        )
    )
    return PoolRecord(pool, now, now)


def change(session: Session, old: PoolRecord, pool: Pool, now: float) -> PoolRecord:
    """Store the new spec of a pool."""
    session.execute(
        update(PoolRow).where(PoolRow.id == str(pool.id)).values(updated_at=now, **_spec(pool))
    )
    return PoolRecord(pool, old.created_at, now, old.deleted_at)


def mark_removed(session: Session, old: PoolRecord, now: float) -> PoolRecord:
    """Mark a pool as deleted; its row goes when no host has anything of it."""
    session.execute(
        update(PoolRow)
        .where(PoolRow.id == str(old.pool.id))
        .values(deleted_at=now, updated_at=now, generation=old.pool.generation)
    )
    return PoolRecord(old.pool, old.created_at, now, now)


def touch(session: Session, old: PoolRecord, now: float) -> PoolRecord:
    """Store the generation of a pool whose members have changed."""
    session.execute(
        update(PoolRow)
        .where(PoolRow.id == str(old.pool.id))
        .values(generation=old.pool.generation, updated_at=now)
    )
    return PoolRecord(old.pool, old.created_at, now, old.deleted_at)


def redirect(session: Session, pool: Pool) -> None:
    """Store the directors of a pool whose members are elsewhere now."""
    session.execute(
        update(PoolRow)
        .where(PoolRow.id == str(pool.id))
        .values(directors=list(pool.directors), virtual_router=pool.virtual_router)
    )


def remove(session: Session, pool_id: UUID) -> None:
    """Forget a pool with its members and realizations."""
    session.execute(delete(PoolRow).where(PoolRow.id == str(pool_id)))


def exists(session: Session, pool_id: UUID) -> bool:
    """Whether there still is such a pool."""
    return session.scalar(select(PoolRow.id).where(PoolRow.id == str(pool_id))) is not None


def _spec(pool: Pool) -> dict[str, object]:
    return {
        "name": pool.name,
        "description": pool.description,
        "ports": plain.encode(pool.ports),
        "data_plane": pool.data_plane,
        "scheduler": pool.scheduler.value,
        "rotation_order": pool.rotation_order.value,
        "connection_count": pool.connection_count.value,
        "persistence": plain.encode(pool.persistence),
        "timeouts": plain.encode(pool.timeouts),
        "directors": list(pool.directors),
        "failover": pool.failover.value,
        "virtual_router": pool.virtual_router,
        "forwarding": pool.forwarding,
        "entry_host": pool.entry_host,
        "translation": pool.translation,
        "masquerade": pool.masquerade,
        "client_address": pool.client_address,
        "monitor": plain.encode(pool.monitor),
        "down_action": pool.down_action.value,
        "panic_threshold": pool.panic_threshold,
        "drain_timeout": pool.drain_timeout,
        "admin_state_up": pool.admin_state_up,
        "generation": pool.generation,
    }
