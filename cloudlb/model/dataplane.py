# SPDX-License-Identifier: Apache-2.0
"""What a data-plane driver asks of an engine, and what an engine says of it.

A driver compiles a pool into a `Plane`; an engine makes the kernel agree with it and can tell
the plane that it finds there. Equal planes need no work.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence, Port, Timeouts


@dataclass(frozen=True, slots=True)
class TableSizes:
    """How many entries an engine's tables have: connections, bound clients, datagrams in parts,
    members of all pools.
    """

    flows: int = 262144
    clients: int = 262144
    fragments: int = 8192
    members: int = 65536


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from ``first`` to ``last``, both of them in it."""

    first: int = 61000
    last: int = 65096

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


class Mode(StrEnum):
    """How a packet reaches its member.

    ``dr``: Ethernet addresses are rewritten, the member holds the pool's address. ``tun``: the
    packet travels inside another to the member's own address and is unpacked in front of the
    guest, which holds the pool's address. ``edge_nat``: as ``dr`` as far as the member's tap,
    where the destination becomes the member's own address and port, and its answers the pool's.
    ``nat``: the director does that, and answers have to come back by it. ``full_nat``: there the
    director also puts the pool's address and an alias, a port of its own choice, in the client's
    place, so that they do.
    """

    DR = "dr"
    TUN = "tun"
    EDGE_NAT = "edge_nat"
    NAT = "nat"
    FULL_NAT = "full_nat"


class Algorithm(StrEnum):
    """How an engine chooses: a scheduler with its variant (see `model.pool.Scheduler`)."""

    ROUND_ROBIN = "round_robin"
    WRR_INTERLEAVED = "wrr_interleaved"
    WRR_LVS = "wrr_lvs"
    WRR_SMOOTH = "wrr_smooth"
    LC_ACTIVE = "lc_active"
    LC_LVS = "lc_lvs"
    WLC_ACTIVE = "wlc_active"
    WLC_LVS = "wlc_lvs"
    SOURCE_HASH = "source_hash"
    FLOW_HASH = "flow_hash"
    MAGLEV = "maglev"

    @property
    def counts(self) -> bool:
        """Whether it compares the members' connections."""
        return self in _COUNTING


_COUNTING = frozenset(
    {Algorithm.LC_ACTIVE, Algorithm.LC_LVS, Algorithm.WLC_ACTIVE, Algorithm.WLC_LVS}
)


class BackendState(StrEnum):
    """Whether a backend gets new connections.

    Others than active ones do not. Those that an ``idle`` one has stay with it. One that is
    ``deserted`` loses them to others, each with its next packet. ``cut``: clients' segments of
    them are answered with a reset, and datagrams go to others.
    """

    ACTIVE = "active"
    IDLE = "idle"
    DESERTED = "deserted"
    CUT = "cut"

    @property
    def keeps(self) -> bool:
        """Whether connections stay with the backend."""
        return self in (BackendState.ACTIVE, BackendState.IDLE)


@dataclass(frozen=True, slots=True)
class Backend:
    """A member as a director forwards to it: ``mac`` is its next hop on the link, None for the one
    that the host's routes and neighbours say of its ``address``.

    ``mode`` is that of new connections, others keep theirs. ``address`` is the member's own, where
    one is known: the mode, or one that connections began in, may need it. So it is with ``port``,
    its own port where that differs from the virtual one. An idle backend keeps the connections it
    has and gets no new ones.
    """

    member_id: UUID
    mode: Mode
    mac: Mac | None
    weight: int
    state: BackendState = BackendState.ACTIVE
    address: Address | None = None
    port: int | None = None

    @property
    def eligible(self) -> bool:
        """Whether new connections may go to it."""
        return self.state is BackendState.ACTIVE and self.weight > 0


@dataclass(frozen=True, slots=True)
class AliasPart:
    """The ports of a pool's address that one of its directors gives away: those whose remainder,
    divided by their number ``of``, is its ``place``, counted from 0.
    """

    place: int = 0
    of: int = 1


@dataclass(frozen=True, slots=True)
class Frontend:
    """The director's part of a pool: the address it answers for and the backends behind it.

    ``router`` is not 0 where several directors forward: the number of the virtual router whose
    master announces the address. Their tables must not depend on what each knew before.
    ``keeps_unknown``: packets in the middle of connections that are not known go to this host's
    own guests among the backends, of which there are some, and not by the algorithm. ``aliases``
    are None without full NAT and without ``masquerade``, with which what members begin by
    themselves gets the pool's address. ``tells_clients``: with full NAT a TCP option tells a
    member who its client is.
    """

    algorithm: Algorithm
    ports: tuple[Port, ...]
    backends: tuple[Backend, ...]
    persistence: Persistence | None = None
    router: int = 0
    keeps_unknown: bool = False
    aliases: AliasPart | None = None
    masquerade: bool = False
    tells_clients: bool = False


@dataclass(frozen=True, slots=True)
class Guest:
    """A member behind a tap of this host, by the Ethernet address of its NIC.

    ``address`` is the guest's own, where one is known, and ``port`` its own port where that
    differs from the virtual one. Connections that began in a ``former`` mode may be alive. Of one
    that is ``watched`` directors are to hear which connections it ends or refuses.
    """

    member_id: UUID
    mac: Mac
    mode: Mode = Mode.DR
    address: Address | None = None
    port: int | None = None
    former: tuple[Mode, ...] = ()
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """All that a pool needs of one host.

    ``frontend`` is None on a host that is no director of it; ``guests`` are the members behind
    taps of this host. Both forget connections after ``timeouts``.
    """

    pool_id: UUID
    network: int
    address: Address
    frontend: Frontend | None = None
    guests: tuple[Guest, ...] = ()
    timeouts: Timeouts | None = None


@dataclass(frozen=True, slots=True)
class MemberCounters:
    """Since the member was added on this host; connections are counted where they are chosen.

    ``active`` connections are established, ``inactive`` are opening or closing. ``in`` is towards
    the member, ``out`` what it answers (seen at its tap).
    """

    member_id: UUID
    connections: int = 0
    active: int = 0
    inactive: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0


class FlowState(StrEnum):
    """How far a connection is, as its director sees it."""

    OPENING = "opening"
    ESTABLISHED = "established"
    CLOSING = "closing"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection that a director remembers; ``idle``: seconds since its last packet."""

    client: Address
    client_port: int
    port: Port
    member_id: UUID
    state: FlowState
    idle: float


class Reason(StrEnum):
    """Why a packet goes where it goes."""

    CONNECTION = "connection"
    PERSISTENCE = "persistence"
    TURN = "turn"
    COUNT = "count"
    HASH = "hash"
    NO_SERVICE = "no_service"
    NO_MEMBER = "no_member"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The member that the next packet of a client goes to, None for no one, and why."""

    member_id: UUID | None
    reason: Reason
    detail: str
