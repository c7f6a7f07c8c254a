# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/networks``."""

from cloudlb.schemas.fields import (
    GENERATION,
    LABEL,
    PAGING,
    PREFIX,
    PROJECT_ID,
    TIME,
    UUID,
    Schema,
    body,
    page,
    patch,
    record,
    wrapped,
)

_BLOCKS: Schema = {"type": "array", "items": PREFIX, "maxItems": 64, "uniqueItems": True}

SPEC: dict[str, Schema] = {
    "name": {
        "type": "string",
        "minLength": 1,
        "maxLength": 64,
        "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)",
        "description": "Unique; the name that agents use in [agent] network_mappings.",
    },
    "prefixes": {
        **_BLOCKS,
        "minItems": 1,
        "description": "The address blocks that are in use on this layer-2 domain; none with "
        "loopback, link-local, multicast, unspecified or IPv4-mapped addresses.",
    },
    "vip_range": {
        **_BLOCKS,
        "default": [],
        "description": "The blocks from which pools may claim addresses; each inside a prefix, "
        "and without the addresses of routers that are not a host's default gateway: no agent "
        "reports these.",
    },
}

_WRITE = body(SPEC, required=("name", "prefixes"))
_READ = record(
    {
        "id": UUID,
        "project_id": PROJECT_ID,
        "name": SPEC["name"],
        "number": {
            "type": "integer",
            "minimum": 1,
            "maximum": 4294967295,
            "description": "The network in the keys of the data plane.",
        },
        "prefixes": SPEC["prefixes"],
        "vip_range": SPEC["vip_range"],
        "generation": GENERATION,
        "created_at": TIME,
        "updated_at": TIME,
    }
)

CREATE = wrapped("network", _WRITE)
REPLACE = CREATE
PATCH = wrapped("network", patch(_WRITE))
SHOW = wrapped("network", _READ)
LIST = page("networks", _READ)
QUERY: dict[str, Schema] = {**PAGING, "name": LABEL, "project_id": LABEL}
