# SPDX-License-Identifier: Apache-2.0
"""The contract of an engine: what makes the kernel of a host agree with planes.

Every method may be called again with the same arguments; nothing but what cloudlb made is ever
changed. Methods raise `EngineError` when the kernel refuses. An engine is used by one thread at
a time; the agent holds a lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from cloudlb.model.dataplane import Explanation, Flow, MemberCounters, Plane
from cloudlb.model.eastwest import FlowEntry, Sign
from cloudlb.model.errors import EngineError
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Port


class PortKind(StrEnum):
    """What is behind an interface."""

    UPLINK = "uplink"
    TAP = "tap"


@dataclass(frozen=True, slots=True)
class HostPort:
    """An interface of a network on this host: the uplink, or the tap of a guest.

    ``mac`` is the interface's own address; a tap's differs from its guest's in the first octet.
    ``addresses`` are those that this host has on an uplink, from which it sends tunnels. Its
    packets of known connections may go back in its driver where it is for ``express``.
    """

    index: int
    kind: PortKind
    network: int
    mac: Mac
    addresses: tuple[Address, ...] = ()
    mtu: int = 1500
    express: bool = False

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


@contextmanager
def asking_for(what: str) -> Iterator[None]:
    """Tell what the kernel refuses in the words of the contract."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise EngineError(
            f"The kernel refuses {what}: {error}. The agent tries again; its log has more.",
            f"{what}: {error}",
        ) from error


class Sharer(ABC):
    """Tells connections of pools with several directors, and takes those of other directors.

    One thread uses it; only `adopt` and `conclude` are called under the agent's lock.
    """

    @abstractmethod
    def filenos(self) -> tuple[int, int]:
        """For select: readable when there are news, and signs."""

    @abstractmethod
    def signs(self) -> Iterator[Sign]:
        """What members have done with connections since the last call: guests of this host that
        are watched, and those that this host directs to.
        """

    @abstractmethod
    def conclude(self, signs: Iterable[Sign]) -> None:
        """Connections that are directed here have ended."""

    @abstractmethod
    def news(self) -> Iterator[FlowEntry]:
        """Connections that have begun or changed here since the last call."""

    @abstractmethod
    def all(self, newer_than: float) -> Iterator[FlowEntry]:
        """All connections that had a packet in so many seconds."""

    @abstractmethod
    def adopt(self, entries: Iterable[FlowEntry]) -> None:
        """Take over what is not known better here."""

    @abstractmethod
    def befriend(
        self, router: int, mac: Mac, others: Sequence[Mac], silent: float, seconds: float
    ) -> None:
        """Send packets of connections that are not known here to another director, which has been
        silent for some seconds, for so many more; those excepted that come from any of the
        ``others``, which it is one of.
        """


class Engine(ABC):
    """What the agent drives. ``sharing`` is None where there are no connections to share; an
    engine that does not ``serves_guests`` is for hosts that are directors only.
    """

    sharing: Sharer | None = None
    serves_guests = True

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
        """Have an interface carry the programs of its kind.

        Again with other addresses or another MTU: the programs stay, and know them at once.
        """

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
    def flows(self, pool_id: UUID, limit: int) -> tuple[Flow, ...]:
        """Connections of a pool that this host directs, ``limit`` at most, in no order."""

    @abstractmethod
    def explain(self, pool_id: UUID, client: Address, client_port: int, port: Port) -> Explanation:
        """Where the next packet of a client to a pool's port goes; nothing is changed by asking.

        EngineError when this host does not direct the pool.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Forget connections that are over. To be called every few seconds."""

    @abstractmethod
    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """Addresses that the guest behind a tap was seen to use for itself."""

    @property
    @abstractmethod
    def pins(self) -> Path | None:
        """Where the kernel's maps are, for who elects; None where nobody can elect."""

    @abstractmethod
    def announces(self, router: int) -> bool:
        """Whether this host is the master of a virtual router now; 0 is always this host's."""

    @abstractmethod
    def events(self) -> dict[str, int]:
        """Counts of packets that were answered, dropped or rewritten, by reason."""

    @abstractmethod
    def settle(self) -> None:
        """All planes and ports are as wanted: remove what earlier versions left."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the kernel's objects; what is attached goes on working."""
