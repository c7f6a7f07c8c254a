# SPDX-License-Identifier: Apache-2.0
"""Members in the database."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from cloudlb.db import servers
from cloudlb.db.models import MemberRow, NetworkRow, PoolRow, ServerRow
from cloudlb.db.pages import Page, Paging, cut
from cloudlb.db.records import MemberRecord, ServerRecord, ServingMember, Whereabouts
from cloudlb.model.pool import Health, Member, remote_placement


def _load(row: MemberRow, where: Whereabouts) -> MemberRecord:
    member = Member(
        id=UUID(row.id),
        project_id=row.project_id,
        pool_id=UUID(row.pool_id),
        server=UUID(row.server),
        name=row.name,
        port=row.port,
        weight=row.weight,
        backup=row.backup,
        remote=ip_address(row.remote) if row.remote else None,
        prepared=row.prepared,
        admin_state_up=row.admin_state_up,
        generation=row.generation,
    )
    return MemberRecord(
        member=member,
        server_name=row.server_name,
        health=Health(row.health),
        health_reason=row.health_reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
        where=where,
    )


def _query() -> Any:
    """Members with the name of their network and, once per host that sees it, their server."""
    return (
        select(MemberRow, NetworkRow.name, ServerRow)
        .join(PoolRow, PoolRow.id == MemberRow.pool_id)
        .join(NetworkRow, NetworkRow.id == PoolRow.network_id)
        .outerjoin(ServerRow, ServerRow.id == MemberRow.server)
        .order_by(MemberRow.created_at, MemberRow.id)
    )


def _collect(found: Iterable[Any]) -> list[MemberRecord]:
    """One record per member from the rows of `_query`."""
    rows: dict[str, tuple[MemberRow, str, list[ServerRecord]]] = {}
    for member, network, server in found:
        seen = rows.setdefault(member.id, (member, network, []))[2]
        if server is not None:
            seen.append(servers.load(server))
    return [
        _load(member, _locate(member, network, seen)) for member, network, seen in rows.values()
    ]


def _locate(row: MemberRow, network: str, seen: Sequence[ServerRecord]) -> Whereabouts:
    if row.remote:
        return Whereabouts(remote_placement(ip_address(row.remote)))
    return servers.locate(servers.best(seen), network)


def of_pools(session: Session, pool_ids: Collection[UUID]) -> dict[UUID, list[MemberRecord]]:
    """The members of pools, in order of creation, also those that are being removed."""
    result: dict[UUID, list[MemberRecord]] = {pool_id: [] for pool_id in pool_ids}
    if pool_ids:
        query = _query().where(MemberRow.pool_id.in_([str(p) for p in pool_ids]))
        for record in _collect(session.execute(query)):
            result[record.member.pool_id].append(record)
    return result


def get(session: Session, pool_id: UUID, member_id: UUID) -> MemberRecord | None:
    """A member of a pool."""
    query = _query().where(MemberRow.id == str(member_id), MemberRow.pool_id == str(pool_id))
    return next(iter(_collect(session.execute(query))), None)


def page(
    session: Session, pool_id: UUID, paging: Paging, name: str | None = None
) -> Page[MemberRecord] | None:
    """A page of a pool's members; None if the marker names no member of it."""
    everything = of_pools(session, [pool_id])[pool_id]
    after = 0
    if paging.marker is not None:
        ids = [str(record.member.id) for record in everything]
        if paging.marker not in ids:
            return None
        after = ids.index(paging.marker) + 1
    rest = [m for m in everything[after:] if name is None or m.member.name == name]
    return cut(rest, paging)


def health_of_pools(
    session: Session, pool_ids: Collection[UUID]
) -> dict[UUID, list[ServingMember]]:
    """The members of pools that shall serve: not removed, not switched off."""
    result: dict[UUID, list[ServingMember]] = {pool_id: [] for pool_id in pool_ids}
    if pool_ids:
        columns = (
            MemberRow.id,
            MemberRow.name,
            MemberRow.health,
            MemberRow.weight,
            MemberRow.backup,
        )
        query = select(MemberRow.pool_id, *columns).where(
            MemberRow.pool_id.in_([str(p) for p in pool_ids]),
            MemberRow.deleted_at.is_(None),
            MemberRow.admin_state_up.is_(True),
        )
        for pool_id, key, name, health, weight, backup in session.execute(query):
            one = ServingMember(UUID(key), name, Health(health), weight, backup)
            result[UUID(pool_id)].append(one)
    return result


def add(session: Session, records: Sequence[MemberRecord]) -> None:
    """Store new members, all in one statement."""
    if records:
        session.execute(insert(MemberRow), [_row(record) for record in records])


def change(session: Session, records: Sequence[MemberRecord]) -> None:
    """Store what is wanted anew of members, all in one statement."""
    if not records:
        return
    columns = ("name", "port", "weight", "backup", "prepared", "admin_state_up", "generation")
    statement = (
        update(MemberRow.__table__)  # type: ignore[arg-type]
        .where(MemberRow.__table__.c.id == bindparam("key"))
        .values({name: bindparam(f"new_{name}") for name in (*columns, *_CHANGING)})
    )
    values = [_row(record) for record in records]
    session.connection().execute(
        statement,
        [
            {"key": row["id"]} | {f"new_{name}": row[name] for name in (*columns, *_CHANGING)}
            for row in values
        ],
    )


_CHANGING = ("server_name", "updated_at", "deleted_at")


def forget_health(
    session: Session, pool_id: UUID, records: Sequence[MemberRecord]
) -> list[MemberRecord]:
    """The members of a pool that nobody probes any more."""
    session.execute(
        update(MemberRow)
        .where(MemberRow.pool_id == str(pool_id))
        .values(health=Health.UNKNOWN.value, health_reason="")
    )
    return [replace(record, health=Health.UNKNOWN, health_reason="") for record in records]


def remove(session: Session, member_ids: Collection[UUID]) -> None:
    """Forget members."""
    if member_ids:
        ids = [str(member_id) for member_id in member_ids]
        session.execute(delete(MemberRow).where(MemberRow.id.in_(ids)))


def exists(session: Session, member_id: UUID) -> bool:
    """Whether there still is such a member."""
    query = select(MemberRow.id).where(MemberRow.id == str(member_id))
    return session.scalar(query) is not None


def of_servers(session: Session, server_ids: Collection[UUID]) -> list[tuple[UUID, UUID, str]]:
    """Pool, server and name of the network of each member that one of the servers is."""
    if not server_ids:
        return []
    query = (
        select(MemberRow.pool_id, MemberRow.server, NetworkRow.name)
        .join(PoolRow, PoolRow.id == MemberRow.pool_id)
        .join(NetworkRow, NetworkRow.id == PoolRow.network_id)
        .where(MemberRow.server.in_([str(s) for s in server_ids]))
    )
    return [(UUID(pool), UUID(server), name) for pool, server, name in session.execute(query)]


def _row(record: MemberRecord) -> dict[str, Any]:
    member = record.member
    return {
        "id": str(member.id),
        "project_id": member.project_id,
        "pool_id": str(member.pool_id),
        "server": str(member.server),
        "server_name": record.server_name,
        "name": member.name,
        "port": member.port,
        "weight": member.weight,
        "backup": member.backup,
        "remote": str(member.remote or ""),
        "prepared": member.prepared,
        "admin_state_up": member.admin_state_up,
        "generation": member.generation,
        "health": record.health.value,
        "health_reason": record.health_reason,
        "health_host": "",
        "health_revision": 0,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "deleted_at": record.deleted_at,
    }
