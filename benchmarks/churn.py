# SPDX-License-Identifier: Apache-2.0
"""A random sequence of changes of a pool; pure."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from cloudlb.model.pool import Scheduler

SHARING = tuple(s for s in Scheduler if s.shares_by_weight)
"""The others refuse the weights that the changes set."""


class Kind(Enum):
    """What is changed."""

    ADD = "add"
    REMOVE = "remove"
    WEIGHT = "weight"
    OPEN = "open"
    CLOSE = "close"
    SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Pool:
    """A pool's members by server with their weights, those that are closed, its scheduler."""

    weights: Mapping[str, int]
    closed: frozenset[str] = frozenset()
    scheduler: Scheduler = Scheduler.WEIGHTED_ROUND_ROBIN

    def turns(self) -> list[str]:
        """Servers as often as their weight says, without the closed ones."""
        return [
            server
            for server, weight in sorted(self.weights.items())
            if server not in self.closed
            for _ in range(weight)
        ]


@dataclass(frozen=True)
class Change:
    """One change and the pool after it; ``server`` is empty for a change of the scheduler."""

    kind: Kind
    server: str
    pool: Pool


def changes(
    pool: Pool, survivors: frozenset[str], count: int, rng: random.Random
) -> Iterator[Change]:
    """Changes one after the other; survivors keep their place, though not their weight."""
    everybody = sorted(pool.weights)
    for _ in range(count):
        kind, server = rng.choice(_possible(pool, everybody, survivors))
        pool = _after(pool, kind, server, rng.randint(server in survivors, 8))
        yield Change(kind, server, pool)


def _possible(
    pool: Pool, everybody: list[str], survivors: frozenset[str]
) -> list[tuple[Kind, str]]:
    found = [(Kind.SCHEDULER, "")]
    for server in everybody:
        if server not in pool.weights:
            found.append((Kind.ADD, server))
            continue
        found.append((Kind.WEIGHT, server))
        if server not in survivors:
            found.append((Kind.OPEN if server in pool.closed else Kind.CLOSE, server))
            found.append((Kind.REMOVE, server))
    return found


def _after(pool: Pool, kind: Kind, server: str, weight: int) -> Pool:
    others = {name: each for name, each in pool.weights.items() if name != server}
    match kind:
        case Kind.SCHEDULER:
            rest = [scheduler for scheduler in SHARING if scheduler is not pool.scheduler]
            return replace(pool, scheduler=rest[weight % len(rest)])
        case Kind.ADD:
            return replace(pool, weights=others | {server: 1})
        case Kind.WEIGHT:
            return replace(pool, weights=others | {server: weight})
        case Kind.REMOVE:
            return replace(pool, weights=others, closed=pool.closed - {server})
        case Kind.CLOSE:
            return replace(pool, closed=pool.closed | {server})
        case Kind.OPEN:
            return replace(pool, closed=pool.closed - {server})
