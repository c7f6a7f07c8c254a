# SPDX-License-Identifier: Apache-2.0
"""From answers and misses of probes to the health of a member."""

from dataclasses import dataclass, replace

from cloudlb.model.pool import Health, Monitor


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """A member's health and the run of answers or misses that speaks against it."""

    health: Health = Health.UNKNOWN
    hits: int = 0
    misses: int = 0

    def after(self, answered: bool, monitor: Monitor) -> "ProbeRecord":
        """The record after one more probe (L13).

        ``fall`` misses in a row make a member offline, ``rise`` answers bring it back; one that
        was never judged is online at its first answer. Another answer of one that answers
        changes nothing: the same record is returned.
        """
        if answered and self.health is Health.ONLINE and self.hits >= monitor.rise:
            return self
        hits = self.hits + 1 if answered else 0
        misses = 0 if answered else self.misses + 1
        health = self.health
        if not answered and misses >= monitor.fall:
            health = Health.OFFLINE
        elif answered and (health is Health.UNKNOWN or hits >= monitor.rise):
            health = Health.ONLINE
        return replace(self, health=health, hits=hits, misses=misses)


def is_expected(codes: str, status: int) -> bool:
    """Whether a status is among ``codes``, as ``200``, ``200,202`` or ``200-204``."""
    for part in codes.split(","):
        first, _, last = part.partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False
