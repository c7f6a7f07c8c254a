# SPDX-License-Identifier: Apache-2.0
"""Connections of pools with several directors, between this host's maps and other hosts.

Numbers of members and pools are each host's own; between hosts they are named by their ids.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from uuid import UUID

from cloudlb.engines import records
from cloudlb.engines.base import Sharer, asking_for
from cloudlb.engines.explain import ticks_since
from cloudlb.engines.mirror import PoolState
from cloudlb.model.eastwest import LONGEST_IDLE, FlowEntry
from cloudlb.model.ether import Mac
from cloudlb.net.bpf import layout
from cloudlb.net.bpf.layout import (
    Count,
    Flow,
    FlowKey,
    Mate,
    MemberRecord,
    ModeNumber,
    Number,
    Shared,
)
from cloudlb.net.bpf.programs import Maps, Programs

_AT_ONCE = 22  # adopt() in cloudlb.bpf.c
_ETHERNET = bytes(14)
_UNTIL_ELECTED = 15_000_000_000  # ns; an agent that waits for others' connections, 10 heartbeats


class Sharing(Sharer):
    """Tells and takes connections by the maps; ``second`` in jiffies."""

    def __init__(
        self, programs: Programs, second: int, pools: Callable[[], Mapping[UUID, PoolState]]
    ) -> None:
        self._programs, self._maps, self._second = programs, programs.maps, second
        self._pools = pools

    def fileno(self) -> int:
        """The ring's."""
        return self._programs.news.fileno()

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
        waiting = iter([told for entry in entries if (told := self._told(entry))])
        with asking_for("connections of another director"):
            while batch := tuple(islice(waiting, _AT_ONCE)):
                frame = _ETHERNET + b"".join(map(layout.SHARED.pack, batch))
                self._programs.run("adopt", frame)

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
        state = self._pools().get(UUID(bytes=entry.pool))
        number = state.number_of(UUID(bytes=entry.member)) if state else None
        if state is None or number is None or not state.record.router:
            return None
        key = FlowKey(
            network=state.record.network,
            client_port=entry.client_port,
            port=entry.port,
            client=entry.client,
            address=state.record.address,
            protocol=entry.protocol,
        )
        idle = entry.idle * self._second
        return Shared(
            layout.FLOW_KEY.pack(key), number, entry.state, entry.mode, entry.alias, idle
        )


class _Ids:
    """The pools' ids and records of members' numbers, looked up once each."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._known: dict[int, tuple[bytes, MemberRecord] | None] = {}

    def entry(self, key: FlowKey, flow: Flow, idle: int) -> FlowEntry | None:
        """A connection by ids; None if its pool has one director or is going, or if there is no
        alias yet.
        """
        if flow.member not in self._known:
            self._known[flow.member] = self._ids(flow.member)
        ids = self._known[flow.member]
        if ids is None:
            return None
        pool, record = ids
        if flow.mode == ModeNumber.FULL_NAT and not flow.alias:
            return None
        ends = key.client, key.client_port, key.port, key.protocol
        mode = records.mode_elsewhere(record, flow.mode)
        return FlowEntry(pool, *ends, flow.state, mode, flow.alias, idle, record.id)

    def _ids(self, member: int) -> tuple[bytes, MemberRecord] | None:
        record = self._maps.members.get(Number(member))
        pool = self._maps.pools.get(Number(record.pool)) if record else None
        return (pool.id, record) if pool and record and pool.router else None
