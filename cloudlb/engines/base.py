# SPDX-License-Identifier: Apache-2.0
"""The contract of an engine: what makes the kernel of a host agree with planes.

Every method may be called again with the same arguments; nothing but what cloudlb made is ever
changed. Methods raise `EngineError` when the kernel refuses. An engine is used by one thread at
a time; the agent holds a lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cloudlb.model.dataplane import MemberCounters, Plane
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address


class PortKind(StrEnum):
    """What is behind an interface."""

    UPLINK = "uplink"
    TAP = "tap"


@dataclass(frozen=True, slots=True)
class HostPort:
    """An interface of a network on this host: the uplink, or the tap of a guest.

    ``mac`` is the interface's own address; a tap's differs from its guest's in the first octet.
    """

    index: int
    kind: PortKind
    network: int
    mac: Mac

    def leads_to(self, guest: Mac) -> bool:
        """Whether the guest with this address is behind the tap."""
        return self.kind is PortKind.TAP and self.mac.packed[1:] == guest.packed[1:]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds after which a director forgets a connection without packets, by its state."""

    opening: float = 60
    established: float = 900
    closing: float = 120
    udp: float = 300


class Engine(ABC):
    """What the agent drives."""

    @abstractmethod
    def observe(self) -> dict[UUID, Plane]:
        """The planes that are in the kernel now, whoever put them there."""

    @abstractmethod
    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        """Make the kernel agree with a pool's plane; None removes all of the pool.

        Connections of backends that stay are not touched; those of a backend that is missing
        in the plane are cut.
        """

    @abstractmethod
    def ports(self) -> frozenset[int]:
        """The interfaces (by ifindex) that carry programs now, whoever put them there."""

    @abstractmethod
    def attach(self, port: HostPort) -> None:
        """Have an interface carry the programs of its kind."""

    @abstractmethod
    def detach(self, index: int) -> None:
        """Take the programs off an interface, which may be gone already."""

    @abstractmethod
    def guard(self, network: int, addresses: Collection[Address]) -> None:
        """Let guests of a network hold, but not announce, exactly these addresses."""

    @abstractmethod
    def guarded(self) -> dict[int, frozenset[Address]]:
        """The addresses that are guarded now, by the network's number."""

    @abstractmethod
    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        """Counters of a pool's members on this host; empty for an unknown pool."""

    @abstractmethod
    def sweep(self) -> None:
        """Forget connections that are over. To be called every few seconds."""

    @abstractmethod
    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """Addresses that the guest behind a tap was seen to use for itself."""

    @abstractmethod
    def events(self) -> dict[str, int]:
        """Counts of packets that were answered, dropped or rewritten, by reason."""

    @abstractmethod
    def settle(self) -> None:
        """All planes and ports are as wanted: remove what earlier versions left."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the kernel's objects; what is attached goes on working."""
