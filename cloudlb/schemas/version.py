# SPDX-License-Identifier: Apache-2.0
"""Bodies of the discovery documents at ``/`` and ``/v1``, and of ``/healthcheck``."""

from cloudlb.schemas.fields import TIME, record, wrapped

SERVICE_TYPE = "traffic-placement"
VERSION = "1.0"

_LINK = record({"rel": {"type": "string"}, "href": {"type": "string"}})
_VERSION = record(
    {
        "id": {"type": "string"},
        "status": {"type": "string", "enum": ["CURRENT"]},
        "version": {"type": "string"},
        "min_version": {"type": "string"},
        "updated": TIME,
        "links": {"type": "array", "items": _LINK},
    }
)

VERSIONS = wrapped("versions", {"type": "array", "items": _VERSION})
SHOW = wrapped("version", _VERSION)
HEALTH = record({"status": {"type": "string", "enum": ["ok"]}})
