# SPDX-License-Identifier: Apache-2.0
"""The body of every error: RFC 9457 problem details with OpenStack's ``faultstring``."""

from cloudlb.schemas.fields import record

PROBLEM = record(
    {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "faultstring": {"type": "string", "description": "The detail, where older clients look."},
        "request_id": {"type": "string"},
        "code": {"type": "string", "description": "A stable name of the kind of error."},
        "errors": {
            "type": "array",
            "items": record({"field": {"type": "string"}, "message": {"type": "string"}}),
        },
    },
    optional=("errors",),
)
