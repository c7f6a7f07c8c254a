# SPDX-License-Identifier: Apache-2.0
"""The eBPF engine: planes in maps, programs on the uplink and on the taps.

Order of writes: what is referred to comes before what refers to it, so that a packet at any
moment meets the old state or the new one: members, then the rotation, then the pool's record (one
atomic exchange), then services, then the address. Removal goes the other way.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from pathlib import Path
from uuid import UUID

from cloudlb.engines import explain, mirror, records, recount
from cloudlb.engines.attachments import Attachments
from cloudlb.engines.base import Engine, HostPort, PortKind, Timeouts, asking_for
from cloudlb.engines.deliveries import Deliveries
from cloudlb.engines.mirror import PoolState
from cloudlb.engines.rotation import Rotations
from cloudlb.engines.sharing import Sharing
from cloudlb.model import schedule
from cloudlb.model.dataplane import (
    Explanation,
    Flow,
    MemberCounters,
    Plane,
    PortRange,
    TableSizes,
)
from cloudlb.model.errors import EngineError
from cloudlb.model.network import Address
from cloudlb.model.pool import Port
from cloudlb.net.bpf.carry import Key
from cloudlb.net.bpf.layout import (
    AT_DIRECTOR,
    FLOW_KEY,
    NO_MEMBER,
    NO_POOL,
    SESSION_KEY,
    Connections,
    Count,
    Event,
    LearnedKey,
    MemberRecord,
    Number,
    PoolRecord,
    ServiceKey,
    Settings,
    Sighting,
    VipKey,
    pack_address,
    unpack_address,
)
from cloudlb.net.bpf.maps import PortMap
from cloudlb.net.bpf.programs import Programs

_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; its resolution is one jiffy


class EbpfEngine(Engine):
    """Planes as eBPF maps below ``bpffs``; compiled objects are kept in ``objects``."""

    def __init__(
        self,
        bpffs: Path,
        objects: Path,
        sizes: TableSizes | None = None,
        timeouts: Timeouts | None = None,
        aliases: PortRange | None = None,
        seed_of: Callable[[UUID], int] = schedule.pool_seed,
    ) -> None:
        self._programs = Programs(bpffs, objects, sizes or TableSizes())
        self._maps = self._programs.maps
        self._port_records = PortMap(self._maps.near_ports, self._maps.ports)
        places = self._maps.near_ports.max_entries + self._maps.ports.max_entries
        self._places = self._maps.learned.max_entries // places
        self._seed_of = seed_of
        self._attachments = Attachments(self._programs)
        self._ports: dict[int, HostPort] = {}
        self._found = self._attachments.marked()
        limits, ports = timeouts or Timeouts(), aliases or PortRange()
        self._maps.settings[Number(0)] = Settings(
            opening=_jiffies(limits.opening),
            established=_jiffies(limits.established),
            closing=_jiffies(limits.closing),
            udp=_jiffies(limits.udp),
            second=_jiffies(1),
            first_alias=ports.first,
            aliases=ports.count,
            carrying=0,
        )
        self._deliveries = Deliveries(self._maps, self._attached, self._states)
        self._read()
        self.sweep()
        second = self._maps.settings[Number(0)].second
        self.sharing: Sharing = Sharing(self._programs, second, lambda: self._mirror.pools)

    @asking_for("its maps")
    def observe(self) -> dict[UUID, Plane]:
        """Read the maps anew, after a sweep: numbers given back must not be referred to."""
        self.sweep()
        self._read()
        return {pool_id: state.plane() for pool_id, state in self._mirror.pools.items()}

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        """Write what differs from the maps as they were last read or written."""
        with asking_for(f"pool {pool_id}"):
            if plane is None:
                self._remove_pool(pool_id)
            else:
                self._write_pool(plane)

    @asking_for("its maps")
    def ports(self) -> frozenset[int]:
        """The interfaces in the maps or with our programs, also by an earlier process."""
        return frozenset(key.value for key, _ in self._port_records.items()) | self._found

    def attach(self, port: HostPort) -> None:
        """Tell the programs the port's network, then put them on it. The guard comes before what
        members there are: a guest waits for nothing with its first frame.
        """
        with asking_for(f"programs on interface {port.index}"):
            old = self._port_records.get(Number(port.index))
            record = records.of_port(port, old)
            if record != old:
                self._port_records[Number(port.index)] = record
            with self._programs.following(_remembered_by(port)):
                self._attachments.put(port)
            for state in self._mirror.pools.values():
                self._deliveries.add(state, port)
        self._ports[port.index] = port

    def detach(self, index: int) -> None:
        """Take our programs off and forget what belonged to the interface."""
        self._ports.pop(index, None)
        with asking_for(f"to free interface {index}"):
            self._attachments.remove(index)
            self._deliveries.clear(index)
            for place in range(self._places):
                del self._maps.learned[LearnedKey(index, place)]
            del self._port_records[Number(index)]
        self._found -= {index}

    def guard(self, network: int, addresses: Collection[Address]) -> None:
        """Write and delete what differs."""
        wanted = {VipKey(network, pack_address(address)) for address in addresses}
        with asking_for(f"guards of {len(wanted)} addresses"):
            there = {key for key, _ in self._maps.guards.items() if key.network == network}
            self._maps.guards.update(dict.fromkeys(wanted - there, Number(1)))
            for key in there - wanted:
                del self._maps.guards[key]

    @asking_for("its maps")
    def guarded(self) -> dict[int, frozenset[Address]]:
        """From the map."""
        found: dict[int, set[Address]] = {}
        for network, address in (key for key, _ in self._maps.guards.items()):
            found.setdefault(network, set()).add(unpack_address(address))
        return {network: frozenset(addresses) for network, addresses in found.items()}

    @asking_for("its counters")
    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        """From the maps, in the members' order."""
        state = self._mirror.pools.get(pool_id)
        if state is None:
            return ()
        ranked = sorted(state.members.items(), key=lambda item: item[1].rank)
        return tuple(explain.counters(self._maps, number, record) for number, record in ranked)

    @asking_for("the sweep")
    def flows(self, pool_id: UUID, limit: int) -> tuple[Flow, ...]:
        """From the map of connections, after a sweep."""
        state = self._mirror.pools.get(pool_id)
        if state is None:
            return ()
        second = self._maps.settings[Number(0)].second
        return explain.flows(self._maps, state, limit, self._programs.run("sweep"), second)

    def explain(self, pool_id: UUID, client: Address, client_port: int, port: Port) -> Explanation:
        """From the maps, after a sweep."""
        state = self._mirror.pools.get(pool_id)
        if state is None or not state.is_directed:
            raise EngineError("This host does not direct the pool.")
        now = self._programs.run("sweep")
        return explain.explain(self._maps, state, client, client_port, port, now)

    def sweep(self) -> None:
        """Run the sweep in the kernel; numbers and regions that were given back can be re-used.

        Programs that run at the moment of a removal have long ended by then.
        """
        self._programs.run("sweep")
        self._mirror.member_numbers.wake()
        self._mirror.pool_numbers.wake()
        self._rotations.wake()

    @asking_for("its maps")
    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """What the guard learned from ARP and neighbour discovery, newest first."""
        seen: dict[Address, int] = {}
        for sighting in self._sightings(index):
            address = unpack_address(sighting.address)
            seen[address] = max(sighting.at, seen.get(address, 0))
        return tuple(sorted(seen, key=lambda address: -seen[address]))

    @property
    def pins(self) -> Path:
        """The directory of this version's maps."""
        return self._programs.pins

    @asking_for("its maps")
    def announces(self, router: int) -> bool:
        """From the lease that who elects keeps in the map."""
        return not router or self._maps.leases[Number(router)].value > time.monotonic_ns()

    @asking_for("its counters")
    def events(self) -> dict[str, int]:
        """Counts since the maps were made."""
        return {event.name.lower(): self._maps.events.total(event).value for event in Event}

    @asking_for("to remove old pins")
    def settle(self) -> None:
        """Remove the pins of other versions: nothing is attached to them any more, and nobody else
        counts connections.
        """
        if self._programs.remove_others():
            recount.count_anew(self._maps)

    def close(self) -> None:
        """Let go; pins, filters and links stay."""
        self._attachments.close()
        self._programs.close()

    def _read(self) -> None:
        self._mirror = mirror.read(self._maps)
        self._rotations = Rotations(self._maps, self._mirror.regions)

    def _write_pool(self, plane: Plane) -> None:
        state = self._mirror.pools.get(plane.pool_id) or self._new_pool(plane)
        leaving = self._write_members(state, plane)
        record = records.with_timeouts(state.record, plane)
        eligible: dict[int, int] = {}
        if plane.frontend:
            for backend in plane.frontend.backends:
                number = state.number_of(backend.member_id)
                if backend.eligible and number is not None:
                    eligible[number] = backend.weight
            record = records.with_aliases(records.with_persistence(record, plane), plane)
            scheduler = records.SCHEDULERS[plane.frontend.algorithm]
            router = plane.frontend.router
            own = records.own_backends(state.members) if plane.frontend.keeps_unknown else ()
            ids = state.member_ids
            record = self._rotations.write(record, scheduler, eligible, ids, router > 0, own)
            self.sharing.bridge(state, router)
            record = record._replace(router=router)
        self._exchange(state, record)
        self._write_services(state, plane)
        self._write_vip(state, plane)
        for number in leaving:
            self._free_member(state, number)
        for port in self._ports.values():
            self._deliveries.add(state, port)

    def _new_pool(self, plane: Plane) -> PoolState:
        number = self._mirror.pool_numbers.take()
        base = self._mirror.regions.take(0)
        record = NO_POOL._replace(
            id=plane.pool_id.bytes,
            network=plane.network,
            address=pack_address(plane.address),
            seed=self._seed_of(plane.pool_id),
            base=base,
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
        wanted = records.of_members(state.number, plane)
        fresh: list[int] = []
        changed: dict[int, MemberRecord] = {}
        for member_id, record in wanted.items():
            number = state.number_of(member_id)
            if number is not None and records.stops_directing(state.members[number], record):
                self._free_member(state, number)
                number = None
            if number is None:
                number = self._mirror.member_numbers.take()
                fresh.append(number)
            if state.members.get(number) != record:
                changed[number] = record
        self._maps.traffic.clear(fresh)
        self._maps.connections.update({Number(n): Connections(0, 0, 0) for n in fresh})
        self._maps.members.update({Number(n): record for n, record in changed.items()})
        for number, record in changed.items():
            old = state.members.get(number)
            state.put(number, record)
            if old:
                self._deliveries.change(state, number, old)
        ids = {member_id.bytes for member_id in wanted}
        return [n for n, record in state.members.items() if record.id not in ids]

    def _free_member(self, state: PoolState, number: int) -> None:
        """Connections to it are forgotten by the next sweep, before its number is given anew."""
        self._deliveries.change(state, number, state.take(number))
        self._maps.members[Number(number)] = NO_MEMBER
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
        """What the kernel refuses on the way is found again, and removed, by another call."""
        state = self._mirror.pools.get(pool_id)
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
        del self._mirror.pools[pool_id]

    def _states(self) -> Iterable[PoolState]:
        return self._mirror.pools.values()

    def _attached(self, kind: PortKind) -> Iterable[int]:
        """The interfaces of a kind; of those that an earlier process attached it is not known."""
        others = {i for i, port in self._ports.items() if port.kind is not kind}
        found = self._found | self._ports.keys() if kind is PortKind.UPLINK else self.ports()
        return found - others

    def _sightings(self, index: int) -> Iterator[Sighting]:
        """What is in a port's places, which are filled in order."""
        for place in range(self._places):
            sighting = self._maps.learned.get(LearnedKey(index, place))
            if sighting is None:
                return
            yield sighting


def _remembered_by(port: HostPort) -> dict[str, Key]:
    """What programs at an interface remember: a flow comes after the session that it needs."""
    if port.kind is PortKind.TAP:
        return {"sessions": lambda key: SESSION_KEY.unpack(key).place == port.index}
    place = AT_DIRECTOR | port.network
    return {
        "clients": lambda _key: True,
        "sessions": lambda key: SESSION_KEY.unpack(key).place == place,
        "flows": lambda key: FLOW_KEY.unpack(key).network == port.network,
    }


def _jiffies(seconds: float) -> int:
    """The time in the kernel's ticks, the unit of ``bpf_jiffies64()``."""
    return round(seconds / time.clock_getres(_CLOCK_MONOTONIC_COARSE))
