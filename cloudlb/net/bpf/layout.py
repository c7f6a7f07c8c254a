# SPDX-License-Identifier: Apache-2.0
"""The records of the maps as the programs lay them out: records.h names the same.

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
    """An interface with a program; own addresses are learned from the guest behind it.

    The host's are those that this host has there, zero where it has none.
    """

    network: int
    own_ipv4: bytes
    own_link_local: bytes
    mac: bytes
    attached: int
    mtu: int
    host_ipv4: bytes
    host_ipv6: bytes


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
    """How the programs choose: rotations, then counts, then tables."""

    ROUND_ROBIN = 0
    WRR_INTERLEAVED = 1
    WRR_LVS = 2
    WRR_SMOOTH = 3
    LC_ACTIVE = 4
    LC_LVS = 5
    WLC_ACTIVE = 6
    WLC_LVS = 7
    SOURCE_HASH = 8
    FLOW_HASH = 9
    MAGLEV = 10


class PoolRecord(NamedTuple):
    """A pool: new connections go to the members in slots[base, base + length).

    ``prefix`` counts bits of the 128 of mapped addresses, ``persistence`` seconds, and so do the
    time-outs of connections by their state; those that are 0 are in the settings. ``locals``
    counts members of this host, in the slots behind the others. ``router`` is the virtual router
    whose master announces the address, 0 where this host always does. With full NAT this host
    gives clients those aliases whose remainder, divided by ``alias_parts``, is ``alias_part``;
    when it ``masquerades``, also to what members begin by themselves.
    """

    id: bytes
    network: int
    address: bytes
    seed: int
    base: int
    length: int
    order: int
    scheduler: int
    persistence: int
    prefix: int
    router: int
    opening: int
    established: int
    closing: int
    udp: int
    locals: int
    alias_part: int
    alias_parts: int
    disguises: int
    masquerades: int
    tells_clients: int


class MemberState(IntEnum):
    """Whether a member's number is in use, whether it takes new connections, and what becomes of
    those that it has.
    """

    FREE = 0
    ACTIVE = 1
    IDLE = 2
    DESERTED = 3
    CUT = 4


class MemberRole(IntFlag):
    """Why a host knows a member."""

    BACKEND = 1
    GUEST = 2
    WATCHED = 4


class ModeNumber(IntEnum):
    """How packets reach a member; the last one is of connections that it has begun by itself."""

    DR = 0
    TUN = 1
    EDGE_NAT = 2
    NAT = 3
    FULL_NAT = 4
    MASQUERADE = 5


class MemberRecord(NamedTuple):
    """A member; ``rank`` is its place among the members of its pool.

    ``own`` is its own address, all zero where none is known; ``port`` is zero where the
    virtual one is meant. ``former`` has a bit for each former mode of a guest.
    """

    id: bytes
    pool: int
    weight: int
    rank: int
    mac: bytes
    state: int
    role: int
    own: bytes
    port: bytes
    mode: int
    former: int


class DeliveryKey(NamedTuple):
    """A pool's address behind a guest's tap; with edge NAT the guest's own address too. At an
    uplink the own address of a member that this host directs to.
    """

    ifindex: int
    address: bytes


class LearnedKey(NamedTuple):
    """One of the places that a port has for addresses of the guest behind it."""

    ifindex: int
    place: int


class Sighting(NamedTuple):
    """An address that a guest was seen to use, and when: nanoseconds since boot."""

    address: bytes
    at: int


class FlowKey(NamedTuple):
    """A connection."""

    network: int
    client_port: bytes
    port: bytes
    client: bytes
    address: bytes
    protocol: int


class Flow(NamedTuple):
    """Where a connection goes, and how; ``seen`` in jiffies, ``told`` by another director.

    ``since`` is the time of its latest SYN, or, if its member has ``ended`` it, of that; the lower
    32 bits of jiffies. ``alias`` is the port that stands for the client's with full NAT, else 0;
    of what a member has begun by itself the port that it has.
    """

    seen: int
    member: int
    alias: int
    state: int
    mode: int
    told: int = 0
    ended: int = 0
    since: int = 0


class Shared(NamedTuple):
    """A connection that directors tell each other of, its key packed; ``idle`` in jiffies."""

    key: bytes
    member: int
    state: int
    mode: int
    alias: int
    idle: int


class Sign(NamedTuple):
    """What a member does with a connection, its key packed; ``at`` in nanoseconds since boot."""

    key: bytes
    member: int
    at: int
    what: int


class Mate(NamedTuple):
    """Another director of a virtual router, until a time, heard at another; both in nanoseconds
    since boot. ``all`` has the Ethernet addresses of all others.
    """

    until: int
    heard: int
    mac: bytes
    all: bytes


class SessionKey(NamedTuple):
    """A connection through NAT as its member knows it: at its tap, which is its ``place`` then, or
    at the director, where that is ``AT_DIRECTOR`` with the network.
    """

    place: int
    protocol: int
    client_port: bytes
    port: bytes
    client: bytes
    guest: bytes


class Session(NamedTuple):
    """The pool's address and port of a connection, and its member; ``seen`` in jiffies.

    With full NAT the client's address and port, too.
    """

    seen: int
    address: bytes
    member: int
    state: int
    port: bytes
    client_port: bytes
    mode: int
    client: bytes


class FragmentedKey(NamedTuple):
    """A datagram in fragments, as it comes to an interface."""

    ifindex: int
    id: int
    protocol: int
    source: bytes
    destination: bytes


class Fate(IntEnum):
    """What the first part of a datagram decides for all of them."""

    WAIT = 0
    GO = 1
    PASS = 2
    DROP = 3


class Fragmented(NamedTuple):
    """A datagram's fate; ``held`` parts came before the first one, ``seen`` in jiffies.

    ``address`` is what its parts get where they are translated, ``client`` where a member's go.
    """

    seen: int
    address: bytes
    client: bytes
    member: int
    fate: int
    held: int


class HeldKey(NamedTuple):
    """A place for a part of a datagram that came before the first one."""

    ifindex: int
    id: int
    protocol: int
    source: bytes
    destination: bytes
    place: int


class Held(NamedTuple):
    """A part that waits, as a frame of so many octets."""

    length: int
    frame: bytes


class ClientKey(NamedTuple):
    """A client of a pool, or all clients of a prefix."""

    pool: int
    prefix: bytes


class Client(NamedTuple):
    """The member of a client's new connections, until a time in jiffies."""

    until: int
    member: int


