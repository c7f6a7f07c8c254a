# SPDX-License-Identifier: Apache-2.0
"""Planes of pools whose members are guests of hosts with an agent, or remote servers; pure.

The drivers differ in the way that packets take to a member, and so in the `Way` of each.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from uuid import UUID

from cloudlb.drivers.algorithm import algorithm_of
from cloudlb.model.dataplane import Backend, BackendState, Frontend, Guest, Mode, Plane
from cloudlb.model.ether import Mac
from cloudlb.model.fallback import Candidate, decide
from cloudlb.model.network import Address
from cloudlb.model.pool import Placement, Pool
from cloudlb.model.snapshot import MemberView, PoolView


@dataclass(frozen=True, slots=True)
class Way:
    """How packets reach a member; one that is not ``open`` gets no new connections.

    ``address`` and ``port`` are the member's own, where the mode needs them.
    """

    mode: Mode
    address: Address | None = None
    port: int | None = None
    open: bool = True


def direct(view: PoolView, _member: MemberView, placement: Placement) -> Way:
    """By Ethernet addresses alone; connections that began in another mode may need more."""
    return Way(Mode.DR, _own(view, placement))


def tunnelled(view: PoolView, _member: MemberView, placement: Placement) -> Way:
    """A member whose own address nobody has seen yet waits for it."""
    own = _own(view, placement)
    return Way(Mode.TUN, own, open=own is not None)


def translated(view: PoolView, m: MemberView, placement: Placement) -> Way:
    """To an own address of the pool's family; the member's port stands for all of the pool's.

    No tap of ours is before a remote server, which the director stands in for clients to.
    """
    mode = Mode.FULL_NAT if placement.is_remote else Mode.EDGE_NAT
    own = _own(view, placement)
    if own is None or own.version != view.pool.address.version:
        return Way(mode, port=m.member.port, open=False)
    return Way(mode, own, m.member.port)


def through_director(mode: Mode) -> "WayTo":
    """As `translated`, by the director: any member will do whose own address it knows."""

    def way(view: PoolView, m: MemberView, placement: Placement) -> Way:
        return replace(translated(view, m, placement), mode=mode)

    return way


def _own(view: PoolView, placement: Placement) -> Address | None:
    """A guest may have several addresses; a remote server is the address that was given."""
    if placement.is_remote:
        return placement.addresses[0]
    return view.network.own_address(placement.addresses, view.pool.address.version)


WayTo = Callable[[PoolView, MemberView, Placement], Way]


def plane(view: PoolView, host: str, down: Set[UUID], way: WayTo) -> Plane | None:
    """A frontend on the pool's directors, guests on its members' hosts, nothing elsewhere."""
    if view.removing:
        return None
    guests = _guests(view, host, way)
    is_director = host in view.pool.directors
    if not is_director and not guests:
        return None
    return Plane(
        pool_id=view.pool.id,
        network=view.network.number,
        address=view.pool.address,
        frontend=_frontend(view, down, way) if is_director else None,
        guests=guests,
        timeouts=view.pool.timeouts,
    )


def with_known_guests(plane: Plane) -> Plane:
    """The plane with those guests only to whose address a tap can translate."""
    return replace(plane, guests=tuple(guest for guest in plane.guests if guest.address))


def _guests(view: PoolView, host: str, way: WayTo) -> tuple[Guest, ...]:
    here = sorted(view.members, key=lambda m: m.member.id.bytes)
    watched = _is_watched(view.pool)
    return tuple(
        _guest(m, m.place.mac, way(view, m, m.place), watched)
        for m in here
        if m.place is not None and m.place.mac is not None and m.place.host == host
    )


def _is_watched(pool: Pool) -> bool:
    """Where connections are counted to choose by, as members or as a host's load, and where there
    is somebody to probe a member that refuses them.
    """
    by_load = pool.members_direct and not pool.scheduler.is_hash
    return algorithm_of(pool).counts or by_load or pool.monitor is not None


def _guest(m: MemberView, mac: Mac, way: Way, watched: bool) -> Guest:
    return Guest(m.member.id, mac, way.mode, way.address, way.port, watched=watched)


def _frontend(view: PoolView, down: Set[UUID], way: WayTo) -> Frontend:
    """An administratively closed pool keeps its connections and takes no new ones."""
    ways = {m.member.id: way(view, m, m.place) for m in view.members if m.place}
    taking = _taking(view, down, ways)
    backends = tuple(
        _backend(m, m.place, ways[m.member.id], m.member.id in taking)
        for m in view.members
        if m.place is not None
    )
    ports = tuple(sorted(view.pool.ports))
    return Frontend(
        algorithm=algorithm_of(view.pool),
        ports=ports,
        backends=backends,
        persistence=view.pool.persistence,
        router=view.pool.virtual_router,
    )


def _taking(view: PoolView, down: Set[UUID], ways: Mapping[UUID, Way]) -> Set[UUID]:
    """The members that get new connections: of those that can be reached, who shall (L13)."""
    wanted = [m for m in view.members if m.member.admin_state_up and not m.removing]
    reachable = {m.member.id for m in wanted if _is_reachable(m, ways)}
    if not view.pool.admin_state_up:
        return frozenset()
    candidates = [
        Candidate(m.id, m.weight, m.backup, m.id in reachable and m.id not in down)
        for m in (one.member for one in wanted)
    ]
    _, taking = decide(candidates, view.pool.panic_threshold)
    weightless = {c.id for c in candidates if c.alive and not c.weight}
    return (taking | weightless) & reachable


def _is_reachable(m: MemberView, ways: Mapping[UUID, Way]) -> bool:
    return m.place is not None and m.place.running and ways[m.member.id].open


def _backend(m: MemberView, placement: Placement, way: Way, takes_new: bool) -> Backend:
    return Backend(
        member_id=m.member.id,
        mode=way.mode,
        mac=placement.mac,
        weight=m.member.weight,
        state=BackendState.ACTIVE if takes_new else BackendState.IDLE,
        address=way.address,
        port=way.port,
    )
