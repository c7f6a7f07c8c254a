# SPDX-License-Identifier: Apache-2.0
"""The elections that a host stands in: its virtual routers and their paths; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloudlb.model.host import Uplink
from cloudlb.model.network import Address
from cloudlb.model.pool import Failover, Pool
from cloudlb.model.snapshot import Peer, PoolView

_LOWEST = 1  # of several that have it the highest address is elected (section 6.4.3)
_HIGHEST = 254  # 255 is for who owns the address (RFC 9568, section 5.2.4)


@dataclass(frozen=True, slots=True)
class Path:
    """A way that heartbeats take: from ``source`` on ``interface`` to the other directors."""

    interface: str
    source: Address
    peers: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class VirtualRouter:
    """A host's part in an election. ``link`` is the interface on which its addresses are.

    Only the silence of all ``paths`` makes it take over. The first is on ``link``.
    """

    number: int
    priority: int
    failover: Failover
    link: str
    paths: tuple[Path, ...]

    @property
    def is_first(self) -> bool:
        """Whether no other director comes before this one."""
        return self.priority == _HIGHEST


def routers(
    host: str,
    views: Iterable[PoolView],
    peers: Sequence[Peer],
    links: Mapping[str, str],
    management_link: str,
) -> tuple[VirtualRouter, ...]:
    """The virtual routers of the pools that a host directs together with others, by number.

    ``links`` are the host's interfaces by network, ``management_link`` the one that has its
    management address, empty if none.
    """
    by_name = {peer.host: peer for peer in peers}
    found: dict[int, VirtualRouter] = {}
    for view in views:
        pool, link = view.pool, links.get(view.network.name)
        if view.removing or not pool.virtual_router or host not in pool.directors or not link:
            continue
        group = [by_name[name] for name in pool.directors if name in by_name]
        if pool.virtual_router not in found and host in by_name:
            paths = _paths(by_name[host], group, view.network.name, link, management_link)
            if paths:
                found[pool.virtual_router] = _router(host, pool, link, paths)
    return tuple(found[number] for number in sorted(found))


def _router(host: str, pool: Pool, link: str, paths: tuple[Path, ...]) -> VirtualRouter:
    priority = max(_LOWEST, _HIGHEST - pool.directors.index(host))
    return VirtualRouter(pool.virtual_router, priority, pool.failover, link, paths)


def _paths(
    me: Peer, group: Sequence[Peer], network: str, link: str, management_link: str
) -> tuple[Path, ...]:
    """The network itself, and the management network where every director has an address."""
    found = []
    on_network = _on_network(group, network)
    if on_network:
        found.append(_path(me, link, on_network))
    managed = {peer.host: peer.management for peer in group if peer.management}
    if management_link and management_link != link and len(managed) == len(group):
        found.append(_path(me, management_link, managed))
    return tuple(found)


def _path(me: Peer, interface: str, addresses: Mapping[str, Address]) -> Path:
    others = tuple(address for host, address in addresses.items() if host != me.host)
    return Path(interface, addresses[me.host], others)


def _on_network(group: Sequence[Peer], network: str) -> dict[str, Address]:
    """The directors' addresses in a network: of the first family that all of them have there."""
    for version in (4, 6):
        found = {peer.host: _address(peer.uplinks, network, version) for peer in group}
        there = {host: address for host, address in found.items() if address}
        if len(there) == len(group):
            return there
    return {}


def _address(uplinks: Iterable[Uplink], network: str, version: int) -> Address | None:
    candidates = (
        a
        for uplink in uplinks
        if uplink.network == network
        for a in uplink.addresses
        if a.version == version and not a.is_link_local
    )
    return min(candidates, key=int, default=None)