class Traffic(NamedTuple):
    """Packets and octets of a member on one CPU."""

    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int


class Connections(NamedTuple):
    """Connections of a member; when it was ``doubted`` last, in nanoseconds since boot."""

    total: int
    active: int
    inactive: int
    doubted: int = 0


class Event(IntEnum):
    """Why a packet to a pool's address went nowhere, or was not remembered."""

    NO_MEMBER = 0
    NO_SERVICE = 1
    FRAGMENT = 2
    TABLE_FULL = 3
    GUARD_DROP = 4
    GUARD_REWRITE = 5
    ANSWERED = 6
    SESSION_CLASH = 7
    NO_TUNNEL = 8
    TOO_BIG = 9
    TOO_BIG_DROP = 10
    HELD = 11
    PASSED_ON = 12
    NO_ALIAS = 13
    CLIENT_UNTOLD = 14
    CARRYING = 15
    RESET = 16


class Settings(NamedTuple):
    """Time-outs in jiffies: opening, established, closing, UDP; and a second in jiffies.

    Full NAT gives clients the ``aliases`` ports from ``first_alias`` on. Until ``carrying``, in ns
    since boot, connections may be known to the programs of another version only.
    """

    opening: int
    established: int
    closing: int
    udp: int
    second: int
    first_alias: int
    aliases: int
    carrying: int


NUMBER = Codec(Number, "I")
COUNT = Codec(Count, "Q")
PORT = Codec(PortRecord, "I4s16s6sBxI4s16s")
NO_ADDRESS = bytes(16)
NO_MAC = bytes(6)
AT_DIRECTOR = 1 << 31
NO_PORT = PORT.unpack(bytes(PORT.size))
VIP_KEY = Codec(VipKey, "I16s")
SERVICE_KEY = Codec(ServiceKey, "I16s2sBx")
POOL = Codec(PoolRecord, "16sI16sIIIIIIIIIIIIIHHHHH2x")
NO_POOL = POOL.unpack(bytes(POOL.size))
MEMBER = Codec(MemberRecord, "16sIII6sBB16s2sBB")
NO_MEMBER = MEMBER.unpack(bytes(MEMBER.size))
DELIVERY_KEY = Codec(DeliveryKey, "I16s")
LEARNED_KEY = Codec(LearnedKey, "II")
SIGHTING = Codec(Sighting, "16sQ")
FLOW_KEY = Codec(FlowKey, "I2s2s16s16sI")
FLOW = Codec(Flow, "QIIBBBBI")
SHARED = Codec(Shared, f"{FLOW_KEY.size}sIBBHI")
SIGN = Codec(Sign, f"{FLOW_KEY.size}sIQI4x")
MATE = Codec(Mate, "QQ6s42s")
SESSION_KEY = Codec(SessionKey, "II2s2s16s16s")
SESSION = Codec(Session, "Q16sII2s2sB3x16s")
FRAGMENTED_KEY = Codec(FragmentedKey, "III16s16s")
FRAGMENTED = Codec(Fragmented, "Q16s16sIII4x")
HELD_KEY = Codec(HeldKey, "III16s16sI")
HELD = Codec(Held, "I1600s")
CLIENT_KEY = Codec(ClientKey, "I16s")
CLIENT = Codec(Client, "QI4x")
TRAFFIC = Codec(Traffic, "QQQQ")
CONNECTIONS = Codec(Connections, "QQQQ32x")
SETTINGS = Codec(Settings, "QQQQQIIQ")
TICKET = Codec(Count, "Q56x")
