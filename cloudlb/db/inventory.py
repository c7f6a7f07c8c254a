# SPDX-License-Identifier: Apache-2.0
"""What an agent found on its host, stored as differences to what it found before."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from cloudlb.db import members, networks, servers
from cloudlb.db.models import HostRow, ServerRow, SightingRow
from cloudlb.db.records import ServerRecord, Whereabouts
from cloudlb.db.session import Raced
from cloudlb.model import plain
from cloudlb.model.host import Inventory, Server
from cloudlb.model.network import Network

_Views = Mapping[UUID, Sequence[ServerRecord]]


@dataclass(frozen=True, slots=True)
class _Change:
    """The records of one host's servers before and after a report, where they differ."""

    before: dict[UUID, ServerRecord]
    after: dict[UUID, ServerRecord]

    @property
    def servers(self) -> set[UUID]:
        return set(self.before) | set(self.after)


@dataclass(frozen=True, slots=True)
class News:
    """What is new in an inventory: the pools of which a member has ``moved`` by it are to be
    locked before it is stored. ``since`` is the revision that it was compared with.
    """

    inventory: Inventory
    since: int
    change: _Change
    moved: frozenset[UUID]


def compare(session: Session, host: str, inventory: Inventory | None, now: float) -> News | None:
    """What is new in an inventory; None if it is not newer than the stored one."""
    if inventory is None:
        return None
    known = session.scalar(select(HostRow.inventory_revision).where(HostRow.name == host)) or 0
    if inventory.revision <= known:
        return None
    change = _compare(session, host, inventory.servers, now)
    return News(inventory, known, change, _moved_pools(session, host, change))


def store(session: Session, host: HostRow, news: News) -> bool:
    """Store an inventory in a locked host; whether the host is in other networks than before."""
    if host.inventory_revision != news.since:
        raise Raced(f"host {host.name} has told another inventory meanwhile")
    inventory = news.inventory
    remapped = {u["network"] for u in host.uplinks} != {u.network for u in inventory.uplinks}
    host.inventory_revision = inventory.revision
    host.roles = [role.value for role in inventory.roles]
    host.engine = inventory.engine
    host.uplinks = [plain.encode(uplink) for uplink in inventory.uplinks]
    host.management = str(inventory.management or "")
    if _moved_pools(session, host.name, news.change) - news.moved:
        raise Raced(f"host {host.name} has a new member among the servers that changed")
    _write(session, host.name, news.change)
    _write_sightings(session, host.name, inventory)
    return remapped


def _compare(session: Session, host: str, found: Sequence[Server], now: float) -> _Change:
    query = select(ServerRow).where(ServerRow.host == host)
    before = {r.server.id: r for r in map(servers.load, session.scalars(query))}
    after = {server.id: _renew(before.get(server.id), host, server, now) for server in found}
    return _Change(
        {key: record for key, record in before.items() if after.get(key) != record},
        {key: record for key, record in after.items() if before.get(key) != record},
    )


def _renew(old: ServerRecord | None, host: str, server: Server, now: float) -> ServerRecord:
    """A change of name or addresses is no news about where the server is."""
    if old is not None and old.server.running == server.running:
        return ServerRecord(server, host, old.since)
    return ServerRecord(server, host, now)


def _moved_pools(session: Session, host: str, change: _Change) -> frozenset[UUID]:
    """The pools that have a member which is elsewhere after the change."""
    concerned = members.of_servers(session, change.servers)
    if not concerned:
        return frozenset()
    ids = [str(server) for _, server, _ in concerned]
    query = select(ServerRow).where(ServerRow.id.in_(ids), ServerRow.host != host)
    elsewhere: dict[UUID, list[ServerRecord]] = defaultdict(list)
    for record in map(servers.load, session.scalars(query)):
        elsewhere[record.server.id].append(record)
    known = {name: networks.get_by_name(session, name) for _, _, name in concerned}
    return frozenset(
        pool
        for pool, server, name in concerned
        if (network := known[name])
        and _place(server, network.network, elsewhere, change.before)
        != _place(server, network.network, elsewhere, change.after)
    )


def _place(
    server: UUID, network: Network, elsewhere: _Views, here: Mapping[UUID, ServerRecord]
) -> tuple[object, ...]:
    views = [*elsewhere.get(server, ()), *([here[server]] if server in here else [])]
    return _key(servers.locate(servers.best(views), network.name), network)


def _key(where: Whereabouts, network: Network) -> tuple[object, ...]:
    """What of a placement the data plane depends on; of the addresses it is the own ones."""
    place = where.placement
    if place is None:
        return ()
    own = [network.own_address(place.addresses, version) for version in (4, 6)]
    return (place.host, place.mac, place.tap, place.running, *own)


def _write(session: Session, host: str, change: _Change) -> None:
    gone = [str(key) for key in change.before if key not in change.after]
    if gone:
        session.execute(delete(ServerRow).where(ServerRow.host == host, ServerRow.id.in_(gone)))
    new = [_row(r) for key, r in change.after.items() if key not in change.before]
    if new:
        session.execute(insert(ServerRow), new)
    changed = [_row(r) for key, r in change.after.items() if key in change.before]
    if changed:
        session.execute(update(ServerRow), changed)


def _row(record: ServerRecord) -> dict[str, Any]:
    server = record.server
    return {
        "host": record.host,
        "id": str(server.id),
        "name": server.name,
        "owner": server.owner.value,
        "running": server.running,
        "project_id": server.project_id,
        "interfaces": [plain.encode(nic) for nic in server.interfaces],
        "since": record.since,
    }


def _write_sightings(session: Session, host: str, inventory: Inventory) -> None:
    table = SightingRow.__table__
    columns = ("network", "mac", "address", "server")
    query = select(*(table.c[name] for name in columns)).where(table.c.host == host)
    old = {tuple(row) for row in session.execute(query)}
    new = _sightings(inventory)
    if gone := old - new:
        keys = ("network", "mac", "address")
        match = and_(table.c.host == host, *(table.c[k] == bindparam(f"old_{k}") for k in keys))
        rows = [{f"old_{k}": v for k, v in zip(keys, row, strict=False)} for row in sorted(gone)]
        session.connection().execute(delete(SightingRow).where(match), rows)
    if added := new - old:
        rows = [{"host": host, **dict(zip(columns, row, strict=True))} for row in sorted(added)]
        session.execute(insert(SightingRow), rows)


def _sightings(inventory: Inventory) -> set[tuple[str, ...]]:
    """Network, mac, address and server of what the host and its guests hold in networks.

    What the host knows of its gateways are the addresses alone.
    """
    holders = [("", uplink) for uplink in inventory.uplinks] + [
        (str(server.id), nic) for server in inventory.servers for nic in server.interfaces
    ]
    found: dict[tuple[str, str, str], str] = {}
    for server, nic in holders:
        for address in nic.addresses:
            if nic.network:
                found[(nic.network, str(nic.mac), str(address))] = server
    for uplink in inventory.uplinks:
        for gateway in uplink.gateways:
            found[(uplink.network, "", str(gateway))] = ""
    return {(*key, server) for key, server in found.items()}
