# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/pools/{pool_id}/flows`` and ``/explain``."""

from cloudlb.model.dataplane import FlowState, Reason
from cloudlb.model.pool import Protocol
from cloudlb.schemas.fields import (
    ADDRESS,
    LABEL,
    PORT,
    RATE,
    UUID,
    Schema,
    described,
    record,
    wrapped,
)

_MEMBER: dict[str, Schema] = {
    "member_id": {**UUID, "type": ["string", "null"]},
    "member_name": {**LABEL, "type": ["string", "null"]},
}
_PROTOCOL: Schema = {"type": "string", "enum": [p.value for p in Protocol]}
_CLIENT: dict[str, Schema] = {
    "client": described(ADDRESS, "The client's address."),
    "client_port": described(PORT, "The client's port."),
    "protocol": described(_PROTOCOL, "Protocol of the pool's port.", default=Protocol.TCP.value),
    "port": described(PORT, "The pool's port."),
}

FLOWS_QUERY: dict[str, Schema] = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 100,
        "description": "Most connections of a director.",
    },
}
FLOWS = {
    "type": "object",
    "properties": {
        "flows": {
            "type": "array",
            "items": record(
                {
                    **_CLIENT,
                    **_MEMBER,
                    "state": {"type": "string", "enum": [state.value for state in FlowState]},
                    "idle": described(RATE, "Seconds since the last packet."),
                    "director": LABEL,
                }
            ),
        },
        "missing": {
            "type": "array",
            "items": LABEL,
            "description": "Directors that did not answer.",
        },
    },
    "required": ["flows", "missing"],
    "additionalProperties": False,
}

EXPLAIN_QUERY: dict[str, Schema] = dict(_CLIENT)
EXPLANATION = wrapped(
    "explanation",
    record(
        {
            "pool_id": UUID,
            "director": described(LABEL, "The host that says so."),
            **_MEMBER,
            "host": described({**LABEL, "type": ["string", "null"]}, "The member's host."),
            "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
            "detail": {"type": "string"},
        }
    ),
)
