# SPDX-License-Identifier: Apache-2.0
"""A pool: one address, its ports, and the members that share its connections."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address


class Protocol(StrEnum):
    """Transport protocols that a pool can forward."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        """IANA protocol number."""
        return 6 if self is Protocol.TCP else 17


class Scheduler(StrEnum):
    """How the member of a new connection is chosen.

    ``source_hash`` hashes the client's address, ``flow_hash`` and ``maglev`` addresses and ports.
    """

    ROUND_ROBIN = "round_robin"
    WEIGHTED_ROUND_ROBIN = "weighted_round_robin"
    LEAST_CONNECTIONS = "least_connections"
    WEIGHTED_LEAST_CONNECTIONS = "weighted_least_connections"
    SOURCE_HASH = "source_hash"
    FLOW_HASH = "flow_hash"
    MAGLEV = "maglev"

    @property
    def is_hash(self) -> bool:
        """Whether a connection's addresses and ports say its member."""
        return self in (Scheduler.SOURCE_HASH, Scheduler.FLOW_HASH, Scheduler.MAGLEV)

    @property
    def shares_by_weight(self) -> bool:
        """Whether weights beyond 0 and 1 say anything."""
        return self not in (Scheduler.ROUND_ROBIN, Scheduler.LEAST_CONNECTIONS)


class RotationOrder(StrEnum):
    """The order in which weighted round robin gives turns (L5)."""

    INTERLEAVED = "interleaved"
    LVS = "lvs"
    SMOOTH = "smooth"


class ConnectionCount(StrEnum):
    """What least connections counts: active connections, or 256 × active + inactive as LVS."""

    ACTIVE = "active"
    LVS = "lvs"


class Failover(StrEnum):
    """What the first director does when it comes back: announce the address again, or wait."""

    PREEMPT = "preempt"
    STAY = "stay"


class DownAction(StrEnum):
    """What becomes of the connections of a member that is dead: they stay with it, in case that it
    comes back; go to another member with their next packet; or are reset (A17).
    """

    KEEP = "keep"
    RESCHEDULE = "reschedule"
    RESET = "reset"


class MonitorType(StrEnum):
    """What a probe asks a member."""

    TCP = "tcp"
    ICMP = "icmp"
    UDP = "udp"
    HTTP = "http"
    HTTPS = "https"

    @property
    def protocol(self) -> Protocol | None:
        """The transport protocol whose port is asked, None for probes without one."""
        if self is MonitorType.ICMP:
            return None
        return Protocol.UDP if self is MonitorType.UDP else Protocol.TCP


class Health(StrEnum):
    """What probes say of a member."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """One virtual service of a pool's address."""

    protocol: Protocol
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Monitor:
    """Probes of a pool's members: every ``interval`` seconds, answered within ``timeout``.

    ``fall`` misses in a row take a member out of the rotation, ``rise`` answers bring it back.
    ``timeout`` is at most ``interval``, so a dead member is out within interval x fall + timeout.
    ``port`` is the port to probe, by default the pool's first one of the probe's protocol.

    The rest is of some types only, and None elsewhere or for the default. Of ``udp``: ``payload``
    (hexadecimal) of the datagram; ``accept_silence``: a member that says nothing is alive if it
    answers an echo request. Of ``http`` and ``https``: ``method``, ``path``, ``http_version`` and
    ``host`` of the request, ``expected_codes`` of the answer. Of ``https``: ``ca`` (PEM), which
    members' certificates must go back to, ``sni``, the name that TLS asks for.
    """

    type: MonitorType
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    port: int | None = None
    payload: str | None = None
    accept_silence: bool | None = None
    method: str | None = None
    path: str | None = None
    expected_codes: str | None = None
    host: str | None = None
    http_version: str | None = None
    ca: str | None = None
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class Persistence:
    """New connections of clients with the same first ``prefix`` bits go to the same member.

    For ``timeout`` seconds since the client's latest new connection (L10).
    """

    timeout: int
    prefix: int


class Forwarding(StrEnum):
    """How members' hosts pass packets on to each other, where each of them directs.

    As the data planes of these names bring packets to members.
    """

    DR = "dr"
    TUN = "tun"
    NAT = "nat"


