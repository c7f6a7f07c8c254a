# SPDX-License-Identifier: Apache-2.0
"""Connections of pools with several directors, between this host's maps and other hosts.

Numbers of members and pools are each host's own; between hosts they are named by their ids.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar
from uuid import UUID

from cloudlb.engines import records
from cloudlb.engines.base import Sharer, asking_for
from cloudlb.engines.explain import ticks_since
from cloudlb.engines.mirror import PoolState
from cloudlb.model.eastwest import LONGEST_IDLE, OLDEST_SIGN, FlowEntry, Sign, SignKind
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Protocol
from cloudlb.net.bpf import layout
from cloudlb.net.bpf.layout import (
    Codec,
    Count,
    Flow,
    FlowKey,
    Mate,
    MemberRecord,
    ModeNumber,
    Number,
    PoolRecord,
    Shared,
)
from cloudlb.net.bpf.layout import Sign as SignRecord
from cloudlb.net.bpf.programs import Maps, Programs

T = TypeVar("T", bound=tuple[object, ...])
_AT_ONCE = 22  # adopt() and conclude() in cloudlb.bpf.c
_ETHERNET = bytes(14)
_UNTIL_ELECTED = 15_000_000_000  # ns; an agent that waits for others' connections, 10 heartbeats


class Sharing(Sharer):
    """Tells and takes connections by the maps; ``second`` in jiffies."""

    def __init__(
        self, programs: Programs, second: int, pools: Callable[[], Mapping[UUID, PoolState]]
    ) -> None:
        self._programs, self._maps, self._second = programs, programs.maps, second
        self._pools = pools

    def filenos(self) -> tuple[int, int]:
        """The rings'."""
        return self._programs.news.fileno(), self._programs.signs.fileno()

    def signs(self) -> Iterator[Sign]:
        """What the programs have put into the ring."""
        ids, now = _Ids(self._maps), time.monotonic_ns()
        for octets in self._programs.signs.read():
            told = layout.SIGN.unpack(octets[: layout.SIGN.size])
            key, known = layout.FLOW_KEY.unpack(told.key), ids.of(told.member)
            if known:
                pool, record = known
                age = min(max(0, now - told.at) // 1_000_000, OLDEST_SIGN)
                ends = key.client, key.client_port, key.port
                yield Sign(pool.id, record.id, *ends, SignKind(told.what), age)

    def conclude(self, signs: Iterable[Sign]) -> None:
        """By a program, which changes states and counts in one step with the packets."""
        now = time.monotonic_ns()
        self._run("conclude", layout.SIGN, (e for s in signs if (e := self._end(s, now))))

    def news(self) -> Iterator[FlowEntry]:
        """What the director's program has put into the ring."""
        ids = _Ids(self._maps)
        for octets in self._programs.news.read():
            told = layout.SHARED.unpack(octets[: layout.SHARED.size])
            key = layout.FLOW_KEY.unpack(told.key)
            entry = ids.entry(key, Flow(0, told.member, told.alias, told.state, told.mode), 0)
            if entry:
                yield entry

    def all(self, newer_than: float) -> Iterator[FlowEntry]:
        """From the map of connections."""
        now, ids = self._programs.run("sweep"), _Ids(self._maps)
        for key, flow in self._maps.flows.items():
            idle = ticks_since(flow.seen, now) / self._second
            if idle > newer_than:
                continue
            entry = ids.entry(key, flow, min(int(idle), LONGEST_IDLE))
            if entry:
                yield entry

    def adopt(self, entries: Iterable[FlowEntry]) -> None:
        """By a program, since looking at what is there and replacing it must be one step."""
        self._run("adopt", layout.SHARED, (t for e in entries if (t := self._told(e))))

    def _run(self, program: str, codec: Codec[T], records: Iterable[T]) -> None:
        waiting = iter(records)
        with asking_for("connections of another host"):
            while batch := tuple(islice(waiting, _AT_ONCE)):
                self._programs.run(program, _ETHERNET + b"".join(map(codec.pack, batch)))

    def befriend(
        self, router: int, mac: Mac, others: Sequence[Mac], silent: float, seconds: float
    ) -> None:
        """By the map of mates."""
        now = time.monotonic_ns()
        until, heard = now + int(seconds * 1e9), max(0, now - int(silent * 1e9))
        with asking_for("another director"):
            everyone = b"".join(other.packed for other in others)
            self._maps.mates[Number(router)] = Mate(until, heard, mac.packed, everyone)

    def bridge(self, state: PoolState, router: int) -> None:
        """Let the only director of a pool announce it until it and others have elected."""
        lease = self._maps.leases[Number(router)].value if router else 0
        until = time.monotonic_ns() + _UNTIL_ELECTED
        if router and state.is_directed and not state.record.router and lease < until:
            self._maps.leases[Number(router)] = Count(until)

    def _told(self, entry: FlowEntry) -> Shared | None:
        state, number = self._place(entry)
        if state is None or number is None or not state.record.router:
            return None
        idle = entry.idle * self._second
        key = _key(state, entry, entry.protocol)
        return Shared(key, number, entry.state, entry.mode, entry.alias, idle)

    def _end(self, sign: Sign, now: int) -> SignRecord | None:
        state, number = self._place(sign)
        if state is None or number is None or not state.is_directed:
            return None
        key = _key(state, sign, Protocol.TCP.number)
        return SignRecord(key, number, max(0, now - sign.age * 1_000_000), sign.kind)

    def _place(self, told: FlowEntry | Sign) -> tuple[PoolState | None, int | None]:
        """The pool here, and the member's number in it."""
        state = self._pools().get(UUID(bytes=told.pool))
        return state, state.number_of(UUID(bytes=told.member)) if state else None


def _key(state: PoolState, told: FlowEntry | Sign, protocol: int) -> bytes:
    return layout.FLOW_KEY.pack(
        FlowKey(
            network=state.record.network,
            client_port=told.client_port,
            port=told.port,
            client=told.client,
            address=state.record.address,
            protocol=protocol,
        )
    )


class _Ids:
    """The pools' ids and records of members' numbers, looked up once each."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._known: dict[int, tuple[PoolRecord, MemberRecord] | None] = {}

    def entry(self, key: FlowKey, flow: Flow, idle: int) -> FlowEntry | None:
        """A connection by ids; None if its pool has one director or is going, or if there is no
        alias yet.
        """
        known = self.of(flow.member)
        if known is None or not known[0].router:
            return None
        pool, record = known
        if flow.mode == ModeNumber.FULL_NAT and not flow.alias:
            return None
        ends = key.client, key.client_port, key.port, key.protocol
        mode = records.mode_elsewhere(record, flow.mode)
        return FlowEntry(pool.id, *ends, flow.state, mode, flow.alias, idle, record.id)

    def of(self, member: int) -> tuple[PoolRecord, MemberRecord] | None:
        """The records of a member's pool and of itself; None if it has gone."""
        if member not in self._known:
            self._known[member] = self._read(member)
        return self._known[member]

    def _read(self, member: int) -> tuple[PoolRecord, MemberRecord] | None:
        record = self._maps.members.get(Number(member))
        pool = self._maps.pools.get(Number(record.pool)) if record else None
        return (pool, record) if pool and record else None
