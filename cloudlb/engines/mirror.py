# SPDX-License-Identifier: Apache-2.0
"""What an eBPF engine knows of the kernel's maps, so that a change costs what it changes.

The maps themselves are the truth: `read` rebuilds the mirror from them alone, which is how an
agent adopts what an earlier one left, and how drift is found.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from cloudlb.engines import records
from cloudlb.engines.regions import Regions
from cloudlb.model.dataplane import Frontend, Plane
from cloudlb.model.pool import Port, Protocol
from cloudlb.net.bpf.layout import (
    MemberRecord,
    MemberRole,
    MemberState,
    Number,
    PoolRecord,
    SchedulerNumber,
    ServiceKey,
    VipKey,
    unpack_address,
)
from cloudlb.net.bpf.programs import Maps

_PROTOCOL_OF = {protocol.number: protocol for protocol in Protocol}


@dataclass(slots=True)
class PoolState:
    """A pool in the maps: its number, record, members by number, services.

    ``is_directed``: this host answers for the pool's address.
    """

    number: int
    record: PoolRecord
    is_directed: bool = False
    members: dict[int, MemberRecord] = field(default_factory=dict)
    services: set[ServiceKey] = field(default_factory=set)
    _numbers: dict[bytes, int] = field(default_factory=dict)

    @property
    def vip(self) -> VipKey:
        """The key of the pool's address."""
        return VipKey(self.record.network, self.record.address)

    @property
    def member_ids(self) -> dict[int, UUID]:
        """The members' ids by their numbers."""
        return {number: UUID(bytes=record.id) for number, record in self.members.items()}

    def number_of(self, member_id: UUID) -> int | None:
        """The number of a member, None when it has none."""
        return self._numbers.get(member_id.bytes)

    def put(self, number: int, record: MemberRecord) -> None:
        """Note a member's record."""
        self.members[number] = record
        self._numbers[record.id] = number

    def take(self, number: int) -> MemberRecord:
        """Forget a member; its last record."""
        record = self.members.pop(number)
        del self._numbers[record.id]
        return record

    def plane(self) -> Plane:
        """The plane that these records say."""
        ranked = sorted(self.members.values(), key=lambda record: record.rank)
        return Plane(
            pool_id=UUID(bytes=self.record.id),
            network=self.record.network,
            address=unpack_address(self.record.address),
            frontend=self._frontend(ranked) if self.is_directed else None,
            timeouts=records.timeouts(self.record),
            guests=tuple(
                records.guest(r)
                for r in sorted(ranked, key=lambda r: r.id)
                if r.role & MemberRole.GUEST
            ),
        )

    def _frontend(self, ranked: list[MemberRecord]) -> Frontend:
        ports = sorted(
            Port(_PROTOCOL_OF[key.protocol], int.from_bytes(key.port)) for key in self.services
        )
        backends = tuple(records.backend(r) for r in ranked if r.role & MemberRole.BACKEND)
        algorithm = records.ALGORITHMS[SchedulerNumber(self.record.scheduler)]
        return Frontend(
            algorithm=algorithm,
            ports=tuple(ports),
            backends=backends,
            persistence=records.persistence(self.record),
            router=self.record.router,
            keeps_unknown=self.record.locals > 0,
            aliases=records.aliases(self.record),
            masquerade=self.record.masquerades > 0,
            tells_clients=self.record.tells_clients > 0,
        )


class Numbers:
    """Numbers of a fixed range; those given back rest until nothing can refer to them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used: set[int] = set()
        self._resting: set[int] = set()
        self._drowsy: set[int] = set()
        self._next = 0

    def claim(self, number: int) -> None:
        """Mark a number as used."""
        self._used.add(number)

    def take(self) -> int:
        """The next free number, round and round; MemoryError when all are used."""
        for step in range(self._size):
            number = (self._next + step) % self._size
            if not any(number in them for them in (self._used, self._resting, self._drowsy)):
                self._next = number + 1
                self._used.add(number)
                return number
        raise MemoryError(f"all {self._size} numbers are in use")

    def give(self, number: int) -> None:
        """Give a number back; it rests until the second `wake`."""
        self._used.discard(number)
        self._resting.add(number)

    def wake(self) -> None:
        """Make the numbers available that rested at the `wake` before.

        A program that was under way when a number was given back may still store a connection
        to it, which the next sweep forgets.
        """
        self._drowsy, self._resting = self._resting, set()


@dataclass(slots=True)
class Mirror:
    """All pools of the maps, and what of the maps is free."""

    pools: dict[UUID, PoolState]
    pool_numbers: Numbers
    member_numbers: Numbers
    regions: Regions


def read(maps: Maps) -> Mirror:
    """Rebuild the mirror from the kernel's maps."""
    mirror = Mirror(
        pools={},
        pool_numbers=Numbers(maps.pools.max_entries),
        member_numbers=Numbers(maps.members.max_entries),
        regions=Regions(maps.slots.max_entries),
    )
    by_number: dict[int, PoolState] = {}
    for key, record in maps.pools.items():
        state = PoolState(key.value, record)
        by_number[key.value] = mirror.pools[UUID(bytes=record.id)] = state
        mirror.pool_numbers.claim(key.value)
        mirror.regions.claim(record.base, record.order)
    for key, member in _members(maps):
        mirror.member_numbers.claim(key.value)
        if member.pool in by_number:
            by_number[member.pool].put(key.value, member)
    services: dict[int, set[ServiceKey]] = defaultdict(set)
    for service, pool in maps.services.items():
        services[pool.value].add(service)
    for state in by_number.values():
        state.services = services[state.number]
        vip = maps.vips.get(state.vip)
        state.is_directed = vip == Number(state.number)
    return mirror


def _members(maps: Maps) -> list[tuple[Number, MemberRecord]]:
    return [(k, m) for k, m in maps.members.items() if m.state != MemberState.FREE]
