# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/drivers``: what each data plane can do."""

from cloudlb.model.pool import MonitorType, Protocol, Scheduler, Translation
from cloudlb.schemas.fields import LABEL, SWITCH, Schema, described, page, record


def _some_of(values: list[str] | list[int], kind: str) -> Schema:
    return {"type": "array", "items": {"type": kind, "enum": values}}


_READ = record(
    {
        "name": described(LABEL, "The value of a pool's data_plane."),
        "description": {"type": "string"},
        "protocols": _some_of([p.value for p in Protocol], "string"),
        "address_families": _some_of([4, 6], "integer"),
        "schedulers": _some_of([s.value for s in Scheduler], "string"),
        "weighted_schedulers": described(
            _some_of([s.value for s in Scheduler], "string"),
            "Those that share by weight; with the others a weight is 0 or 1.",
        ),
        "monitors": _some_of([t.value for t in MonitorType], "string"),
        "persistence": described(SWITCH, "Clients may be bound to members."),
        "members_direct": described(
            SWITCH, "The hosts of a pool's members are its directors, and none are named."
        ),
        "port_translation": described(SWITCH, "A member may have a port of its own."),
        "translations": _some_of([t.value for t in Translation], "string"),
        "remote_members": described(SWITCH, "A member may be on a host without an agent."),
    }
)

LIST = page("drivers", _READ)
QUERY: dict[str, Schema] = {}
