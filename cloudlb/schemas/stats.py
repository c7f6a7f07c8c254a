# SPDX-License-Identifier: Apache-2.0
"""The body of a pool's ``stats``."""

from cloudlb.schemas.fields import (
    COUNT,
    LABEL,
    RATE,
    SWITCH,
    UUID,
    Schema,
    described,
    record,
    wrapped,
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
HOST_COUNTERS: dict[str, Schema] = {
    "load": {
        "type": ["number", "null"],
        "description": "How much the host has to do, as [agent] load_weights says; null where no "
        "pool of the host goes by it.",
    },
    "load_limit": {
        "type": ["number", "null"],
        "description": "The load from which on it takes nothing new ([agent] max_load).",
    },
    "served": described(COUNT, "Connections that came by it and went to members of its own."),
    "serving": described(
        COUNT, "Established connections of its own members, whichever host they came by."
    ),
    "passed_on": described(COUNT, "Connections that it gave to members of other hosts."),
    "packets_served": described(COUNT, "Packets that came by it for its own members."),
    "packets_passed_on": described(COUNT, "Packets that it sent on to members of other hosts."),
    "table": described(COUNT, "Connections of the pool in its table, also those it was told of."),
}
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
                        "estimated": described(
                            SWITCH,
                            "A remote member: its connections are known by what its directors "
                            "see of them, and what it answers past them is not counted.",
                        ),
                        **_NUMBERS,
                    }
                ),
            },
            "hosts": {
                "type": "array",
                "items": record({"host": LABEL, **HOST_COUNTERS}),
                "description": "What each director of the pool has counted.",
            },
            "missing": {
                "type": "array",
                "items": LABEL,
                "description": "Hosts that did not answer; their part is not in the sums.",
            },
        }
    ),
)
