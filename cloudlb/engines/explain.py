# SPDX-License-Identifier: Apache-2.0
"""What the programs would do with a packet, read from their maps: nothing is changed."""

from collections.abc import Iterator
from ipaddress import ip_network
from itertools import islice
from uuid import UUID

from cloudlb.engines.mirror import PoolState
from cloudlb.model import schedule
from cloudlb.model.dataplane import Explanation, Flow, FlowState, MemberCounters, Reason
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.net.bpf.layout import (
    ClientKey,
    FlowKey,
    MemberRecord,
    MemberState,
    ModeNumber,
    Number,
    SchedulerNumber,
    ServiceKey,
    pack_address,
    unpack_address,
)
from cloudlb.net.bpf.programs import Maps

_STATES = tuple(FlowState)
_PROTOCOL_OF = {protocol.number: protocol for protocol in Protocol}
_LVS = (SchedulerNumber.LC_LVS, SchedulerNumber.WLC_LVS)
_WEIGHTED = (SchedulerNumber.WLC_ACTIVE, SchedulerNumber.WLC_LVS)


def counters(maps: Maps, number: int, record: MemberRecord) -> MemberCounters:
    """The counters of a member on this host."""
    traffic = maps.traffic.total(number)
    opened = maps.connections[Number(number)]
    return MemberCounters(
        member_id=UUID(bytes=record.id),
        connections=opened.total,
        active=_at_least_none(opened.active),
        inactive=_at_least_none(opened.inactive),
        packets_in=traffic.packets_in,
        bytes_in=traffic.bytes_in,
        packets_out=traffic.packets_out,
        bytes_out=traffic.bytes_out,
    )


def _at_least_none(counted: int) -> int:
    """Of what another version has counted some may be missing, until it is counted anew."""
    return 0 if counted >> 63 else counted


def ticks_since(seen: int, now: int) -> int:
    """Jiffies from a moment to ``now``, of which only 32 bits are known.

    None have passed since a moment that is later: a packet has come while the map was read.
    """
    passed = now - seen & 0xFFFFFFFF
    return passed if passed < 1 << 31 else 0


def flows(maps: Maps, state: PoolState, limit: int, now: int, second: int) -> tuple[Flow, ...]:
    """Of a pool's clients; ``now`` in jiffies (32 bits of it), of which ``second`` are one."""
    return tuple(islice(_flows(maps, state, now, second), limit))


def _flows(maps: Maps, state: PoolState, now: int, second: int) -> Iterator[Flow]:
    for key, flow in maps.flows.items():
        member = state.members.get(flow.member)
        is_clients = flow.mode != ModeNumber.MASQUERADE
        if member and is_clients and (key.network, key.address) == state.vip:
            yield Flow(
                client=unpack_address(key.client),
                client_port=int.from_bytes(key.client_port),
                port=Port(_PROTOCOL_OF[key.protocol], int.from_bytes(key.port)),
                member_id=UUID(bytes=member.id),
                state=_STATES[flow.state],
                idle=round(ticks_since(flow.seen, now) / second, 1),
            )


def explain(
    maps: Maps, state: PoolState, client: Address, client_port: int, port: Port, now: int
) -> Explanation:
    """Where the next packet of a client goes; ``now`` as for `flows`."""
    found = _connection(maps, state, client, client_port, port)
    if found:
        return found
    service = ServiceKey(*state.vip, port.port.to_bytes(2), port.protocol.number)
    if service not in state.services:
        return Explanation(None, Reason.NO_SERVICE, f"the pool has no port {port}")
    if not state.record.length:
        return Explanation(None, Reason.NO_MEMBER, "no member takes new connections")
    return _bound(maps, state, client, now) or _chosen(maps, state, client, client_port, port)


def _connection(
    maps: Maps, state: PoolState, client: Address, client_port: int, port: Port
) -> Explanation | None:
    key = FlowKey(
        network=state.record.network,
        client_port=client_port.to_bytes(2),
        port=port.port.to_bytes(2),
        client=pack_address(client),
        address=state.record.address,
        protocol=port.protocol.number,
    )
    flow = maps.flows.get(key)
    if flow is None:
        return None
    member = state.members.get(flow.member)
    if member and member.state == MemberState.CUT and port.protocol is Protocol.TCP:
        words = "the connection's member is dead, and the pool has it reset"
        return Explanation(None, Reason.CONNECTION, words)
    if member and member.state in (MemberState.DESERTED, MemberState.CUT):
        return None
    words = f"the connection is {_STATES[flow.state]}; a new one may go elsewhere"
    return _to(state, flow.member, Reason.CONNECTION, words)


def _bound(maps: Maps, state: PoolState, client: Address, now: int) -> Explanation | None:
    if not state.record.persistence:
        return None
    prefix = state.record.prefix - 128 + client.max_prefixlen
    network = ip_network((client, prefix), strict=False)
    found = maps.clients.get(ClientKey(state.number, pack_address(network.network_address)))
    member = found and state.members.get(found.member)
    if not found or not member or member.state != MemberState.ACTIVE or not member.weight:
        return None
    if (found.until - now & 0xFFFFFFFF) >= 1 << 31:
        return None
    return _to(state, found.member, Reason.PERSISTENCE, f"clients of {network} are bound to it")


def _chosen(
    maps: Maps, state: PoolState, client: Address, client_port: int, port: Port
) -> Explanation:
    record = state.record
    scheduler = SchedulerNumber(record.scheduler)
    if scheduler <= SchedulerNumber.WRR_SMOOTH:
        turn = maps.tickets[Number(state.number)].value % record.length
        words = f"it has the next turn, {turn + 1} of {record.length}"
        return _to(state, _slot(maps, state, turn), Reason.TURN, words)
    if scheduler <= SchedulerNumber.WLC_LVS:
        return _least(maps, state, scheduler)
    if scheduler is SchedulerNumber.SOURCE_HASH:
        hashed = schedule.client_hash(client, record.seed)
    else:
        hashed = schedule.flow_hash(client, client_port, port.port, record.seed)
    entry = hashed % record.length
    words = f"the hash leads to entry {entry} of a table of {record.length}"
    return _to(state, _slot(maps, state, entry), Reason.HASH, words)


def _least(maps: Maps, state: PoolState, scheduler: SchedulerNumber) -> Explanation:
    """As schedule.h compares: by cross-multiplication, the earlier of equals."""
    best, least, heaviness = -1, 0, 1
    for index in range(state.record.length):
        number = _slot(maps, state, index)
        counted = maps.connections[Number(number)]
        load = counted.active
        if scheduler in _LVS:
            load = (counted.active << 8) + counted.inactive
        weight = state.members[number].weight if scheduler in _WEIGHTED else 1
        if best < 0 or load * heaviness < least * weight:
            best, least, heaviness = number, load, weight
    counted = maps.connections[Number(best)]
    words = f"it has the fewest: {counted.active} active, {counted.inactive} inactive"
    if scheduler in _WEIGHTED:
        words += f", weight {heaviness}"
    return _to(state, best, Reason.COUNT, words)


def _slot(maps: Maps, state: PoolState, index: int) -> int:
    return maps.slots[Number(state.record.base + index)].value


def _to(state: PoolState, number: int, reason: Reason, words: str) -> Explanation:
    member = state.members.get(number)
    if member is None:
        return Explanation(None, Reason.NO_MEMBER, "its member has just left")
    return Explanation(UUID(bytes=member.id), reason, words)
