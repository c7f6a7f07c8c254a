# SPDX-License-Identifier: Apache-2.0
"""The eBPF engine: planes in maps, programs on the uplink and on the taps.

Order of writes: what is referred to comes before what refers to it, so that a packet at any
moment meets the old state or the new one: members, then the rotation, then the pool's record (one
atomic exchange), then services, then the address. Removal goes the other way.
"""

import secrets
import time
from collections.abc import Callable, Collection, Set
from pathlib import Path
from uuid import UUID

from cloudlb.engines import mirror
from cloudlb.engines.base import Engine, HostPort, PortKind, Timeouts
from cloudlb.engines.mirror import PoolState
from cloudlb.engines.rotation import Rotations
from cloudlb.model.dataplane import Backend, MemberCounters, Plane
from cloudlb.model.errors import EngineError
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import (
    Connections,
    Count,
    DeliveryKey,
    Event,
    MemberRecord,
    MemberRole,
    MemberState,
    Number,
    PoolRecord,
    PortRecord,
    ServiceKey,
    Settings,
    VipKey,
    pack_address,
    unpack_address,
)
from cloudlb.net.bpf.maps import PortMap
from cloudlb.net.bpf.programs import Programs
from cloudlb.net.tc import Direction, Filters

_PROGRAMS = {
    PortKind.UPLINK: {Direction.INGRESS: "director"},
    PortKind.TAP: {Direction.INGRESS: "from_guest", Direction.EGRESS: "to_guest"},
}
_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; its resolution is one jiffy


