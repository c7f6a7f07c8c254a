# SPDX-License-Identifier: Apache-2.0
"""A pool: one address, its ports, and the members that share its connections."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

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
    """How the member of a new connection is chosen."""

    ROUND_ROBIN = "round_robin"
    SOURCE_HASH = "source_hash"


class MonitorType(StrEnum):
    """What a probe asks a member."""

    TCP = "tcp"
    ICMP = "icmp"


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
    ``port`` is the TCP port to probe, by default the first TCP port of the pool.
    """

    type: MonitorType
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """What is wanted of a pool.

    ``directors`` are the hosts that receive the address's traffic. A removed member keeps its
    connections for at most ``drain_timeout`` seconds.
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
    drain_timeout: int = 300
    admin_state_up: bool = True
    description: str = ""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """What is wanted of a member: a server that takes ``weight`` shares of the connections.

    ``server`` is the UUID of a libvirt domain. A weight of 0 takes no new connections; round robin
    knows 0 and 1 only. ``port`` is the member's own port where the data plane can translate, else
    None.
    """

    id: UUID
    project_id: str
    pool_id: UUID
    server: UUID
    name: str = ""
    port: int | None = None
    weight: int = 1
    admin_state_up: bool = True
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a member's interface is: on ``host``, behind the tap ``tap``, with ``mac``.

    ``running`` is false for a server that is off: it is a member, and waits.
    """

    host: str
    mac: Mac
    tap: str = ""
    addresses: tuple[Address, ...] = ()
    running: bool = True
