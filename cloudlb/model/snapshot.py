# SPDX-License-Identifier: Apache-2.0
"""What is wanted of one host, and what the host reports back."""

from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from cloudlb.model.host import Inventory, Uplink
from cloudlb.model.network import Address, Network
from cloudlb.model.pool import Health, Member, Placement, Pool, remote_placement


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member and where it is; ``removing`` members keep their connections and get no new.

    ``placement`` is that of a server that an agent reports, ``place`` that of any.
    ``removed_for``: the age of the removal in seconds when the snapshot was made. An age, since
    hosts' clocks differ; so all directors end a drain at the same time, restarted ones too.
    """

    member: Member
    placement: Placement | None
    removing: bool = False
    removed_for: float = 0.0

    @property
    def place(self) -> Placement | None:
        """Where it is, also if it is remote; None while nobody knows."""
        remote = self.member.remote
        return self.placement if remote is None else remote_placement(remote)


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as one host must know it; ``removing``: this host shall have nothing of it left.

    ``generation``: the host's at which the pool was last wanted anew of it; 0 where the conductor
    does not tell.
    """

    pool: Pool
    network: Network
    members: tuple[MemberView, ...] = ()
    removing: bool = False
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """An address that a pool has, by the number of its network."""

    network: int
    address: Address


@dataclass(frozen=True, slots=True)
class Peer:
    """A host that others talk with past the control plane, and where these reach it."""

    host: str
    management: Address | None = None
    uplinks: tuple[Uplink, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """What agents sign messages to each other with; ``age``: seconds, when the snapshot was made.

    A key is accepted at once and signed with when every agent has had time to hear of it.
    """

    number: int
    secret: str
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is wanted of ``host`` at a generation; nothing that is absent is wanted.

    ``networks`` are those that the host maps, with or without pools, and ``claims`` the addresses
    of all their pools: the host's guests may hold these, but not announce them. ``peers``, this
    host among them, are for a pool's director the others and the hosts of members, for these the
    directors; ``keys`` are theirs.
    """

    host: str
    generation: int
    pools: tuple[PoolView, ...] = ()
    networks: tuple[Network, ...] = ()
    claims: tuple[Claim, ...] = ()
    peers: tuple[Peer, ...] = ()
    keys: tuple[Key, ...] = ()


def aged(snapshot: Snapshot, seconds: float) -> Snapshot:
    """The snapshot as it would be if it had been made so much later."""

    def later(m: MemberView) -> MemberView:
        return replace(m, removed_for=m.removed_for + seconds) if m.removing else m

    views = (replace(v, members=tuple(map(later, v.members))) for v in snapshot.pools)
    keys = tuple(replace(key, age=key.age + seconds) for key in snapshot.keys)
    return replace(snapshot, pools=tuple(views), keys=keys)


class RealizationState(StrEnum):
    """How far a host is with a pool."""

    REALIZED = "realized"
    FAILING = "failing"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Realization:
    """A host's word on a pool: what it made of the view of ``generation``.

    ``draining`` names removed members that still have connections on this host. ``revision``
    orders the words of one agent, also those on the same generation; 0 says nothing of the order.
    ``announcing``: the host answers for the pool's address.
    """

    pool_id: UUID
    generation: int
    state: RealizationState
    reason: str = ""
    draining: tuple[UUID, ...] = ()
    revision: int = 0
    announcing: bool = False


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What a director's probes say of a member; ``revision`` orders reports of one agent."""

    member_id: UUID
    health: Health
    reason: str
    revision: int


@dataclass(frozen=True, slots=True)
class Report:
    """Facts born at an agent. Empty parts say nothing; a report without parts is a heartbeat.

    ``generation`` is the snapshot that the agent works by.
    """

    generation: int
    realizations: tuple[Realization, ...] = ()
    inventory: Inventory | None = None
    health: tuple[HealthReport, ...] = ()
