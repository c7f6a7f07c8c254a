# SPDX-License-Identifier: Apache-2.0
"""Which host takes new connections where all of them direct: by their loads (D5); pure.

Source: master's thesis, ch. 4 (DPR with state).
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from uuid import UUID

from cloudlb.model.dataplane import Plane

PERIOD = 1.0
"""Seconds between two words of a host on its load."""
SILENCE = 3 * PERIOD
"""A host that was not heard for so long is dead."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much a host has to do, and from which ``limit`` on it takes nothing new (MaxLoad)."""

    value: float
    limit: float

    @property
    def has_room(self) -> bool:
        """Whether the host is below its threshold."""
        return self.value < self.limit


@dataclass(frozen=True, slots=True)
class Measures:
    """What a host's load is made of, or the weights of these.

    ``connections`` are open ones of members here, ``passed_on`` those that were given to other
    hosts in the last period; ``cpu`` is in percent, ``sockets`` are the host's own TCP sockets.
    """

    connections: float = 0.0
    cpu: float = 0.0
    passed_on: float = 0.0
    sockets: float = 0.0

    def weighed(self, weights: "Measures") -> float:
        """Their sum by weights."""
        return (
            self.connections * weights.connections
            + self.cpu * weights.cpu
            + self.passed_on * weights.passed_on
            + self.sockets * weights.sockets
        )


def bearer(host: str, loads: Mapping[str, Load], serving: Set[str]) -> str:
    """The host that takes what comes to ``host``, which is itself while it has room.

    Else the least loaded one that has; where none has, itself. Hosts without a load are dead, and
    those that are not ``serving`` have no member that takes connections.
    """
    known = {name: loads[name] for name in sorted(serving & loads.keys())}
    if host in known and known[host].has_room:
        return host
    able = {name: load for name, load in known.items() if load.has_room}
    if host in known and not able:
        return host
    found = able or known
    return min(found, key=lambda name: found[name].value, default=host)


def borne(plane: Plane, homes: Mapping[UUID, str], host: str, loads: Mapping[str, Load]) -> Plane:
    """The plane of ``host`` with new connections for the members of one host only.

    ``homes`` are the members' hosts. A member that gets none has no weight, and is not idle: a SYN
    that comes again finds it. Nobody is left out as long as no load is known.
    """
    frontend = plane.frontend
    if frontend is None or not frontend.keeps_unknown or host not in loads:
        return plane
    serving = {homes[b.member_id] for b in frontend.backends if b.eligible}
    taking = bearer(host, loads, serving)
    if taking not in serving:
        return plane
    backends = tuple(
        b if homes[b.member_id] == taking else replace(b, weight=0) for b in frontend.backends
    )
    return replace(plane, frontend=replace(frontend, backends=backends))
