# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/pools``."""

from cloudlb.model.dataplane import Mode
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.schemas import member
from cloudlb.schemas.fields import (
    ADDRESS,
    COUNT,
    GENERATION,
    LABEL,
    NAME,
    PAGING,
    PORT,
    PROJECT_ID,
    RATE,
    SWITCH,
    TEXT,
    TIME,
    TIME_OR_NULL,
    UUID,
    Schema,
    body,
    described,
    page,
    patch,
    record,
    wrapped,
)

ADMIN_STATES = ("up", "down")
REALIZED_STATES = ("yes", "pending", "failing")
HEALTH_STATES = ("online", "degraded", "offline", "unknown")
HOST_STATES = ("realized", "pending", "failing")

_SECONDS: Schema = {"type": "number", "minimum": 0.1, "maximum": 3600, "default": 1.0}

SERVICE = body(
    {"protocol": {"type": "string", "enum": [p.value for p in Protocol]}, "port": PORT},
    required=("protocol", "port"),
)

MONITOR: Schema = {
    **body(
        {
            "type": {"type": "string", "enum": [t.value for t in MonitorType]},
            "interval": described(_SECONDS, "Seconds between two probes."),
            "timeout": described(
                _SECONDS, "Seconds within which a probe must be answered; at most the interval."
            ),
            "rise": {"type": "integer", "minimum": 1, "maximum": 100, "default": 2},
            "fall": {
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "default": 3,
                "description": "Misses in a row that take a member out, so within "
                "interval × fall + timeout seconds.",
            },
            "port": {
                **PORT,
                "type": ["integer", "null"],
                "default": None,
                "description": "TCP port to probe, by default the first of the pool; none with "
                "icmp.",
            },
        },
        required=("type",),
    ),
    "type": ["object", "null"],
    "default": None,
    "description": "Probes of the members; null for none.",
}

SPEC: dict[str, Schema] = {
    "network_id": described(UUID, "The network of the address. Fixed at creation."),
    "name": NAME,
    "description": {**TEXT, "default": ""},
    "address": described(
        ADDRESS, "The virtual address; default: the lowest free one. Fixed at creation."
    ),
    "ip_version": {
        "type": "integer",
        "enum": [4, 6],
        "description": "Family of the address to allocate; default: 4 if the network offers it.",
    },
    "ports": {
        "type": "array",
        "items": SERVICE,
        "minItems": 1,
        "maxItems": 64,
        "uniqueItems": True,
    },
    "data_plane": described(
        {**LABEL, "minLength": 1, "default": Mode.DR.value},
        "Name of a driver, see /v1/drivers. Fixed at creation.",
    ),
    "scheduler": {
        "type": "string",
        "enum": [s.value for s in Scheduler],
        "default": Scheduler.ROUND_ROBIN.value,
        "description": "How members are chosen. With round_robin their weights are 0 or 1.",
    },
    "directors": {
        "type": "array",
        "items": {**LABEL, "minLength": 1},
        "maxItems": 1,
        "minItems": 1,
        "description": "The host that receives the address's traffic. Default: the first one by "
        "name that is able to and alive. A PATCH with null chooses so again; a PUT without it "
        "keeps the present one, unless that is silent or unable and another host could.",
    },
    "monitor": MONITOR,
    "drain_timeout": {
        "type": "integer",
        "minimum": 0,
        "maximum": 86400,
        "default": 300,
        "description": "Seconds that a removed member keeps its connections at most.",
    },
    "admin_state_up": {**SWITCH, "default": True},
}

_WRITE = body(SPEC, required=("name", "ports"))
_CREATE = body(
    {
        **SPEC,
        "members": {"type": "array", "items": member.WRITE, "maxItems": member.MAX_BATCH},
    },
    required=("network_id", "name", "ports"),
)


def _condition(states: tuple[str, ...]) -> Schema:
    return record(
        {"state": {"type": "string", "enum": list(states)}, "reason": {"type": "string"}}
    )


CONDITIONS: dict[str, Schema] = {
    "admin": _condition(ADMIN_STATES),
    "realized": _condition(REALIZED_STATES),
    "health": _condition(HEALTH_STATES),
}

_READ_ONE: dict[str, Schema] = {
    "id": UUID,
    "project_id": PROJECT_ID,
    **{name: value for name, value in SPEC.items() if name not in ("ip_version", "directors")},
    "directors": {"type": "array", "items": LABEL},
    "status": record(CONDITIONS),
    "removing": described(SWITCH, "Deleted; shown until no host has anything of it."),
    "generation": GENERATION,
    "created_at": TIME,
    "updated_at": TIME,
}
_READ = record(_READ_ONE)
_READ_WITH_MEMBERS = record({**_READ_ONE, "members": {"type": "array", "items": member.READ}})

CREATE = wrapped("pool", _CREATE)
REPLACE = wrapped("pool", _WRITE)
PATCH = wrapped("pool", patch(_WRITE))
SHOW = wrapped("pool", _READ_WITH_MEMBERS)
LIST = page("pools", _READ)
QUERY: dict[str, Schema] = {**PAGING, "name": LABEL, "project_id": LABEL, "network_id": UUID}

_HOST_STATUS = record(
    {
        "host": LABEL,
        "alive": SWITCH,
        "generation": described(COUNT, "What the host shall know."),
        "observed_generation": described(COUNT, "What it said it knows."),
        "state": {"type": "string", "enum": list(HOST_STATES)},
        "reason": {"type": "string"},
        "since": TIME_OR_NULL,
    }
)
_MEMBER_STATUS = record(
    {
        name: member.READ["properties"][name]
        for name in (
            "id",
            "name",
            "server",
            "host",
            "placement",
            "placement_reason",
            "health",
            "health_reason",
            "removing",
        )
    }
)
STATUS = wrapped(
    "status",
    record(
        {
            "pool_id": UUID,
            "name": NAME,
            "generation": GENERATION,
            "removing": SWITCH,
            **CONDITIONS,
            "hosts": {"type": "array", "items": _HOST_STATUS},
            "members": {"type": "array", "items": _MEMBER_STATUS},
        }
    ),
)

COUNTERS = (
    "connections",
    "active",
    "inactive",
    "packets_in",
    "bytes_in",
    "packets_out",
    "bytes_out",
)
RATES = (
    "connections_per_second",
    "packets_in_per_second",
    "bytes_in_per_second",
    "packets_out_per_second",
    "bytes_out_per_second",
)
_NUMBERS: dict[str, Schema] = {
    **dict.fromkeys(COUNTERS, COUNT),
    **dict.fromkeys(RATES, RATE),
}
STATS = wrapped(
    "stats",
    record(
        {
            "pool_id": UUID,
            **_NUMBERS,
            "members": {
                "type": "array",
                "items": record(
                    {
                        "id": UUID,
                        "name": LABEL,
                        "host": {"type": ["string", "null"]},
                        **_NUMBERS,
                    }
                ),
            },
            "missing": {
                "type": "array",
                "items": LABEL,
                "description": "Hosts that did not answer; their part is not in the sums.",
            },
        }
    ),
)
