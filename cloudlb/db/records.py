# SPDX-License-Identifier: Apache-2.0
"""What repositories return: model objects with what only the database knows of them.

Times are seconds since the epoch.
"""

from dataclasses import dataclass, field
from uuid import UUID

from cloudlb.model.host import Server
from cloudlb.model.network import Network
from cloudlb.model.pool import Health, Member, Placement, Pool


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network as stored."""

    network: Network
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as stored; ``deleted_at`` is set while hosts still have something of it."""

    pool: Pool
    created_at: float
    updated_at: float
    deleted_at: float | None = None

    @property
    def removing(self) -> bool:
        """Whether it is deleted and waits for its hosts."""
        return self.deleted_at is not None


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server as one host sees it, since when."""

    server: Server
    host: str
    since: float


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a member is; without a placement ``reason`` says why."""

    placement: Placement | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member as stored, with its server as last seen."""

    member: Member
    server_name: str
    health: Health
    health_reason: str
    created_at: float
    updated_at: float
    deleted_at: float | None = None
    where: Whereabouts = field(default=Whereabouts(None))

    @property
    def removing(self) -> bool:
        """Whether it is deleted and keeps its connections for a while."""
        return self.deleted_at is not None


@dataclass(frozen=True, slots=True)
class ServingMember:
    """Of a member that shall serve: what its pool's health depends on."""

    id: UUID
    name: str
    health: Health
    weight: int
    backup: bool


@dataclass(frozen=True, slots=True)
class RealizationRecord:
    """A host's part of a pool; ``last_seen`` is the host's."""

    pool_id: UUID
    host: str
    generation: int
    observed_generation: int
    state: str
    reason: str
    draining: frozenset[UUID]
    since: float
    last_seen: float | None
    announcing: bool = False

    @property
    def current(self) -> bool:
        """Whether the host has spoken of what is wanted now."""
        return self.observed_generation >= self.generation
