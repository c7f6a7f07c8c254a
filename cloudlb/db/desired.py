# SPDX-License-Identifier: Apache-2.0
"""What is wanted of each host: its generation, its realizations, its snapshot."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, insert, literal, select, update
from sqlalchemy.orm import Session

from cloudlb.db import keys, members, networks, pools
from cloudlb.db.hosts import lock as lock_hosts
from cloudlb.db.models import (
    HostRow,
    Moment,
    NetworkRow,
    PoolRow,
    QuarantineRow,
    RealizationRow,
)
from cloudlb.db.records import MemberRecord, RealizationRecord
from cloudlb.model import plain
from cloudlb.model.host import Uplink
from cloudlb.model.network import Network
from cloudlb.model.pool import Pool, Scheduler
from cloudlb.model.snapshot import Claim, MemberView, Peer, PoolView, Snapshot

PENDING = "pending"

Bell = dict[str, int]


def hosts_of(pool: Pool, records: Iterable[MemberRecord]) -> set[str]:
    """The hosts that must know a pool: its directors and where its members are."""
    places = [r.where.placement for r in records if r.where.placement is not None]
    return {place.host for place in places if not place.is_remote} | set(pool.directors)


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
        announcing=row.announcing,
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
    """Raise the generations of all hosts that know or must know a pool that is locked.

    ``told`` are hosts that need not realize it but have a new snapshot because of it. To be called
    last in a transaction, and once, because it locks the hosts. Returns the realizations as they
    are now, and the generations to ring the hosts' doorbells with.
    """
    rows = lock_hosts(session, {*hosts, *told, *(record.host for record in known)})
    realizations = renew(session, pool_id, known, hosts, rows, now)
    return realizations, raise_hosts(session, rows)


def renew(
    session: Session,
    pool_id: UUID,
    known: Sequence[RealizationRecord],
    hosts: Set[str],
    rows: Mapping[str, HostRow],
    now: float,
) -> list[RealizationRecord]:
    """Want a pool anew of hosts: of those that know it and of ``hosts``, which must.

    ``rows`` are the locked hosts, which are to be raised after this. The realizations as they are
    now, by host.
    """
    have = {record.host for record in known}
    if have:
        _update(session, RealizationRow.pool_id == str(pool_id), sorted(have), now)
    new = [
        RealizationRecord(
            pool_id, name, row.generation + 1, 0, PENDING, "", frozenset(), now, row.last_seen
        )
        for name, row in rows.items()
        if name in hosts and name not in have
    ]
    if new:
        session.execute(insert(RealizationRow), [_row(record) for record in new])
    old = [_raised(record, rows[record.host].generation + 1, now) for record in known]
    return sorted([*old, *new], key=lambda record: record.host)


def announce_network(session: Session, network_id: UUID, name: str, now: float) -> Bell:
    """Tell every host that has to do with a network that the network has changed."""
    its_pools = RealizationRow.pool_id.in_(
        select(PoolRow.id).where(PoolRow.network_id == str(network_id))
    )
    known = set(session.scalars(select(RealizationRow.host).where(its_pools).distinct()))
    rows = lock_hosts(session, {*known, *mapping(session, network_id, name)})
    if known:
        _update(session, its_pools, sorted(rows), now)
    return raise_hosts(session, rows)


def dissolve_network(session: Session, network_id: UUID, name: str) -> Bell:
    """Forget a network that has no pools, and tell every host that had to do with it."""
    quarantined = select(QuarantineRow.host).where(QuarantineRow.network_id == str(network_id))
    names = {*session.scalars(quarantined), *mapping(session, network_id, name)}
    rows = lock_hosts(session, names)
    networks.remove(session, network_id)
    return raise_hosts(session, rows)


def mapping(session: Session, network_id: UUID, name: str | None = None) -> list[str]:
    """The hosts that have an interface in a network, whose ``name`` may differ from the stored."""
    stored = select(NetworkRow.name).where(NetworkRow.id == str(network_id))
    network = name or session.scalar(stored)
    found = session.execute(select(HostRow.name, HostRow.uplinks).order_by(HostRow.name))
    return [host for host, uplinks in found if any(u["network"] == network for u in uplinks)]


def raise_hosts(session: Session, rows: Mapping[str, HostRow]) -> Bell:
    """Raise the generation of locked hosts: the last statement of a transaction."""
    session.flush()
    if rows:
        session.execute(
            update(HostRow)
            .where(HostRow.name.in_(sorted(rows)))
            .values(generation=HostRow.generation + 1)
            .execution_options(synchronize_session=False)
        )
    return {name: row.generation + 1 for name, row in rows.items()}


def _update(session: Session, which: ColumnElement[bool], hosts: list[str], now: float) -> None:
    """Want pools anew of hosts, by the generation that these are about to be raised to."""
    wanted = (
        select(HostRow.generation + 1).where(HostRow.name == RealizationRow.host).scalar_subquery()
    )
    was_current = RealizationRow.observed_generation >= RealizationRow.generation
    session.execute(
        update(RealizationRow)
        .where(which, RealizationRow.host.in_(hosts))
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
        "announcing": record.announcing,
        "since": record.since,
    }


def forget(session: Session, pool_id: UUID, host: str) -> None:
    """A host has nothing of a pool any more."""
    session.execute(
        delete(RealizationRow).where(
            RealizationRow.pool_id == str(pool_id), RealizationRow.host == host
        )
    )


def snapshot(session: Session, host: str, now: float) -> Snapshot:
    """All that is wanted of a host; ``now`` tells the age of removals.

    The generation is read first: a pool that is newer than the generation says is told again
    with the next one, but one that is older would stay so.
    """
    query = (
        select(PoolRow, NetworkRow, RealizationRow.generation)
        .join(RealizationRow, RealizationRow.pool_id == PoolRow.id)
        .join(NetworkRow, NetworkRow.id == PoolRow.network_id)
        .where(RealizationRow.host == host)
        .order_by(PoolRow.id)
    )
    generation, uplinks = session.execute(
        select(HostRow.generation, HostRow.uplinks).where(HostRow.name == host)
    ).one()
    found = session.execute(query).all()
    by_pool = members.of_pools(session, [UUID(row.id) for row, _, _ in found])
    views = [
        replace(_view(host, row, network, by_pool[UUID(row.id)], now), generation=wanted)
        for row, network, wanted in found
    ]
    mapped = _mapped_networks(session, uplinks)
    everything = (*views, *_quarantined(session, host))
    peers = _peers(session, host, views)
    return Snapshot(
        host=host,
        generation=generation,
        pools=everything,
        networks=mapped,
        claims=_claims(session, mapped),
        peers=peers,
        keys=keys.everything(session, now) if peers else (),
    )


def _peers(session: Session, host: str, views: Iterable[PoolView]) -> tuple[Peer, ...]:
    """Those that the host talks with past the control plane, itself included; nobody if none."""
    names = {name for view in views if not view.removing for name in _concerned(host, view)}
    if names <= {host}:
        return ()
    names.add(host)
    query = select(HostRow).where(HostRow.name.in_(sorted(names))).order_by(HostRow.name)
    return tuple(
        Peer(
            host=row.name,
            management=ip_address(row.management) if row.management else None,
            uplinks=tuple(plain.decode(Uplink, uplink) for uplink in row.uplinks),
        )
        for row in session.scalars(query)
    )


def _concerned(host: str, view: PoolView) -> set[str]:
    """For a pool's director the other ones and the hosts of guests; for these the directors."""
    homes = {m.place.host for m in view.members if m.place and m.place.host}
    directors = set(view.pool.directors)
    return directors | homes if host in directors else directors if host in homes else set()


def _quarantined(session: Session, host: str) -> list[PoolView]:
    """What the host shall say to be gone: pools that were removed while it was silent."""
    query = (
        select(QuarantineRow, NetworkRow)
        .join(NetworkRow, NetworkRow.id == QuarantineRow.network_id)
        .where(QuarantineRow.host == host)
        .order_by(QuarantineRow.pool_id)
    )
    return [
        PoolView(_remnant(row, network), networks.load(network), (), True, row.generation)
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


def _view(
    host: str, row: PoolRow, network: NetworkRow, records: list[MemberRecord], now: float
) -> PoolView:
    pool = pools.load(row)
    removing = row.deleted_at is not None or host not in hosts_of(pool, records)
    views = () if removing else tuple(_member_view(record, now) for record in records)
    return PoolView(pool, networks.load(network), views, removing)


def _member_view(record: MemberRecord, now: float) -> MemberView:
    place = None if record.member.remote else record.where.placement
    if record.deleted_at is None:
        return MemberView(record.member, place)
    # The clock of the API's host may be ahead of this one.
    return MemberView(record.member, place, True, max(0.0, now - record.deleted_at))
