# SPDX-License-Identifier: Apache-2.0
"""Which members a director, or their own host, probes, from where, and through which tunnels."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from cloudlb.agents.hops import Hop, Hops
from cloudlb.agents.inventory import HostInventory
from cloudlb.agents.ports import Ports
from cloudlb.agents.target import Target
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.model.dataplane import Backend, Mode
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Monitor, Placement, Pool, Port
from cloudlb.model.snapshot import MemberView, PoolView
from cloudlb.net.frame import Tunnel, routable_address, source_address
from cloudlb.net.link import Link

_NOWHERE = Mac("00:00:00:00:00:00")


def targets(
    host: str,
    views: Iterable[PoolView],
    drivers: Mapping[str, DataPlaneDriver],
    ports: Ports,
    inventory: HostInventory,
    hops: Hops,
) -> dict[UUID, Target]:
    """The running members of monitored pools that ``host`` directs, or that are on it, by member.

    Removed ones too: one that is dead must not drain. Remote servers follow when the way to them
    is known, or known to be none. Of a guest that this host cannot probe it tells nobody.
    """
    addresses = {uplink.network: uplink.addresses for uplink in inventory.uplinks()}
    found: dict[UUID, Target] = {}
    for view in _monitored(views):
        link = ports.uplink_of(view.network.number)
        monitor = view.pool.monitor
        ours = _ours(host, view)
        if monitor is None or link is None or not ours:
            continue
        backends = _backends(host, view, drivers)
        own = addresses.get(view.network.name, ())
        for m, place in ours:
            backend = backends.get(m.member.id)
            hop = _hop(place, backend, link, hops)
            if not hop.is_asked_for:
                target = _target(view, m, hop.mac or _NOWHERE, monitor, link)
                target = _on_its_way(target, view.pool, backend, own)
                target = _shared(_unless(hop.obstacle, target), host, view.pool, place)
                if target.is_directed or target.source:
                    found[m.member.id] = target
    return found


def _ours(host: str, view: PoolView) -> list[tuple[MemberView, Placement]]:
    """The running members that a host has to probe."""
    running = [(m, m.place) for m in view.members if m.place is not None and m.place.running]
    if host in view.pool.directors:
        return running
    return [(m, place) for m, place in running if _is_on(host, place)]


def _is_on(host: str, place: Placement) -> bool:
    return place.host == host and not place.is_remote


def _shared(target: Target, host: str, pool: Pool, place: Placement) -> Target:
    """Who else probes it, or hears of it."""
    directors = tuple(name for name in pool.directors if name != host)
    return replace(
        target,
        is_directed=host in pool.directors,
        home="" if place.is_remote or place.host == host else place.host,
        listeners=directors if _is_on(host, place) and target.source else (),
    )


def switched_off(host: str, views: Iterable[PoolView]) -> frozenset[UUID]:
    """The members of those pools that cannot be probed because their servers are off."""
    return frozenset(
        m.member.id
        for view in _monitored(views)
        if host in view.pool.directors
        for m in view.members
        if not m.removing and (m.place is None or not m.place.running)
    )


def _monitored(views: Iterable[PoolView]) -> list[PoolView]:
    return [v for v in views if not v.removing and v.pool.monitor and v.pool.directors]


def _backends(
    host: str, view: PoolView, drivers: Mapping[str, DataPlaneDriver]
) -> dict[UUID, Backend]:
    """How the traffic goes to each member, from any director, which probes follow."""
    driver, directors = drivers.get(view.pool.data_plane), view.pool.directors
    director = host if host in directors else directors[0]
    plane = driver.compile(view, director, frozenset()) if driver else None
    frontend = plane.frontend if plane else None
    return {b.member_id: b for b in frontend.backends} if frontend else {}


def _hop(placement: Placement, backend: Backend | None, link: Link, hops: Hops) -> Hop:
    """A guest itself, or who leads to a remote server."""
    if placement.mac is not None:
        return Hop(placement.mac)
    if backend is None or backend.address is None:
        return Hop(obstacle="its data plane reaches no remote server")
    return hops.towards(link, backend.address)


def _unless(obstacle: str, target: Target) -> Target:
    return replace(target, source=None, obstacle=obstacle) if obstacle else target


def _target(view: PoolView, m: MemberView, mac: Mac, monitor: Monitor, link: Link) -> Target:
    return Target(
        member_id=m.member.id,
        pool_id=view.pool.id,
        monitor=monitor,
        port=monitor.port or _first_port(view.pool, monitor),
        interface=link.name,
        interface_mac=link.mac,
        member_mac=mac,
        source=None,
        address=view.pool.address,
    )


def _on_its_way(
    target: Target, pool: Pool, backend: Backend | None, own: tuple[Address, ...]
) -> Target:
    """The target asked as the traffic goes there; else why it cannot be."""
    if backend is None or backend.mode is Mode.DR:
        return _from_here(target, own)
    if backend.address is None:
        return replace(target, obstacle="no address of its own was seen yet")
    if backend.mode is Mode.TUN:
        return _in_tunnel(target, backend.address, own)
    protocol = target.monitor.type.protocol
    is_service = bool(protocol and Port(protocol, target.port) in pool.ports)
    if backend.mode is Mode.EDGE_NAT and is_service:
        target = replace(target, echo_address=backend.address)
        return _from_here(target, own)  # the tap translates the pool's services only
    if backend.port and is_service:
        target = replace(target, port=backend.port)
    return _from_here(replace(target, address=backend.address), own)


def _from_here(target: Target, own: tuple[Address, ...]) -> Target:
    source = source_address(own, target.address)
    if source is None:
        return replace(target, obstacle=_no_address(target, target.address.version))
    return replace(target, source=source)


def _in_tunnel(target: Target, end: Address, own: tuple[Address, ...]) -> Target:
    versions = [target.address.version, end.version]
    source, outer = (routable_address(own, version) for version in versions)
    if source is None or outer is None:
        missing = versions[0] if source is None else versions[1]
        return replace(target, obstacle=_no_address(target, missing))
    return replace(target, source=source, tunnel=Tunnel(outer, end))


def _no_address(target: Target, version: int) -> str:
    return f"interface {target.interface} of the director has no IPv{version} address"


def _first_port(pool: Pool, monitor: Monitor) -> int:
    return next((p.port for p in pool.ports if p.protocol is monitor.type.protocol), 0)
