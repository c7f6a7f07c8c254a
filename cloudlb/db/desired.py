# SPDX-License-Identifier: Apache-2.0
"""What is wanted of each host: its generation, its realizations, its snapshot."""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, insert, literal, select, update
from sqlalchemy.orm import Session

from cloudlb.db import members, networks, pools
from cloudlb.db.models import (
    HostRow,
    Moment,
    NetworkRow,
    PoolRow,
    QuarantineRow,
    RealizationRow,
)
from cloudlb.db.records import MemberRecord, RealizationRecord
from cloudlb.model.network import Network
from cloudlb.model.pool import Pool, Scheduler
from cloudlb.model.snapshot import Claim, MemberView, PoolView, Snapshot

PENDING = "pending"

Bell = dict[str, int]


def hosts_of(pool: Pool, records: Iterable[MemberRecord]) -> set[str]:
    """The hosts that must know a pool: its directors and where its members are."""
    placed = {r.where.placement.host for r in records if r.where.placement is not None}
    return placed | set(pool.directors)


def of_pools(session: Session, pool_ids: Collection[UUID]) -> dict[UUID, list[RealizationRecord]]:
    """The realizations of pools by host name."""
    result: dict[UUID, list[RealizationRecord]] = {pool_id: [] for pool_id in pool_ids}
    if pool_ids:
        query = _query().where(RealizationRow.pool_id.in_([str(p) for p in pool_ids]))
        for row, last_seen in session.execute(query):
            record = load(row, last_seen)
            result[record.pool_id].append(record)
    return result


def _query() -> Any:
    """Realizations with the time of their host's last word."""
    return (
        select(RealizationRow, HostRow.last_seen)
        .join(HostRow, HostRow.name == RealizationRow.host)
        .order_by(RealizationRow.pool_id, RealizationRow.host)
    )


def load(row: RealizationRow, last_seen: float | None) -> RealizationRecord:
    """The record of a row."""
    return RealizationRecord(
        pool_id=UUID(row.pool_id),
        host=row.host,
        generation=row.generation,
        observed_generation=row.observed_generation,
        state=row.state,
        reason=row.reason,
        draining=frozenset(UUID(m) for m in row.draining),
        since=row.since,
        last_seen=last_seen,
    )


def progress(session: Session, pool_id: UUID) -> dict[str, tuple[int, str]]:
    """For each host of a pool the generation that it has observed, and its state."""
    query = select(
        RealizationRow.host, RealizationRow.observed_generation, RealizationRow.state
    ).where(RealizationRow.pool_id == str(pool_id))
    return {host: (observed, state) for host, observed, state in session.execute(query)}


def announce(
    session: Session,
    pool_id: UUID,
    known: Sequence[RealizationRecord],
    hosts: Set[str],
    now: float,
    told: Collection[str] = (),
) -> tuple[list[RealizationRecord], Bell]:
    """Raise the generations of all hosts that know or must know a pool, in order of their names.

    ``told`` are hosts that need not realize it but have a new snapshot because of it. To be called
    last in a transaction, because it locks the rows of hosts. Returns the realizations as they are
    now, and the generations to ring the hosts' doorbells with.
    """
    names = sorted(hosts | {record.host for record in known} | set(told))
    seen = raise_hosts(session, names)
    bell = {name: generation for name, (generation, _) in seen.items()}
    if known:
        _update(session, pool_id, now)
    have = {record.host for record in known}
    new = [
        RealizationRecord(pool_id, name, bell[name], 0, PENDING, "", frozenset(), now, last_seen)
        for name, (_, last_seen) in seen.items()
        if name not in have and name in hosts
    ]
    if new:
        session.execute(insert(RealizationRow), [_row(record) for record in new])
    old = [_raised(record, bell[record.host], now) for record in known]
    return sorted([*old, *new], key=lambda record: record.host), bell


def announce_network(session: Session, network_id: UUID, name: str, now: float) -> Bell:
    """Tell every host that has to do with a network that the network has changed."""
    query = select(PoolRow.id).where(PoolRow.network_id == str(network_id)).order_by(PoolRow.id)
    known = of_pools(session, [UUID(pool_id) for pool_id in session.scalars(query)])
    bell: Bell = {}
    for pool_id, realizations in known.items():
        bell |= announce(session, pool_id, realizations, frozenset(), now)[1]
    rest = [host for host in mapping(session, network_id, name) if host not in bell]
    return bell | {host: new for host, (new, _) in raise_hosts(session, rest).items()}


def mapping(session: Session, network_id: UUID, name: str | None = None) -> list[str]:
    """The hosts that have an interface in a network, whose ``name`` may differ from the stored."""
    stored = select(NetworkRow.name).where(NetworkRow.id == str(network_id))
    network = name or session.scalar(stored)
    found = session.execute(select(HostRow.name, HostRow.uplinks).order_by(HostRow.name))
    return [host for host, uplinks in found if any(u["network"] == network for u in uplinks)]


