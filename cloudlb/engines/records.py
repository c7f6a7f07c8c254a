# SPDX-License-Identifier: Apache-2.0
"""Planes as records of the maps, and records as parts of planes: the two are inverse."""

from collections.abc import Mapping
from uuid import UUID

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.dataplane import (
    Algorithm,
    AliasPart,
    Backend,
    BackendState,
    Guest,
    Mode,
    Plane,
)
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence, Timeouts
from cloudlb.net.bpf.layout import (
    NO_ADDRESS,
    NO_MAC,
    NO_MEMBER,
    NO_PORT,
    MemberRecord,
    MemberRole,
    MemberState,
    ModeNumber,
    PoolRecord,
    PortRecord,
    SchedulerNumber,
    pack_address,
    unpack_address,
)

SCHEDULERS = {algorithm: SchedulerNumber[algorithm.name] for algorithm in Algorithm}
ALGORITHMS = {number: algorithm for algorithm, number in SCHEDULERS.items()}
_MODES = {mode: ModeNumber[mode.name] for mode in Mode}
_MODE_OF = {number: mode for mode, number in _MODES.items()}
_EDGE_NAT = 1 << ModeNumber.EDGE_NAT
_AT_TAPS = 1 << ModeNumber.DR | 1 << ModeNumber.TUN | _EDGE_NAT
_STATES = {state: MemberState[state.name] for state in BackendState}
_STATE_OF = {number: state for state, number in _STATES.items()}


def of_members(pool: int, plane: Plane) -> dict[UUID, MemberRecord]:
    """The records of a plane's members: backends, guests, and those that are both."""
    backends: tuple[Backend, ...] = plane.frontend.backends if plane.frontend else ()
    records = {b.member_id: _of_backend(pool, rank, b) for rank, b in enumerate(backends)}
    for rank, guest in enumerate(plane.guests, len(backends)):
        record = _of_guest(pool, rank, guest)
        known = records.get(guest.member_id)
        if known:
            role = known.role | record.role
            record = known._replace(role=role, former=record.former)
        records[guest.member_id] = record
    return records


def deliveries(record: MemberRecord, pool: PoolRecord, kind: PortKind) -> frozenset[bytes]:
    """The addresses by which programs find a member: a guest at its tap by the pool's address and,
    with edge NAT, by its own; one that is directed to by its own at the uplink.
    """
    found: set[bytes] = set()
    if kind is PortKind.UPLINK and record.role & MemberRole.BACKEND:
        found = {record.own}
    elif kind is PortKind.TAP and record.role & MemberRole.GUEST:
        found = {pool.address} if _modes(record) & _AT_TAPS else set()
        found |= {record.own} if _modes(record) & _EDGE_NAT else set()
    return frozenset(found - {NO_ADDRESS})


def shares_own(record: MemberRecord, other: MemberRecord, address: bytes, kind: PortKind) -> bool:
    """Whether programs find two members of different pools by one own address: at a tap one guest
    behind edge NAT.
    """
    if record.own != address or other.own != address:
        return False
    if kind is PortKind.UPLINK:
        return bool(record.role & other.role & MemberRole.BACKEND)
    both = record.role & other.role & MemberRole.GUEST
    return bool(both and record.mac == other.mac and _modes(record) & _modes(other) & _EDGE_NAT)


def _modes(record: MemberRecord) -> int:
    """A bit for each mode that connections of a member may have."""
    return 1 << record.mode | record.former


def stops_directing(old: MemberRecord, new: MemberRecord) -> bool:
    """Whether connections to the member are to be cut though it stays as a guest."""
    return bool(old.role & MemberRole.BACKEND and not new.role & MemberRole.BACKEND)


def own_backends(members: Mapping[int, MemberRecord]) -> list[int]:
    """The numbers of the members that are guests of a host which directs to them, in order."""
    both = MemberRole.BACKEND | MemberRole.GUEST
    found = [number for number, record in members.items() if record.role & both == both]
    return sorted(found, key=lambda number: members[number].rank)


def mode_elsewhere(record: MemberRecord, mode: int) -> int:
    """The mode of a connection at other directors: they reach a guest of this host by a tunnel
    where this one needs none.
    """
    by_tunnel = record.role & MemberRole.GUEST and record.former & 1 << ModeNumber.TUN
    return ModeNumber.TUN if by_tunnel and mode == ModeNumber.DR else mode


def backend(record: MemberRecord) -> Backend:
    """The backend that a record says."""
    return Backend(
        member_id=UUID(bytes=record.id),
        mode=_MODE_OF[ModeNumber(record.mode)],
        mac=None if record.mac == NO_MAC else Mac.unpack(record.mac),
        weight=record.weight,
        state=_STATE_OF[MemberState(record.state)],
        address=_own(record),
        port=_port(record),
    )


