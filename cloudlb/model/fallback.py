# SPDX-License-Identifier: Apache-2.0
"""Who takes new connections when members are dead: those alive, the backups, or all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Stance(StrEnum):
    """How a pool meets the loss of members.

    ``normal``: living members take new connections. ``backup``: no other member is alive, living
    backup members take them. ``panic``: so many are dead that probes are not believed.
    """

    NORMAL = "normal"
    BACKUP = "backup"
    PANIC = "panic"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that its owner lets take new connections, and whether it is alive."""

    id: UUID
    weight: int
    backup: bool
    alive: bool


def decide(candidates: Sequence[Candidate], threshold: int) -> tuple[Stance, frozenset[UUID]]:
    """The stance, and the members that take new connections (L13).

    More than ``threshold`` percent of the weight of members that are no backups dead is panic;
    0 knows none. Living backups come before panic where no other member is alive.
    """
    first = [c for c in candidates if not c.backup and c.weight]
    backups = [c for c in candidates if c.backup and c.weight]
    living, spare = (_living(some) for some in (first, backups))
    if not living and spare:
        return Stance.BACKUP, spare
    if threshold and dead_share(first or backups) > threshold:
        return Stance.PANIC, frozenset(c.id for c in first or backups)
    return Stance.NORMAL, living


def dead_share(candidates: Sequence[Candidate]) -> float:
    """The percentage of weight that is dead."""
    whole = sum(c.weight for c in candidates)
    dead = sum(c.weight for c in candidates if not c.alive)
    return 100 * dead / whole if whole else 0.0


def _living(candidates: Sequence[Candidate]) -> frozenset[UUID]:
    return frozenset(c.id for c in candidates if c.alive)
