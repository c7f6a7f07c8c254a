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
from cloudlb.model.pool import Port, Scheduler


class Mode(StrEnum):
    """How a packet reaches its member."""

    DR = "dr"


class BackendState(StrEnum):
    """Whether a backend gets new connections."""

    ACTIVE = "active"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Backend:
    """A member as a director forwards to it: ``mac`` is its next hop.

    An idle backend keeps the connections it has and gets no new ones.
    """

    member_id: UUID
    mode: Mode
    mac: Mac
    weight: int
    state: BackendState = BackendState.ACTIVE

    @property
    def eligible(self) -> bool:
        """Whether new connections may go to it."""
        return self.state is BackendState.ACTIVE and self.weight > 0


@dataclass(frozen=True, slots=True)
class Frontend:
    """The director's part of a pool: the address it answers for and the backends behind it."""

    scheduler: Scheduler
    ports: tuple[Port, ...]
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Guest:
    """A member behind a tap of this host, by the Ethernet address of its NIC."""

    member_id: UUID
    mac: Mac


@dataclass(frozen=True, slots=True)
class Plane:
    """All that a pool needs of one host.

    ``frontend`` is None on a host that is no director of it; ``guests`` are the members behind
    taps of this host.
    """

    pool_id: UUID
    network: int
    address: Address
    frontend: Frontend | None = None
    guests: tuple[Guest, ...] = ()


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