def raise_hosts(session: Session, names: Collection[str]) -> dict[str, tuple[int, float | None]]:
    """Raise the generation of hosts; their new ones with the time of each host's last word."""
    if not names:
        return {}
    query = (
        select(HostRow.name, HostRow.generation, HostRow.last_seen)
        .where(HostRow.name.in_(names))
        .order_by(HostRow.name)
        .with_for_update()
    )
    found = {name: (generation + 1, seen) for name, generation, seen in session.execute(query)}
    session.execute(
        update(HostRow)
        .where(HostRow.name.in_(list(found)))
        .values(generation=HostRow.generation + 1)
        .execution_options(synchronize_session=False)
    )
    return found


def _update(session: Session, pool_id: UUID, now: float) -> None:
    wanted = (
        select(HostRow.generation).where(HostRow.name == RealizationRow.host).scalar_subquery()
    )
    was_current = RealizationRow.observed_generation >= RealizationRow.generation
    session.execute(
        update(RealizationRow)
        .where(RealizationRow.pool_id == str(pool_id))
        .ordered_values(
            (
                RealizationRow.since,
                case((was_current, literal(now, Moment())), else_=RealizationRow.since),
            ),
            (RealizationRow.generation, wanted),
        )
        .execution_options(synchronize_session=False)
    )


def _raised(record: RealizationRecord, generation: int, now: float) -> RealizationRecord:
    since = now if record.current else record.since
    return replace(record, generation=generation, since=since)


def _row(record: RealizationRecord) -> dict[str, object]:
    return {
        "pool_id": str(record.pool_id),
        "host": record.host,
        "generation": record.generation,
        "observed_generation": record.observed_generation,
        "state": record.state,
        "reason": record.reason,
        "draining": [str(m) for m in record.draining],
        "since": record.since,
    }


def forget(session: Session, pool_id: UUID, host: str) -> None:
    """A host has nothing of a pool any more."""
    session.execute(
        delete(RealizationRow).where(
            RealizationRow.pool_id == str(pool_id), RealizationRow.host == host
        )
    )


def snapshot(session: Session, host: str) -> Snapshot:
    """All that is wanted of a host.

    The generation is read first: a pool that is newer than the generation says is told again
    with the next one, but one that is older would stay so.
    """
    query = (
        select(PoolRow, NetworkRow)
        .join(RealizationRow, RealizationRow.pool_id == PoolRow.id)
        .join(NetworkRow, NetworkRow.id == PoolRow.network_id)
        .where(RealizationRow.host == host)
        .order_by(PoolRow.id)
    )
    generation, uplinks = session.execute(
        select(HostRow.generation, HostRow.uplinks).where(HostRow.name == host)
    ).one()
    found = session.execute(query).all()
    by_pool = members.of_pools(session, [UUID(row.id) for row, _ in found])
    views = (_view(host, row, network, by_pool[UUID(row.id)]) for row, network in found)
    mapped = _mapped_networks(session, uplinks)
    everything = (*views, *_quarantined(session, host))
    return Snapshot(host, generation, everything, mapped, _claims(session, mapped))


def _quarantined(session: Session, host: str) -> list[PoolView]:
    """What the host shall say to be gone: pools that were removed while it was silent."""
    query = (
        select(QuarantineRow, NetworkRow)
        .join(NetworkRow, NetworkRow.id == QuarantineRow.network_id)
        .where(QuarantineRow.host == host)
        .order_by(QuarantineRow.pool_id)
    )
    return [
        PoolView(_remnant(row, network), networks.load(network), removing=True)
        for row, network in session.execute(query)
    ]


def _remnant(row: QuarantineRow, network: NetworkRow) -> Pool:
    """As much of a removed pool as its removal needs."""
    return Pool(
        id=UUID(row.pool_id),
        project_id=network.project_id,
        network_id=UUID(row.network_id),
        name="",
        address=ip_address(row.address),
        ports=(),
        data_plane=row.data_plane,
        scheduler=Scheduler.ROUND_ROBIN,
        directors=(),
    )


def _mapped_networks(session: Session, uplinks: list[Any]) -> tuple[Network, ...]:
    """The networks that a host has an interface in."""
    names = sorted({uplink["network"] for uplink in uplinks})
    if not names:
        return ()
    rows = session.scalars(
        select(NetworkRow).where(NetworkRow.name.in_(names)).order_by(NetworkRow.number)
    )
    return tuple(networks.load(row) for row in rows)


def _claims(session: Session, mapped: Sequence[Network]) -> tuple[Claim, ...]:
    """The addresses of all pools of these networks, also of those that are being removed."""
    numbers = {str(network.id): network.number for network in mapped}
    query = select(PoolRow.network_id, PoolRow.address).where(
        PoolRow.network_id.in_(list(numbers))
    )
    found = session.execute(query.order_by(PoolRow.id)) if numbers else ()
    return tuple(Claim(numbers[network], ip_address(address)) for network, address in found)


def _view(host: str, row: PoolRow, network: NetworkRow, records: list[MemberRecord]) -> PoolView:
    pool = pools.load(row)
    removing = row.deleted_at is not None or host not in hosts_of(pool, records)
    views = () if removing else tuple(_member_view(record) for record in records)
    return PoolView(pool, networks.load(network), views, removing)


def _member_view(record: MemberRecord) -> MemberView:
    return MemberView(record.member, record.where.placement, record.removing)
