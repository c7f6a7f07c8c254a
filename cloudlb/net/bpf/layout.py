# SPDX-License-Identifier: Apache-2.0
"""The records of the maps as the programs lay them out: maps.h names the same fields.

Addresses are 16 octets with IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2), ports two octets in
network order.
"""

import struct
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, NamedTuple, TypeVar

from cloudlb.model.network import Address

T = TypeVar("T", bound=tuple[object, ...])

_MAPPED = bytes(10) + b"\xff\xff"


def pack_address(address: Address) -> bytes:
    """16 octets for an address of either family."""
    return address.packed if address.version == 6 else _MAPPED + address.packed


def unpack_address(octets: bytes) -> Address:
    """The address in 16 octets."""
    if octets.startswith(_MAPPED):
        return IPv4Address(octets[12:])
    return IPv6Address(octets)


class Codec(Generic[T]):
    """A record and its layout in a map."""

    def __init__(self, kind: type[T], layout: str) -> None:
        self._kind = kind
        self._struct = struct.Struct("=" + layout)
        self.size = self._struct.size

    def pack(self, record: T) -> bytes:
        """The record's octets."""
        return self._struct.pack(*record)

    def unpack(self, octets: bytes) -> T:
        """The record in these octets."""
        return self._kind(*self._struct.unpack(octets))


class Number(NamedTuple):
    """A map's plain 32-bit key or value."""

    value: int


class Count(NamedTuple):
    """A map's plain 64-bit value."""

    value: int


class PortRecord(NamedTuple):
    """An interface with a program; own addresses are learned from the guest behind it."""

    network: int
    own_ipv4: bytes
    own_link_local: bytes
    mac: bytes
    attached: int = 1


class VipKey(NamedTuple):
    """A pool's address in its network."""

    network: int
    address: bytes


class ServiceKey(NamedTuple):
    """A virtual service."""

    network: int
    address: bytes
    port: bytes
    protocol: int


class SchedulerNumber(IntEnum):
    """The schedulers that the programs know."""

    ROUND_ROBIN = 0
    SOURCE_HASH = 1


class PoolRecord(NamedTuple):
    """A pool: new connections go to the members in slots[base, base + length)."""

    id: bytes
    network: int
    address: bytes
    seed: int
    base: int
    length: int
    order: int
    scheduler: int


class MemberState(IntEnum):
    """Whether a member's number is in use, and whether it takes new connections."""

    FREE = 0
    ACTIVE = 1
    IDLE = 2


class MemberRole(IntFlag):
    """Why a host knows a member."""

    BACKEND = 1
    GUEST = 2


class MemberRecord(NamedTuple):
    """A member; ``rank`` is its place among the members of its pool."""

    id: bytes
    pool: int
    weight: int
    rank: int
    mac: bytes
    state: int
    role: int


class DeliveryKey(NamedTuple):
    """A pool's address behind a guest's tap."""

    ifindex: int
    address: bytes


class FlowKey(NamedTuple):
    """A connection."""

    network: int
    client_port: bytes
    port: bytes
    client: bytes
    address: bytes
    protocol: int


class Flow(NamedTuple):
    """Where a connection goes; ``seen`` in jiffies."""

    seen: int
    member: int
    state: int


class Traffic(NamedTuple):
    """Packets and octets of a member on one CPU."""

    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int


class Connections(NamedTuple):
    """Connections of a member."""

    total: int
    active: int
    inactive: int


class Event(IntEnum):
    """Why a packet to a pool's address went nowhere, or was not remembered."""

    NO_MEMBER = 0
    NO_SERVICE = 1
    FRAGMENT = 2
    TABLE_FULL = 3
    GUARD_DROP = 4
    GUARD_REWRITE = 5
    ANSWERED = 6


class Settings(NamedTuple):
    """Time-outs in jiffies: opening, established, closing, UDP."""

    opening: int
    established: int
    closing: int
    udp: int


NUMBER = Codec(Number, "I")
COUNT = Codec(Count, "Q")
PORT = Codec(PortRecord, "I4s16s6sBx")
NO_PORT = PORT.unpack(bytes(PORT.size))
VIP_KEY = Codec(VipKey, "I16s")
SERVICE_KEY = Codec(ServiceKey, "I16s2sBx")
POOL = Codec(PoolRecord, "16sI16sIIIII")
MEMBER = Codec(MemberRecord, "16sIII6sBB")
DELIVERY_KEY = Codec(DeliveryKey, "I16s")
FLOW_KEY = Codec(FlowKey, "I2s2s16s16sI")
FLOW = Codec(Flow, "QII")
TRAFFIC = Codec(Traffic, "QQQQ")
CONNECTIONS = Codec(Connections, "QQQ40x")
SETTINGS = Codec(Settings, "QQQQ")
TICKET = Codec(Count, "Q56x")
