# SPDX-License-Identifier: Apache-2.0
"""Records as the JSON of the responses."""

from collections.abc import Sequence
from typing import Any

from cloudlb.api import conditions
from cloudlb.api.conditions import moment
from cloudlb.db import hosts
from cloudlb.db.records import (
    MemberRecord,
    NetworkRecord,
    PoolRecord,
    RealizationRecord,
    ServingMember,
)
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.model import plain
from cloudlb.model.host import Host
from cloudlb.model.pool import Placement

Json = dict[str, Any]


def network(record: NetworkRecord) -> Json:
    """A network."""
    shown: Json = plain.encode(record.network)
    return shown | _times(record)


def _times(record: NetworkRecord | PoolRecord | MemberRecord) -> Json:
    return {"created_at": moment(record.created_at), "updated_at": moment(record.updated_at)}


def pool(record: PoolRecord, status: Json) -> Json:
    """A pool without its members."""
    shown: Json = plain.encode(record.pool)
    return shown | {"status": status, "removing": record.removing} | _times(record)


def status(
    record: PoolRecord,
    realizations: Sequence[RealizationRecord],
    members: Sequence[ServingMember],
    now: float,
    host_down_time: float,
) -> Json:
    """The three conditions of a pool."""
    return {
        "admin": conditions.admin(record),
        "realized": conditions.realized(realizations, now, host_down_time),
        "health": conditions.health(record, members),
    }


def serving(members: Sequence[MemberRecord]) -> list[ServingMember]:
    """Those that shall serve."""
    return [
        ServingMember(m.member.id, m.member.name, m.health, m.member.weight, m.member.backup)
        for m in members
        if m.member.admin_state_up and not m.removing
    ]


def member(record: MemberRecord) -> Json:
    """A member."""
    place = record.where.placement
    is_remote = record.member.remote is not None
    return {
        **plain.encode(record.member),
        "server": None if is_remote else str(record.member.server),
        "remote": is_remote,
        "server_name": record.server_name,
        "host": place.host or None if place else None,
        "mac": plain.encode(place.mac) if place else None,
        "tap": (place.tap or None) if place else None,
        "addresses": plain.encode(place.addresses) if place else [],
        "placement": _placement(place),
        "placement_reason": record.where.reason,
        "health": record.health.value,
        "health_reason": record.health_reason,
        "source": "static",
        "removing": record.removing,
        **_times(record),
    }


def _placement(place: Placement | None) -> str:
    if place is None or not place.running:
        return "waiting"
    return "remote" if place.is_remote else "hosted"


def host_status(record: RealizationRecord, now: float, host_down_time: float) -> Json:
    """A host's part of a pool."""
    state, reason = conditions.host_state(record, now, host_down_time)
    return {
        "host": record.host,
        "alive": (alive := hosts.is_alive(record.last_seen, now, host_down_time)),
        "announcing": record.announcing and alive,
        "generation": record.generation,
        "observed_generation": record.observed_generation,
        "state": state,
        "reason": reason,
        "since": moment(record.since),
    }


_MEMBER_STATUS = (
    "id",
    "name",
    "server",
    "host",
    "weight",
    "admin_state_up",
    "placement",
    "placement_reason",
    "health",
    "health_reason",
    "removing",
)


def member_status(record: MemberRecord) -> Json:
    """A member as the status tree shows it."""
    whole = member(record)
    return {name: whole[name] for name in _MEMBER_STATUS}


def host(record: Host) -> Json:
    """A host."""
    seen = moment(record.last_seen) if record.last_seen else None
    shown: Json = plain.encode(record)
    return shown | {"last_seen": seen}


def driver(name: str, data_plane: DataPlaneDriver) -> Json:
    """A data-plane driver."""
    able = data_plane.capabilities()
    return {
        "name": name,
        "description": able.description,
        "protocols": sorted(p.value for p in able.protocols),
        "address_families": sorted(able.address_families),
        "schedulers": sorted(s.value for s in able.schedulers),
        "weighted_schedulers": sorted(s.value for s in able.weighted_schedulers),
        "monitors": sorted(m.value for m in able.monitors),
        "persistence": able.persistence,
        "members_direct": able.members_direct,
        "port_translation": able.port_translation,
        "translations": sorted(t.value for t in able.translations),
        "remote_members": able.remote_members is not None,
    }