class EbpfEngine(Engine):
    """Planes as eBPF maps below ``bpffs``; compiled objects are kept in ``objects``."""

    def __init__(
        self,
        bpffs: Path,
        objects: Path,
        flow_table_size: int = 262144,
        timeouts: Timeouts | None = None,
        draw_seed: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._programs = Programs(bpffs, objects, flow_table_size)
        self._maps = self._programs.maps
        self._port_records = PortMap(self._maps.near_ports, self._maps.ports)
        self._draw_seed = draw_seed
        self._filters = Filters()
        self._ports: dict[int, HostPort] = {}
        self._found = self._filters.marked()
        limits = timeouts or Timeouts()
        self._maps.settings[Number(0)] = Settings(
            *(_jiffies(s) for s in (limits.opening, limits.established)),
            *(_jiffies(s) for s in (limits.closing, limits.udp)),
        )
        self._read()
        self.sweep()

    def observe(self) -> dict[UUID, Plane]:
        """Read the maps anew, after a sweep: numbers given back must not be referred to."""
        self.sweep()
        self._read()
        return {pool_id: state.plane() for pool_id, state in self._mirror.pools.items()}

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        """Write what differs from the maps as they were last read or written."""
        try:
            if plane is None:
                self._remove_pool(pool_id)
            else:
                self._write_pool(plane)
        except (OSError, MemoryError) as error:
            raise EngineError(
                f"The kernel refused the pool: {error}. The agent tries again; its log has more.",
                f"pool {pool_id}: {error}",
            ) from error

    def ports(self) -> frozenset[int]:
        """The interfaces in the maps or with our filters, also by an earlier process."""
        return frozenset(key.value for key, _ in self._port_records.items()) | self._found

    def attach(self, port: HostPort) -> None:
        """Tell the programs the port's network, then put them on it."""
        old = self._port_records.get(Number(port.index))
        if old is None or (old.network, old.mac) != (port.network, port.mac.packed):
            self._port_records[Number(port.index)] = PortRecord(
                port.network, bytes(4), bytes(16), port.mac.packed
            )
        for state in self._mirror.pools.values():
            self._deliver(state, port)
        try:
            for direction, program in _PROGRAMS[port.kind].items():
                self._put(port.index, direction, program)
        except OSError as error:
            raise EngineError(f"Interface {port.index} takes no program.", str(error)) from error
        self._ports[port.index] = port

    def detach(self, index: int) -> None:
        """Take our filters off and forget what belonged to the interface."""
        self._ports.pop(index, None)
        self._filters.detach(index)
        self._found -= {index}
        for table in (self._maps.deliveries, self._maps.learned):
            for key, _ in list(table.items()):
                if key.ifindex == index:
                    del table[key]
        del self._port_records[Number(index)]

    def guard(self, network: int, addresses: Collection[Address]) -> None:
        """Write and delete what differs."""
        wanted = {VipKey(network, pack_address(address)) for address in addresses}
        there = {key for key, _ in self._maps.guards.items() if key.network == network}
        try:
            self._maps.guards.update(dict.fromkeys(wanted - there, Number(1)))
            for key in there - wanted:
                del self._maps.guards[key]
        except OSError as error:
            raise EngineError(f"The kernel takes no more guards: {error}.") from error

    def guarded(self) -> dict[int, frozenset[Address]]:
        """From the map."""
        found: dict[int, set[Address]] = {}
        for network, address in (key for key, _ in self._maps.guards.items()):
            found.setdefault(network, set()).add(unpack_address(address))
        return {network: frozenset(addresses) for network, addresses in found.items()}

    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        """From the maps, in the members' order."""
        state = self._mirror.pools.get(pool_id)
        if state is None:
            return ()
        ranked = sorted(state.members.items(), key=lambda item: item[1].rank)
        return tuple(self._counters_of(number, record) for number, record in ranked)

    def sweep(self) -> None:
        """Run the sweep in the kernel; numbers and regions that were given back can be re-used.

        Programs that run at the moment of a removal have long ended by then.
        """
        self._programs.run("sweep")
        self._mirror.member_numbers.wake()
        self._mirror.pool_numbers.wake()
        self._rotations.wake()

    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """What the guard learned from ARP and neighbour discovery, newest first."""
        seen = [
            (at.value, unpack_address(key.address))
            for key, at in self._maps.learned.items()
            if key.ifindex == index
        ]
        return tuple(address for _, address in sorted(seen, key=lambda pair: -pair[0]))

    def events(self) -> dict[str, int]:
        """Counts since the maps were made."""
        return {event.name.lower(): self._maps.events.total(event).value for event in Event}

    def settle(self) -> None:
        """Remove the pins of other versions: nothing is attached to them any more."""
        self._programs.remove_others()

    def close(self) -> None:
        """Let go; pins and filters stay."""
        self._filters.close()
        self._programs.close()

    def _read(self) -> None:
        self._mirror = mirror.read(self._maps)
        self._rotations = Rotations(self._maps, self._mirror.regions)

    def _write_pool(self, plane: Plane) -> None:
        state = self._mirror.pools.get(plane.pool_id) or self._new_pool(plane)
        leaving = self._write_members(state, plane)
        eligible: dict[int, int] = {}
        if plane.frontend:
            for backend in plane.frontend.backends:
                number = state.number_of(backend.member_id)
                if backend.eligible and number is not None:
                    eligible[number] = backend.weight
            scheduler = mirror.SCHEDULERS[plane.frontend.scheduler]
            record = self._rotations.write(state.record, scheduler, eligible)
            self._exchange(state, record)
        self._write_services(state, plane)
        self._write_vip(state, plane)
        for number in leaving:
            self._free_member(state, number)
        for port in self._ports.values():
            self._deliver(state, port)

    def _new_pool(self, plane: Plane) -> PoolState:
        number = self._mirror.pool_numbers.take()
        base = self._mirror.regions.take(0)
        record = PoolRecord(
            id=plane.pool_id.bytes,
            network=plane.network,
            address=pack_address(plane.address),
            seed=self._draw_seed(32),
            base=base,
            length=0,
            order=0,
            scheduler=0,
        )
        self._maps.tickets[Number(number)] = Count(0)
        self._maps.pools[Number(number)] = record
        state = self._mirror.pools[plane.pool_id] = PoolState(number, record)
        return state

    def _exchange(self, state: PoolState, record: PoolRecord) -> None:
        if record != state.record:
            self._maps.pools[Number(state.number)] = record
            self._rotations.rest(state.record, record)
            state.record = record

    def _write_members(self, state: PoolState, plane: Plane) -> list[int]:
        """Write the records of all members; the numbers of those that are to leave."""
        wanted = _records(state, plane)
        for member_id, record in wanted.items():
            number = state.number_of(member_id)
            if number is not None and _stops_directing(state.members[number], record):
                self._free_member(state, number)
                number = None
            if number is None:
                number = self._mirror.member_numbers.take()
                self._maps.traffic.clear(number)
                self._maps.connections[Number(number)] = Connections(0, 0, 0)
            old = state.members.get(number)
            if old != record:
                self._maps.members[Number(number)] = record
                state.members[number] = record
                if old and not _same_guest(old, record):
                    self._undeliver(state, number)
        return [n for n, record in state.members.items() if UUID(bytes=record.id) not in wanted]

    def _free_member(self, state: PoolState, number: int) -> None:
        """Connections to it are forgotten by the next sweep, before its number is given anew."""
        del state.members[number]
        self._undeliver(state, number)
        self._maps.members[Number(number)] = MemberRecord(
            bytes(16), 0, 0, 0, bytes(6), MemberState.FREE, 0
        )
        self._mirror.member_numbers.give(number)

    def _write_services(self, state: PoolState, plane: Plane) -> None:
        wanted = {
            ServiceKey(
                plane.network,
                pack_address(plane.address),
                port.port.to_bytes(2),
                port.protocol.number,
            )
            for port in (plane.frontend.ports if plane.frontend else ())
        }
        for key in wanted - state.services:
            self._maps.services[key] = Number(state.number)
        self._close_services(state, state.services - wanted)
        state.services = wanted

    def _close_services(self, state: PoolState, keys: Set[ServiceKey]) -> None:
        """Another pool may have taken the address already."""
        for key in keys:
            if self._maps.services.get(key) == Number(state.number):
                del self._maps.services[key]

    def _write_vip(self, state: PoolState, plane: Plane) -> None:
        if plane.frontend and not state.is_directed:
            self._maps.vips[state.vip] = Number(state.number)
        elif not plane.frontend and state.is_directed:
            del self._maps.vips[state.vip]
        state.is_directed = plane.frontend is not None

    def _remove_pool(self, pool_id: UUID) -> None:
        state = self._mirror.pools.pop(pool_id, None)
        if state is None:
            return
        if self._maps.vips.get(state.vip) == Number(state.number):
            del self._maps.vips[state.vip]
        self._close_services(state, state.services)
        for number in list(state.members):
            self._free_member(state, number)
        del self._maps.pools[Number(state.number)]
        self._rotations.rest(state.record, None)
        self._mirror.pool_numbers.give(state.number)

    def _deliver(self, state: PoolState, port: HostPort) -> None:
        """Let the programs at a tap know the members behind it."""
        if port.kind is not PortKind.TAP or port.network != state.record.network:
            return
        for number, record in state.members.items():
            if record.role & MemberRole.GUEST and port.leads_to(Mac.unpack(record.mac)):
                key = DeliveryKey(port.index, state.record.address)
                if self._maps.deliveries.get(key) != Number(number):
                    self._maps.deliveries[key] = Number(number)

    def _undeliver(self, state: PoolState, number: int) -> None:
        """Also at taps that an earlier process attached."""
        for index in self.ports():
            key = DeliveryKey(index, state.record.address)
            if self._maps.deliveries.get(key) == Number(number):
                del self._maps.deliveries[key]

    def _put(self, index: int, direction: Direction, program: str) -> None:
        mark = self._mark(program)
        if self._filters.attached(index, direction) != mark:
            self._filters.attach(index, direction, self._programs.fd(program), mark)

    def _mark(self, program: str) -> str:
        return f"{program}:{self._programs.version}"

    def _counters_of(self, number: int, record: MemberRecord) -> MemberCounters:
        traffic = self._maps.traffic.total(number)
        opened = self._maps.connections[Number(number)]
        return MemberCounters(
            member_id=UUID(bytes=record.id),
            connections=opened.total,
            active=opened.active,
            inactive=opened.inactive,
            packets_in=traffic.packets_in,
            bytes_in=traffic.bytes_in,
            packets_out=traffic.packets_out,
            bytes_out=traffic.bytes_out,
        )


def _same_guest(old: MemberRecord, new: MemberRecord) -> bool:
    was, is_one = old.role & MemberRole.GUEST, new.role & MemberRole.GUEST
    return old.mac == new.mac and bool(is_one or not was)


def _stops_directing(old: MemberRecord, new: MemberRecord) -> bool:
    """Whether connections to the member are to be cut though it stays as a guest."""
    return bool(old.role & MemberRole.BACKEND and not new.role & MemberRole.BACKEND)


def _records(state: PoolState, plane: Plane) -> dict[UUID, MemberRecord]:
    """The records of a plane's members: backends, guests, and those that are both."""
    records: dict[UUID, MemberRecord] = {}
    backends: tuple[Backend, ...] = plane.frontend.backends if plane.frontend else ()
    for rank, backend in enumerate(backends):
        records[backend.member_id] = MemberRecord(
            id=backend.member_id.bytes,
            pool=state.number,
            weight=backend.weight,
            rank=rank,
            mac=backend.mac.packed,
            state=mirror.STATES[backend.state],
            role=MemberRole.BACKEND,
        )
    for rank, guest in enumerate(plane.guests, len(backends)):
        known = records.get(guest.member_id)
        records[guest.member_id] = (
            known._replace(role=known.role | MemberRole.GUEST)
            if known
            else MemberRecord(
                id=guest.member_id.bytes,
                pool=state.number,
                weight=0,
                rank=rank,
                mac=guest.mac.packed,
                state=MemberState.IDLE,
                role=MemberRole.GUEST,
            )
        )
    return records


def _jiffies(seconds: float) -> int:
    """The time in the kernel's ticks, the unit of ``bpf_jiffies64()``."""
    return round(seconds / time.clock_getres(_CLOCK_MONOTONIC_COARSE))
