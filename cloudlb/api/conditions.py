# SPDX-License-Identifier: Apache-2.0
"""The three conditions of a pool, derived purely: what was asked, what is there, what probes say.

Nothing of this is stored, so nothing of it can be stale or stuck.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cloudlb.db import hosts
from cloudlb.db.records import PoolRecord, RealizationRecord, ServingMember
from cloudlb.model.fallback import Candidate, Stance, decide
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import RealizationState

Condition = dict[str, str]

_NAMED = 5


def moment(seconds: float) -> str:
    """A time as RFC 3339 text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def admin(record: PoolRecord) -> Condition:
    """What was asked."""
    if record.removing:
        return {"state": "down", "reason": "The pool has been deleted."}
    if not record.pool.admin_state_up:
        return {"state": "down", "reason": "admin_state_up is false: no new connections."}
    return {"state": "up", "reason": ""}


def host_state(record: RealizationRecord, now: float, host_down_time: float) -> tuple[str, str]:
    """State (realized, pending or failing) of a host's part, and the reason."""
    failing = record.state == RealizationState.FAILING.value
    if record.current and failing:
        return "failing", record.reason
    if record.current and record.state == RealizationState.REALIZED.value:
        return "realized", record.reason
    if not hosts.is_alive(record.last_seen, now, host_down_time):
        return "pending", f"its agent is silent since {_last_word(record)}"
    return "pending", f"last tried: {record.reason}" if failing else ""


def _last_word(record: RealizationRecord) -> str:
    return "ever" if record.last_seen is None else moment(record.last_seen)[:19] + "Z"


def realized(records: Sequence[RealizationRecord], now: float, host_down_time: float) -> Condition:
    """Whether every host has the current generation."""
    parts = [(record, *host_state(record, now, host_down_time)) for record in records]
    for state, verb in (("failing", "fails"), ("pending", "pending")):
        found = [(record, reason) for record, it, reason in parts if it == state]
        if found:
            return {"state": state, "reason": _name_hosts(verb, found)}
    if not parts:
        return {"state": "pending", "reason": "No host has a part in it yet."}
    return {"state": "yes", "reason": ""}


def _name_hosts(verb: str, found: Sequence[tuple[RealizationRecord, str]]) -> str:
    words = [
        f"{record.host} {verb} since {moment(record.since)[:19]}Z{': ' + why if why else ''}"
        for record, why in found[:_NAMED]
    ]
    more = len(found) - _NAMED
    return "; ".join(words) + (f"; and {more} more hosts" if more > 0 else "")


def health(record: PoolRecord, members: Sequence[ServingMember]) -> Condition:
    """What probes say of the members that shall serve, and what the pool makes of it."""
    if record.pool.monitor is None:
        return {"state": "unknown", "reason": "The pool has no monitor."}
    if not members:
        return {"state": "offline", "reason": "The pool has no member that is switched on."}
    words = [m.health for m in members]
    reasons = [_others_than_online(members), _fallback(record, members)]
    return {"state": _summary(words), "reason": "; ".join(filter(None, reasons))}


def _summary(words: Sequence[Health]) -> str:
    if Health.ONLINE in words:
        return "online" if set(words) == {Health.ONLINE} else "degraded"
    return "unknown" if set(words) == {Health.UNKNOWN} else "offline"


def _others_than_online(members: Sequence[ServingMember]) -> str:
    found = [f"{m.name} is {m.health.value}" for m in members if m.health is not Health.ONLINE]
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f", and {more} more" if more > 0 else "")


def _fallback(record: PoolRecord, members: Sequence[ServingMember]) -> str:
    """What directors decide of the same members, in words."""
    candidates = [
        Candidate(m.id, m.weight, m.backup, m.health is not Health.OFFLINE) for m in members
    ]
    threshold = record.pool.panic_threshold
    stance, _ = decide(candidates, threshold)
    if stance is Stance.BACKUP:
        return "no other member is alive, so backup members take new connections"
    if stance is Stance.PANIC:
        return (
            f"more than {threshold} % of the members, by weight, are offline: probes are not "
            "believed and all members take new connections"
        )
    return ""