def guest(record: MemberRecord) -> Guest:
    """The guest that a record says."""
    return Guest(
        member_id=UUID(bytes=record.id),
        mac=Mac.unpack(record.mac),
        mode=_MODE_OF[ModeNumber(record.mode)],
        address=_own(record),
        port=_port(record),
        former=tuple(mode for mode, n in _MODES.items() if record.former & 1 << n),
        watched=bool(record.role & MemberRole.WATCHED),
    )


def of_port(port: HostPort, old: PortRecord | None) -> PortRecord:
    """The record of a port; what the programs learned of the guest behind it stays in ``old``."""
    if old is None or (old.network, old.mac) != (port.network, port.mac.packed):
        old = NO_PORT
    return old._replace(
        network=port.network,
        mac=port.mac.packed,
        attached=1,
        mtu=port.mtu,
        host_ipv4=_first(port, 4, bytes(4)),
        host_ipv6=_first(port, 6, NO_ADDRESS),
    )


def _first(port: HostPort, version: int, none: bytes) -> bytes:
    """The first address of a family that others can send to from beyond the link."""
    wanted = (a for a in port.addresses if a.version == version and not a.is_link_local)
    return next((a.packed for a in wanted), none)


def with_timeouts(record: PoolRecord, plane: Plane) -> PoolRecord:
    """The pool's record with its plane's time-outs."""
    wanted = plane.timeouts or Timeouts()
    return record._replace(
        opening=wanted.opening or 0,
        established=wanted.established or 0,
        closing=wanted.closing or 0,
        udp=wanted.udp or 0,
    )


def timeouts(record: PoolRecord) -> Timeouts | None:
    """The time-outs that a pool's record says."""
    found = (record.opening, record.established, record.closing, record.udp)
    return Timeouts(*(seconds or None for seconds in found)) if any(found) else None


def with_persistence(record: PoolRecord, plane: Plane) -> PoolRecord:
    """The pool's record with its frontend's persistence; prefixes count mapped addresses' bits."""
    wanted = plane.frontend.persistence if plane.frontend else None
    if wanted is None:
        return record._replace(persistence=0, prefix=0)
    prefix = wanted.prefix + 128 - plane.address.max_prefixlen
    return record._replace(persistence=wanted.timeout, prefix=prefix)


def persistence(record: PoolRecord) -> Persistence | None:
    """The persistence that a pool's record says."""
    if not record.persistence:
        return None
    offset = 128 - unpack_address(record.address).max_prefixlen
    return Persistence(record.persistence, record.prefix - offset)


def with_aliases(record: PoolRecord, plane: Plane) -> PoolRecord:
    """The pool's record with its frontend's part of the aliases."""
    part = plane.frontend.aliases if plane.frontend else None
    backends = plane.frontend.backends if plane.frontend else ()
    return record._replace(
        alias_part=part.place if part else 0,
        alias_parts=part.of if part else 0,
        disguises=int(any(b.mode is Mode.FULL_NAT for b in backends)),
        masquerades=int(bool(plane.frontend and plane.frontend.masquerade)),
        tells_clients=int(bool(plane.frontend and plane.frontend.tells_clients)),
    )


def aliases(record: PoolRecord) -> AliasPart | None:
    """The part of the aliases that a pool's record says."""
    return AliasPart(record.alias_part, record.alias_parts) if record.alias_parts else None


def _of_backend(pool: int, rank: int, backend: Backend) -> MemberRecord:
    return MemberRecord(
        id=backend.member_id.bytes,
        pool=pool,
        weight=backend.weight,
        rank=rank,
        mac=backend.mac.packed if backend.mac else NO_MAC,
        state=_STATES[backend.state],
        role=MemberRole.BACKEND,
        own=_packed(backend.address),
        port=(backend.port or 0).to_bytes(2),
        mode=_MODES[backend.mode],
        former=0,
    )


def _of_guest(pool: int, rank: int, guest: Guest) -> MemberRecord:
    return NO_MEMBER._replace(
        id=guest.member_id.bytes,
        pool=pool,
        rank=rank,
        mac=guest.mac.packed,
        state=MemberState.IDLE,
        role=MemberRole.GUEST | (MemberRole.WATCHED if guest.watched else 0),
        own=_packed(guest.address),
        port=(guest.port or 0).to_bytes(2),
        mode=_MODES[guest.mode],
        former=sum(1 << _MODES[mode] for mode in guest.former),
    )


def _packed(address: Address | None) -> bytes:
    return pack_address(address) if address else NO_ADDRESS


def _port(record: MemberRecord) -> int | None:
    return int.from_bytes(record.port) or None


def _own(record: MemberRecord) -> Address | None:
    return None if record.own == NO_ADDRESS else unpack_address(record.own)
