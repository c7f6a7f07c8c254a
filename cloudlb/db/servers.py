# SPDX-License-Identifier: Apache-2.0
"""Servers as agents saw them, and where that puts a member."""

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from cloudlb.db.models import ServerRow, SightingRow
from cloudlb.db.records import ServerRecord, Whereabouts
from cloudlb.model import plain
from cloudlb.model.host import Interface, Owner, Server
from cloudlb.model.pool import Placement

GONE = "No host reports this server any more."
OFF = "The server is off."


def load(row: ServerRow) -> ServerRecord:
    """The record of a row."""
    server = Server(
        id=UUID(row.id),
        name=row.name,
        owner=Owner(row.owner),
        running=row.running,
        project_id=row.project_id,
        interfaces=tuple(plain.decode(Interface, data) for data in row.interfaces),
    )
    return ServerRecord(server, row.host, row.since)


def find(session: Session, references: Collection[str]) -> list[ServerRecord]:
    """The servers with these names or UUIDs, on all hosts that see them."""
    if not references:
        return []
    wanted = list(references)
    query = select(ServerRow).where(or_(ServerRow.id.in_(wanted), ServerRow.name.in_(wanted)))
    return [load(row) for row in session.scalars(query)]


def holders(session: Session, network: str, addresses: Collection[str]) -> dict[str, set[str]]:
    """For each address the UUIDs of the servers that hold it in a network."""
    found: dict[str, set[str]] = {address: set() for address in addresses}
    if addresses:
        query = select(SightingRow.address, SightingRow.server).where(
            SightingRow.network == network,
            SightingRow.address.in_(list(addresses)),
            SightingRow.server != "",
        )
        for address, server in session.execute(query):
            found[address].add(server)
    return found


def some_names(session: Session, project_id: str | None, limit: int = 10) -> list[str]:
    """A few names of servers of a project (None: of any), to help with a misspelt one."""
    query = select(ServerRow.name).distinct().order_by(ServerRow.name).limit(limit)
    if project_id is not None:
        query = query.where(ServerRow.project_id == project_id)
    return list(session.scalars(query))


def best(records: Iterable[ServerRecord]) -> ServerRecord | None:
    """Where a server is, by what several hosts say: a running one first, then the newest word."""
    return max(records, key=lambda r: (r.server.running, r.since, r.host), default=None)


def nics(server: Server, network: str) -> list[Interface]:
    """The interfaces of a server in a network."""
    return [nic for nic in server.interfaces if nic.network == network]


def locate(record: ServerRecord | None, network: str) -> Whereabouts:
    """Where a server's only interface in a network is."""
    if record is None:
        return Whereabouts(None, GONE)
    found = nics(record.server, network)
    if len(found) != 1:
        return Whereabouts(None, describe_nics(record.server, network))
    nic = found[0]
    placement = Placement(record.host, nic.mac, nic.tap, nic.addresses, record.server.running)
    return Whereabouts(placement, "" if record.server.running else OFF)


def describe_nics(server: Server, network: str) -> str:
    """Why a server cannot be placed by its interfaces."""
    known = ", ".join(f"{n.mac} ({n.network or 'no mapped network'})" for n in server.interfaces)
    count = len(nics(server, network)) or "no"
    return (
        f"Server {server.name} has {count} interfaces in network {network}, and exactly one is "
        f"needed; its interfaces: {known or 'none'}."
    )
