# SPDX-License-Identifier: Apache-2.0
"""An engine without a kernel: it keeps planes in memory and chooses members as they say.

It is the reference that packet tests compare the programs with, and it lets the control plane
run where nothing may be programmed.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_network
from uuid import UUID

from cloudlb.engines.base import Engine, HostPort
from cloudlb.model import maglev, schedule
from cloudlb.model.dataplane import (
    Algorithm,
    Backend,
    Explanation,
    Flow,
    FlowState,
    Frontend,
    MemberCounters,
    Plane,
    Reason,
)
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, RotationOrder
from cloudlb.model.rotation import rotation

_ORDERS = {
    Algorithm.WRR_INTERLEAVED: RotationOrder.INTERLEAVED,
    Algorithm.WRR_LVS: RotationOrder.LVS,
    Algorithm.WRR_SMOOTH: RotationOrder.SMOOTH,
}
_MOVING_TABLES = {Algorithm.SOURCE_HASH, Algorithm.FLOW_HASH}
_TABLES = {Algorithm.MAGLEV, *_MOVING_TABLES}


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
    members: list[UUID | None] = field(default_factory=list)
    clients: dict[str, tuple[UUID, float]] = field(default_factory=dict)


class MemoryEngine(Engine):
    """Planes in dictionaries."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, **_options: object) -> None:
        self._clock = clock
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
            if plane.frontend and _has_history(plane.frontend):
                self._refill(state)
            else:
                state.table.clear()
        kept = {b.member_id for s in self._pools.values() for b in _backends(s.plane)}
        self._flows = {c: f for c, f in self._flows.items() if f[1] in kept}

    def connect(self, connection: Connection, seed: int = 0) -> UUID | None:
        """The member of a connection: the one it has, else the scheduler's; None without any."""
        if connection in self._flows:
            return self._flows[connection][1]
        state = self._find(connection)
        if state is None:
            return None
        member = self._bound(state, connection)
        if member is None:
            member = self._choose(state, connection, seed)
            self._bind(state, connection, member)
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

    def flows(self, pool_id: UUID, limit: int) -> tuple[Flow, ...]:
        """Connections do not age here."""
        return tuple(
            Flow(c.client, c.client_port, c.port, member, FlowState.ESTABLISHED, 0.0)
            for c, (pool, member) in itertools.islice(self._flows.items(), limit)
            if pool == pool_id
        )

    def explain(self, pool_id: UUID, client: Address, client_port: int, port: Port) -> Explanation:
        """Nothing passes here, so only connections that were made by `connect` are known."""
        for flow in self.flows(pool_id, len(self._flows)):
            if (flow.client, flow.client_port, flow.port) == (client, client_port, port):
                return Explanation(flow.member_id, Reason.CONNECTION, "the connection exists")
        return Explanation(None, Reason.NO_MEMBER, "this engine forwards nothing")

    def close_connection(self, connection: Connection) -> None:
        """The client is done with it."""
        self._flows.pop(connection, None)

    def sweep(self) -> None:
        """Nothing ages here."""

    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """No guest was ever seen."""
        return ()

    @property
    def pins(self) -> None:
        """There are no maps."""

    def announces(self, router: int) -> bool:
        """Nobody elects here."""
        return not router

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
        """A member that left is another one when it comes back."""
        present = {b.member_id for b in _backends(state.plane)}
        state.members = [m if m in present else None for m in state.members]
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

    def _bound(self, state: _PoolState, connection: Connection) -> UUID | None:
        """The member that the client's earlier connections went to, bound anew."""
        member, until = state.clients.get(_client(state, connection), (None, 0.0))
        takes_new = {b.member_id for b in _backends(state.plane) if b.eligible}
        if member not in takes_new or until < self._clock():
            return None
        self._bind(state, connection, member)
        return member

    def _bind(self, state: _PoolState, connection: Connection, member: UUID | None) -> None:
        frontend = state.plane.frontend
        if frontend and frontend.persistence and member:
            until = self._clock() + frontend.persistence.timeout
            state.clients[_client(state, connection)] = member, until

    def _choose(self, state: _PoolState, connection: Connection, seed: int) -> UUID | None:
        weights = {b.member_id: b.weight for b in _backends(state.plane) if b.eligible}
        frontend = state.plane.frontend
        if not weights or frontend is None:
            return None
        algorithm = frontend.algorithm
        if _has_history(frontend):
            owner = state.table[_hash(algorithm, connection, seed) % len(state.table)]
            return None if owner is None else state.members[owner]
        if algorithm in _TABLES:
            table = maglev.table(weights, {m: m for m in weights}, maglev.size(len(weights)))
            return table[_hash(algorithm, connection, seed) % len(table)]
        if algorithm.value.startswith(("lc", "wlc")):
            return self._least(weights, is_weighted=algorithm.value.startswith("w"))
        order = _ORDERS.get(algorithm)
        turns = rotation(weights, order) if order else list(weights)
        return turns[next(state.tickets) % len(turns)]

    def _least(self, weights: Mapping[UUID, int], *, is_weighted: bool) -> UUID:
        """All connections here are active, so both ways to count give the same."""
        counts = Counter(member for _, member in self._flows.values())
        return min(weights, key=lambda m: Fraction(counts[m], weights[m] if is_weighted else 1))


def _has_history(frontend: Frontend) -> bool:
    """Whether its table is the former one with as few changes as possible."""
    return frontend.algorithm in _MOVING_TABLES and not frontend.router


def _client(state: _PoolState, connection: Connection) -> str:
    frontend = state.plane.frontend
    prefix = frontend.persistence.prefix if frontend and frontend.persistence else 0
    return str(ip_network((connection.client, prefix), strict=False))


def _hash(algorithm: Algorithm, connection: Connection, seed: int) -> int:
    if algorithm is Algorithm.SOURCE_HASH:
        return schedule.client_hash(connection.client, seed)
    ports = connection.client_port, connection.port.port
    return schedule.flow_hash(connection.client, *ports, seed)


def _backends(plane: Plane) -> tuple[Backend, ...]:
    return plane.frontend.backends if plane.frontend else ()
