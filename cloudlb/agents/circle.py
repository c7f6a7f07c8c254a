# SPDX-License-Identifier: Apache-2.0
"""Whom an agent talks with past the control plane, about what, and by which keys; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.snapshot import Key, Peer, PoolView

_SETTLED = 300.0  # seconds after which every agent knows a key


@dataclass(frozen=True, slots=True)
class Mate:
    """Another director, and its Ethernet address in a pool's network."""

    host: str
    mac: Mac


@dataclass(frozen=True, slots=True)
class Circle:
    """Others by host, the directors of each shared pool by its id, and the keys.

    ``peers`` are other directors, the hosts of directed members, and the directors of members that
    are here. ``mates``: the other directors of each virtual router, in a ring that begins after
    this host. ``directors``: those others that direct to this host's guests, by pool. ``homes``:
    the hosts of guests that this host directs to.
    """

    peers: Mapping[str, Address] = field(default_factory=dict)
    pools: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    directors: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    homes: Mapping[bytes, str] = field(default_factory=dict)
    mates: Mapping[int, tuple[Mate, ...]] = field(default_factory=dict)
    keys: tuple[Key, ...] = ()

    @property
    def sharing(self) -> frozenset[str]:
        """The hosts that share pools with this one: these tell each other of connections."""
        return frozenset[str]().union(*self.pools.values())

    @property
    def secrets(self) -> dict[int, bytes]:
        """What is accepted."""
        return {key.number: bytes.fromhex(key.secret) for key in self.keys}

    def signing(self, passed: float) -> Key | None:
        """The newest key that all know when the circle is so many seconds old, else the oldest."""
        settled = [key for key in self.keys if key.age + passed >= _SETTLED]
        return settled[-1] if settled else next(iter(self.keys), None)


def circle(
    host: str, views: Iterable[PoolView], peers: Sequence[Peer], keys: Sequence[Key]
) -> Circle:
    """The circle of a host. Peers without a management address are not in it."""
    reached = {p.host: p.management for p in peers if p.management and p.host != host}
    wanted = [view for view in views if not view.removing]
    shared = [v for v in wanted if v.pool.virtual_router and host in v.pool.directors]
    return Circle(
        peers=reached,
        pools={v.pool.id.bytes: frozenset(v.pool.directors) & reached.keys() for v in shared},
        directors={
            v.pool.id.bytes: frozenset(v.pool.directors) & reached.keys()
            for v in wanted
            if host in _homes(v).values()
        },
        homes={
            member: home
            for v in wanted
            if host in v.pool.directors
            for member, home in _homes(v).items()
        },
        mates={v.pool.virtual_router: _mates(host, v, peers) for v in shared},
        keys=tuple(sorted(keys, key=lambda key: key.number)),
    )


def _homes(view: PoolView) -> dict[bytes, str]:
    """The hosts of a pool's guests."""
    return {m.member.id.bytes: m.place.host for m in view.members if m.place and m.place.host}


def newcomers(old: Circle, new: Circle) -> set[str]:
    """The hosts that direct more of the shared pools by the new circle than by the old one."""
    none: frozenset[str] = frozenset()
    return {
        host for pool, hosts in new.pools.items() for host in hosts - old.pools.get(pool, none)
    }


def _mates(host: str, view: PoolView, peers: Sequence[Peer]) -> tuple[Mate, ...]:
    place = view.pool.directors.index(host)
    ring = view.pool.directors[place + 1 :] + view.pool.directors[:place]
    macs = {p.host: u.mac for p in peers for u in p.uplinks if u.network == view.network.name}
    return tuple(Mate(name, macs[name]) for name in ring if name in macs)
