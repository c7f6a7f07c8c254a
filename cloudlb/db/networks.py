# SPDX-License-Identifier: Apache-2.0
"""Networks in the database."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from cloudlb.db.models import NetworkRow, PoolRow, QuarantineRow, SequenceRow
from cloudlb.db.pages import Page, Paging, fetch
from cloudlb.db.records import NetworkRecord
from cloudlb.model import plain
from cloudlb.model.network import Address, Network

_NUMBERS = "network"


def load(row: NetworkRow) -> Network:
    """The model of a row."""
    return Network(
        id=UUID(row.id),
        project_id=row.project_id,
        name=row.name,
        number=row.number,
        prefixes=tuple(ip_network(p) for p in row.prefixes),
        vip_range=tuple(ip_network(p) for p in row.vip_range),
        generation=row.generation,
    )


def _record(row: NetworkRow) -> NetworkRecord:
    return NetworkRecord(load(row), row.created_at, row.updated_at)


def get(
    session: Session, network_id: UUID, lock: bool = False, keep: bool = False
) -> NetworkRecord | None:
    """The network with this id; ``lock`` keeps other writers from it, and so does ``keep`` but for
    those that keep it, too.
    """
    query = select(NetworkRow).where(NetworkRow.id == str(network_id))
    row = session.scalar(query.with_for_update(read=keep) if lock or keep else query)
    return None if row is None else _record(row)


def get_by_name(session: Session, name: str) -> NetworkRecord | None:
    """The network with this name."""
    row = session.scalar(select(NetworkRow).where(NetworkRow.name == name))
    return None if row is None else _record(row)


def page(
    session: Session, paging: Paging, name: str | None = None, project_id: str | None = None
) -> Page[NetworkRecord]:
    """A page of networks."""
    query = select(NetworkRow)
    if name is not None:
        query = query.where(NetworkRow.name == name)
    if project_id is not None:
        query = query.where(NetworkRow.project_id == project_id)
    found = fetch(session, query, NetworkRow, paging)
    return Page(tuple(_record(row) for (row,) in found.items), found.more)


def keep(session: Session, network_ids: Sequence[str]) -> None:
    """Let nobody change or delete these networks until the end of the transaction."""
    query = select(NetworkRow.id).where(NetworkRow.id.in_(network_ids)).order_by(NetworkRow.id)
    session.execute(query.with_for_update(read=True))


def next_number(session: Session) -> int:
    """A number that no network has or had."""
    query = select(SequenceRow.value).where(SequenceRow.name == _NUMBERS).with_for_update()
    last = session.scalar(query)
    if last is None:
        session.execute(insert(SequenceRow).values(name=_NUMBERS, value=1))
        return 1
    session.execute(update(SequenceRow).where(SequenceRow.name == _NUMBERS).values(value=last + 1))
    return last + 1


def add(session: Session, network: Network, now: float) -> NetworkRecord:
    """Store a new network."""
    session.execute(
        insert(NetworkRow).values(
            id=str(network.id),
            project_id=network.project_id,
            number=network.number,
            created_at=now,
            updated_at=now,
            **_spec(network),
        )
    )
    return NetworkRecord(network, now, now)


def change(session: Session, record: NetworkRecord, network: Network, now: float) -> NetworkRecord:
    """Store the new spec of a network."""
    session.execute(
        update(NetworkRow)
        .where(NetworkRow.id == str(network.id))
        .values(updated_at=now, **_spec(network))
    )
    return NetworkRecord(network, record.created_at, now)


def remove(session: Session, network_id: UUID) -> None:
    """Forget a network that has no pools, and the quarantines in it, whose hosts are locked."""
    session.execute(delete(QuarantineRow).where(QuarantineRow.network_id == str(network_id)))
    session.execute(delete(NetworkRow).where(NetworkRow.id == str(network_id)))


def pools_of(session: Session, network_id: UUID) -> list[tuple[UUID, str, Address]]:
    """Id, name and address of the network's pools, also of those that are being removed."""
    query = select(PoolRow.id, PoolRow.name, PoolRow.address).where(
        PoolRow.network_id == str(network_id)
    )
    return [(UUID(i), name, ip_address(address)) for i, name, address in session.execute(query)]


def _spec(network: Network) -> dict[str, object]:
    return {
        "name": network.name,
        "prefixes": plain.encode(network.prefixes),
        "vip_range": plain.encode(network.vip_range),
        "generation": network.generation,
    }
