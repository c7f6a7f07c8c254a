# SPDX-License-Identifier: Apache-2.0
"""An engine without a kernel: it keeps planes in memory and chooses members as they say.

It is the reference that packet tests compare the programs with, and it lets the control plane
run where nothing may be programmed.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from cloudlb.engines.base import Engine, HostPort
from cloudlb.model import schedule
from cloudlb.model.dataplane import Backend, MemberCounters, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Scheduler


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection to a virtual service."""

    network: int
    client: Address
    client_port: int
    address: Address
    port: Port


@dataclass(slots=True)
class _PoolState:
    plane: Plane
    tickets: Iterator[int] = field(default_factory=itertools.count)
    table: list[int | None] = field(default_factory=list)
    members: list[UUID] = field(default_factory=list)


class MemoryEngine(Engine):
    """Planes in dictionaries."""

    def __init__(self, **_options: object) -> None:
        self._pools: dict[UUID, _PoolState] = {}
        self._ports: dict[int, HostPort] = {}
        self._flows: dict[Connection, tuple[UUID, UUID]] = {}
        self._totals: dict[UUID, int] = {}
        self._guarded: dict[int, frozenset[Address]] = {}

    def observe(self) -> dict[UUID, Plane]:
        """What was applied."""
        return {pool_id: state.plane for pool_id, state in self._pools.items()}

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        """Keep the plane; connections of backends that left are forgotten."""
        if plane is None:
            self._pools.pop(pool_id, None)
        else:
            state = self._pools.setdefault(pool_id, _PoolState(plane))
            state.plane = plane
            if plane.frontend and plane.frontend.scheduler is Scheduler.SOURCE_HASH:
                self._refill(state)
        kept = {b.member_id for s in self._pools.values() for b in _backends(s.plane)}
        self._flows = {c: f for c, f in self._flows.items() if f[1] in kept}

    def connect(self, connection: Connection, seed: int = 0) -> UUID | None:
        """The member of a connection: the one it has, else the scheduler's; None without any."""
        if connection in self._flows:
            return self._flows[connection][1]
        state = self._find(connection)
        if state is None:
            return None
        member = _choose(state, connection, seed)
        if member is not None:
            self._flows[connection] = state.plane.pool_id, member
            self._totals[member] = self._totals.get(member, 0) + 1
        return member

    def ports(self) -> frozenset[int]:
        """What was attached."""
        return frozenset(self._ports)

    def attach(self, port: HostPort) -> None:
        """Note the port."""
        self._ports[port.index] = port

    def detach(self, index: int) -> None:
        """Forget the port."""
        self._ports.pop(index, None)

    def guard(self, network: int, addresses: Collection[Address]) -> None:
        """Keep them."""
        self._guarded.pop(network, None)
        if addresses:
            self._guarded[network] = frozenset(addresses)

    def guarded(self) -> dict[int, frozenset[Address]]:
        """What was kept."""
        return dict(self._guarded)

    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        """Connections only: no packets pass here."""
        state = self._pools.get(pool_id)
        return tuple(
            MemberCounters(
                b.member_id,
                connections=self._totals.get(b.member_id, 0),
                active=sum(member == b.member_id for _, member in self._flows.values()),
            )
            for b in (_backends(state.plane) if state else ())
        )

    def close_connection(self, connection: Connection) -> None:
        """The client is done with it."""
        self._flows.pop(connection, None)

    def sweep(self) -> None:
        """Nothing ages here."""

    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """No guest was ever seen."""
        return ()

    def events(self) -> dict[str, int]:
        """Nothing was ever dropped."""
        return {}

    def settle(self) -> None:
        """There are no versions."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _find(self, connection: Connection) -> _PoolState | None:
        for state in self._pools.values():
            plane = state.plane
            if (
                plane.frontend
                and (plane.network, plane.address) == (connection.network, connection.address)
                and connection.port in plane.frontend.ports
            ):
                return state
        return None

    def _refill(self, state: _PoolState) -> None:
        for backend in _backends(state.plane):
            if backend.member_id not in state.members:
                state.members.append(backend.member_id)
        weights = {
            state.members.index(b.member_id): b.weight if b.eligible else 0
            for b in _backends(state.plane)
        }
        size = schedule.table_size(sum(1 for w in weights.values() if w))
        if len(state.table) < size:
            state.table = schedule.resize(state.table, size)
        if any(weights.values()):
            state.table = schedule.refill(state.table, weights)


def _backends(plane: Plane) -> tuple[Backend, ...]:
    return plane.frontend.backends if plane.frontend else ()


def _choose(state: _PoolState, connection: Connection, seed: int) -> UUID | None:
    eligible = [b.member_id for b in _backends(state.plane) if b.eligible]
    if not eligible:
        return None
    assert state.plane.frontend  # noqa: S101  (found by its ports)
    if state.plane.frontend.scheduler is Scheduler.ROUND_ROBIN:
        return eligible[next(state.tickets) % len(eligible)]
    owner = state.table[client_hash(connection.client, seed) % len(state.table)]
    return None if owner is None else state.members[owner]


def client_hash(client: Address, seed: int) -> int:
    """The hash of a client's address that source hashing uses."""
    octets = client.packed if client.version == 6 else bytes(10) + b"\xff\xff" + client.packed
    words = [int.from_bytes(octets[i : i + 4], "little") for i in range(0, 16, 4)]
    return schedule.hash_words(words, seed)