class Translation(StrEnum):
    """Where NAT happens: at the ``edge``, a member's tap, or at the ``director``, to which members
    send what they answer; ``full``: there, with the client's end exchanged as well.
    """

    EDGE = "edge"
    DIRECTOR = "director"
    FULL = "full"


class ClientAddress(StrEnum):
    """How members learn who their client is where the director stands in for it."""

    TCP_OPTION = "tcp_option"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds without a packet until a connection is forgotten, by its state (L11).

    None: as the hosts are configured.
    """

    opening: int | None = None
    established: int | None = None
    closing: int | None = None
    udp: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """What is wanted of a pool.

    ``rotation_order`` is of weighted round robin, ``connection_count`` of (weighted) least
    connections. ``directors`` are the hosts that receive the address's traffic, in the order in
    which they are to announce it; where there are several they elect among themselves as the
    virtual router of number ``virtual_router`` (RFC 9568), else that is 0. Where there is a
    ``forwarding`` they are the hosts of the members, and nobody names them; of these the
    ``entry_host`` is the first, while it is one of them. ``translation`` is of data planes that
    translate, else None; a director that does may also ``masquerade`` what
    members begin by themselves, and tell them the ``client_address`` that full NAT hides. A
    removed member keeps its connections for at most ``drain_timeout`` seconds, and ``down_action``
    says what becomes of those of a dead one.
    ``panic_threshold``: see `model.fallback`.
    """

    id: UUID
    project_id: str
    network_id: UUID
    name: str
    address: Address
    ports: tuple[Port, ...]
    data_plane: str
    scheduler: Scheduler
    directors: tuple[str, ...]
    monitor: Monitor | None = None
    rotation_order: RotationOrder = RotationOrder.INTERLEAVED
    connection_count: ConnectionCount = ConnectionCount.ACTIVE
    persistence: Persistence | None = None
    failover: Failover = Failover.PREEMPT
    virtual_router: int = 0
    forwarding: Forwarding | None = None
    entry_host: str | None = None
    translation: Translation | None = None
    masquerade: bool = False
    client_address: ClientAddress | None = None
    timeouts: Timeouts | None = None
    down_action: DownAction = DownAction.KEEP
    panic_threshold: int = 0
    drain_timeout: int = 300
    admin_state_up: bool = True
    description: str = ""
    generation: int = 1

    @property
    def members_direct(self) -> bool:
        """Whether the hosts of its members are its directors, whichever these are."""
        return self.forwarding is not None


@dataclass(frozen=True, slots=True)
class Member:
    """What is wanted of a member: a server that takes ``weight`` shares of the connections.

    ``server`` is the UUID of a libvirt domain. A server that no agent reports is ``remote``, at
    this address, and `remote_server` gives its UUID (L21); ``prepared``: its user says that it is
    ready for what the data plane needs of it. A weight of 0 takes no new connections; round robin
    knows 0 and 1 only. ``port`` is the member's own port where the data plane can translate, else
    None. A ``backup`` takes new connections only while no other member is alive.
    """

    id: UUID
    project_id: str
    pool_id: UUID
    server: UUID
    name: str = ""
    port: int | None = None
    weight: int = 1
    backup: bool = False
    admin_state_up: bool = True
    generation: int = 1
    remote: Address | None = None
    prepared: bool = False


_REMOTE_SERVERS = UUID("0b4f4c1e-54f3-4d0a-8f0e-2c1f3a5f7d21")


def remote_server(address: Address) -> UUID:
    """The UUID by which a remote server is known: made of its address, the same everywhere."""
    return uuid5(_REMOTE_SERVERS, str(address))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a member's interface is: on ``host``, behind the tap ``tap``, with ``mac``.

    ``running`` is false for a server that is off: it is a member, and waits. A remote server is on
    no host that is known and has one address; only hosts' kernels know the way there.
    """

    host: str
    mac: Mac | None
    tap: str = ""
    addresses: tuple[Address, ...] = ()
    running: bool = True

    @property
    def is_remote(self) -> bool:
        """Whether it says where a remote server is."""
        return self.mac is None


def remote_placement(address: Address) -> Placement:
    """Where a remote server is."""
    return Placement(host="", mac=None, addresses=(address,))
