# SPDX-License-Identifier: Apache-2.0
"""Hosts in the database."""

from collections.abc import Collection
from ipaddress import ip_address
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from cloudlb.db.models import HostRow, PoolRow, QuarantineRow, RealizationRow
from cloudlb.db.pages import Page, Paging, cut
from cloudlb.model import plain
from cloudlb.model.errors import InvalidRequest
from cloudlb.model.host import Host, Role, Uplink

FIRST_GENERATION = 1


def is_alive(last_seen: float | None, now: float, host_down_time: float) -> bool:
    """Whether a host's agent has spoken recently."""
    return last_seen is not None and now - last_seen < host_down_time


def load(row: HostRow, now: float, host_down_time: float) -> Host:
    """The model of a row."""
    return Host(
        name=row.name,
        roles=tuple(Role(role) for role in row.roles),
        engine=row.engine,
        alive=is_alive(row.last_seen, now, host_down_time),
        last_seen=row.last_seen or 0.0,
        generation=row.generation,
        observed_generation=row.observed_generation,
        uplinks=tuple(plain.decode(Uplink, data) for data in row.uplinks),
        management=ip_address(row.management) if row.management else None,
    )


def get(session: Session, name: str, now: float, host_down_time: float) -> Host | None:
    """The host with this name."""
    row = session.get(HostRow, name)
    return None if row is None else load(row, now, host_down_time)


def everything(session: Session, now: float, host_down_time: float) -> list[Host]:
    """All hosts by name."""
    rows = session.scalars(select(HostRow).order_by(HostRow.name))
    return [load(row, now, host_down_time) for row in rows]


def page(
    session: Session, paging: Paging, name: str | None, now: float, host_down_time: float
) -> Page[Host]:
    """A page of hosts, by name."""
    query = select(HostRow).order_by(HostRow.name).limit(paging.limit + 1)
    if name is not None:
        query = query.where(HostRow.name == name)
    if paging.marker is not None:
        query = query.where(HostRow.name > paging.marker)
    found = [load(row, now, host_down_time) for row in session.scalars(query)]
    if not found and paging.marker is not None and session.get(HostRow, paging.marker) is None:
        raise InvalidRequest(
            f"There is no host {paging.marker!r}; begin without a marker.", field="marker"
        )
    return cut(found, paging)


def pools_directed_by(session: Session, name: str) -> list[str]:
    """Names of the pools that have this host as a director that somebody has chosen."""
    query = (
        select(PoolRow.name, PoolRow.directors)
        .join(RealizationRow, RealizationRow.pool_id == PoolRow.id)
        .where(RealizationRow.host == name)
        .where(PoolRow.deleted_at.is_(None), PoolRow.forwarding.is_(None))
    )
    return [pool for pool, directors in session.execute(query) if name in directors]


def remove(session: Session, name: str) -> None:
    """Forget a host with its inventory, its realizations and the addresses it kept from use."""
    session.execute(delete(RealizationRow).where(RealizationRow.host == name))
    session.execute(delete(QuarantineRow).where(QuarantineRow.host == name))
    session.execute(delete(HostRow).where(HostRow.name == name))


def lock(session: Session, names: Collection[str]) -> dict[str, HostRow]:
    """Hosts by name as far as they exist, locked in the order of their names.

    To be called once in a transaction, after all other locks: see `cloudlb.db.locks`.
    """
    if not names:
        return {}
    query = (
        select(HostRow)
        .where(HostRow.name.in_(sorted(names)))
        .order_by(HostRow.name)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.name: row for row in session.scalars(query)}


def meet(
    session: Session, known: dict[str, HostRow], name: str, seen_generation: int, now: float
) -> HostRow:
    """The row of a host that speaks, out of the locked ones; added to them if it is new.

    A host that knows a generation that was never given (its row was deleted, or the database
    restored) is brought to wait for a later one: else its old word would count as news.
    """
    row = known.get(name)
    if row is None:
        session.execute(insert(HostRow).values(name=name, **_empty(max(seen_generation, 0))))
        row = session.scalars(select(HostRow).where(HostRow.name == name)).one()
        known[name] = row
    elif seen_generation > row.generation:
        row.generation = seen_generation + 1
        row.observed_generation = 0
        session.execute(
            update(RealizationRow)
            .where(RealizationRow.host == name)
            .values(generation=row.generation, observed_generation=0, revision=0)
        )
    row.last_seen = now
    return row


def _empty(seen_generation: int) -> dict[str, Any]:
    return {
        "roles": [],
        "engine": "",
        "uplinks": [],
        "management": "",
        "generation": seen_generation + FIRST_GENERATION,
        "observed_generation": 0,
        "inventory_revision": 0,
        "last_seen": None,
    }
