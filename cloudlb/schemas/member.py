# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/pools/{pool_id}/members``."""

from cloudlb.model.pool import Health
from cloudlb.schemas.fields import (
    ADDRESS,
    GENERATION,
    LABEL,
    PAGING,
    PORT,
    PROJECT_ID,
    SWITCH,
    TIME,
    UUID,
    Schema,
    body,
    described,
    page,
    patch,
    record,
    wrapped,
)

MAX_BATCH = 1000
PLACEMENTS = ("hosted", "waiting", "remote")
SOURCES = ("static",)

SPEC: dict[str, Schema] = {
    "server": described(
        {**LABEL, "minLength": 1},
        "Name or UUID of a libvirt domain on a host whose agent runs. Fixed at creation.",
    ),
    "address": described(
        ADDRESS,
        "Instead of server: an address that one server holds in the pool's network; of a remote "
        "server its own. Fixed at creation.",
    ),
    "remote": described(
        SWITCH,
        "The address is of a server on no host with an agent, where the data plane allows that. "
        "Fixed at creation.",
    ),
    "prepared": described(
        SWITCH,
        "A remote server is ready for the data planes dr and tun: has the pool's address without "
        "announcing it, and unpacks tunnels. For nat it need not be.",
        default=False,
    ),
    "name": described(LABEL, "Default: the server's name."),
    "port": {
        **PORT,
        "type": ["integer", "null"],
        "default": None,
        "description": "The member's own port, where the data plane translates.",
    },
    "weight": {
        "type": "integer",
        "minimum": 0,
        "maximum": 256,
        "default": 1,
        "description": "Share of the clients; 0 takes no new connections. The scheduler "
        "round_robin knows no other weights than 0 and 1.",
    },
    "backup": described(
        SWITCH,
        "Takes new connections only while no other member is alive.",
        default=False,
    ),
    "admin_state_up": {**SWITCH, "default": True},
}

WRITE = body(SPEC)
_PATCH = patch(WRITE)
_LIST_BODY: Schema = {"type": "array", "items": WRITE, "maxItems": MAX_BATCH}

READ = record(
    {
        "id": UUID,
        "project_id": PROJECT_ID,
        "pool_id": UUID,
        "server": described(
            {**UUID, "type": ["string", "null"]}, "UUID of the libvirt domain; none if remote."
        ),
        "remote": SWITCH,
        "prepared": SWITCH,
        "server_name": LABEL,
        "name": SPEC["name"],
        "port": SPEC["port"],
        "weight": SPEC["weight"],
        "backup": SWITCH,
        "admin_state_up": SWITCH,
        "host": described({"type": ["string", "null"]}, "Where the server is, as last seen."),
        "mac": {"type": ["string", "null"], "format": "mac"},
        "tap": {"type": ["string", "null"]},
        "addresses": {"type": "array", "items": ADDRESS},
        "placement": {"type": "string", "enum": list(PLACEMENTS)},
        "placement_reason": described({"type": "string"}, "Why the member waits."),
        "health": {"type": "string", "enum": [h.value for h in Health]},
        "health_reason": {"type": "string"},
        "source": {"type": "string", "enum": list(SOURCES)},
        "removing": described(SWITCH, "Deleted; shown until its last connection has ended."),
        "generation": GENERATION,
        "created_at": TIME,
        "updated_at": TIME,
    }
)

ONE = wrapped("member", WRITE)
MANY = wrapped("members", _LIST_BODY)
CREATE: Schema = {
    "type": "object",
    "properties": {"member": WRITE, "members": {**_LIST_BODY, "minItems": 1}},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
CREATED: Schema = {
    "type": "object",
    "properties": {"member": READ, "members": {"type": "array", "items": READ}},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
REPLACE = ONE
PATCH = wrapped("member", _PATCH)
REPLACE_ALL = MANY
PATCH_ALL = wrapped("members", {"type": "array", "items": _PATCH, "maxItems": MAX_BATCH})
MANY_SHOWN = wrapped("members", {"type": "array", "items": READ})
SHOW = wrapped("member", READ)
LIST = page("members", READ)
QUERY: dict[str, Schema] = {**PAGING, "name": LABEL}
