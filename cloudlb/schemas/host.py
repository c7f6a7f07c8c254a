# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/hosts``: read only, agents write them."""

from cloudlb.model.host import Role
from cloudlb.schemas.fields import (
    ADDRESS,
    COUNT,
    LABEL,
    MAC,
    PAGING,
    SWITCH,
    TIME_OR_NULL,
    Schema,
    described,
    page,
    record,
    wrapped,
)

_UPLINK = record(
    {
        "network": LABEL,
        "interface": LABEL,
        "mac": MAC,
        "addresses": {"type": "array", "items": ADDRESS},
        "gateways": {"type": "array", "items": ADDRESS},
    }
)

_READ = record(
    {
        "name": LABEL,
        "roles": {
            "type": "array",
            "items": {"type": "string", "enum": [r.value for r in Role]},
        },
        "engine": LABEL,
        "alive": described(SWITCH, "Its agent has spoken within host_down_time."),
        "last_seen": TIME_OR_NULL,
        "generation": described(COUNT, "Counts the changes of what is wanted of the host."),
        "observed_generation": described(
            COUNT,
            "The last one of which the agent has applied everything: it has reported each part "
            "of a pool realized, or failing and why.",
        ),
        "uplinks": {"type": "array", "items": _UPLINK},
        "management": described(
            {**ADDRESS, "type": ["string", "null"]}, "Where other agents reach this one."
        ),
    }
)

SHOW = wrapped("host", _READ)
LIST = page("hosts", _READ)
QUERY: dict[str, Schema] = {**PAGING, "name": LABEL}
