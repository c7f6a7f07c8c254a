# SPDX-License-Identifier: Apache-2.0
"""The field types that several nouns share, and the ways to combine them into bodies.

Formats that JSON Schema does not know: ``ip-address`` (IPv4 or IPv6 in its canonical or any other
textual form), ``ip-prefix`` (CIDR without host bits), ``mac``. The API checks all of them.
Patterns end in ``$(?!\\n)`` because Python's ``$`` also matches before a last newline.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_PRINTABLE = r"^[^\x00-\x1f\x7f\ud800-\udfff]*$(?!\n)"
_TEXT = r"^[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*$"


def described(schema: Schema, description: str, **more: Any) -> Schema:
    """``schema`` with a description and further keywords."""
    return {**schema, "description": description, **more}


UUID: Schema = {"type": "string", "format": "uuid", "maxLength": 36}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _PRINTABLE}
LABEL: Schema = {"type": "string", "maxLength": 255, "pattern": _PRINTABLE}
TEXT: Schema = {"type": "string", "maxLength": 1024, "pattern": _TEXT}
ADDRESS: Schema = {"type": "string", "format": "ip-address", "maxLength": 45}
PREFIX: Schema = {"type": "string", "format": "ip-prefix", "maxLength": 49}
MAC: Schema = {"type": "string", "format": "mac"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT: Schema = {"type": "integer", "minimum": 0}
RATE: Schema = {"type": "number", "minimum": 0}
SWITCH: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
GENERATION: Schema = described(COUNT, "Counts the changes of the object; its ETag.")
PROJECT_ID = described(LABEL, "The project that owns the object.")


def record(properties: Mapping[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """An object of a response: every property is there, except the ``optional`` ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def body(properties: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """An object of a request: only the ``required`` properties must be there."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def wrapped(key: str, schema: Schema) -> Schema:
    """A body that holds one object under its noun."""
    return {
        "type": "object",
        "properties": {key: schema},
        "required": [key],
        "additionalProperties": False,
    }


def page(key: str, item: Schema) -> Schema:
    """A page of a list: the items, and the link to the next page if there is one."""
    link = record({"rel": {"type": "string", "enum": ["next"]}, "href": {"type": "string"}})
    return {
        "type": "object",
        "properties": {
            key: {"type": "array", "items": item},
            f"{key}_links": {"type": "array", "items": link},
        },
        "required": [key],
        "additionalProperties": False,
    }


def patch(schema: Schema) -> Schema:
    """The merge patch (RFC 7396) of an object: every property may be absent, or null to reset."""
    properties = {name: _nullable(value) for name, value in schema["properties"].items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    inner = patch(schema) if "properties" in schema else dict(schema)
    inner["type"] = [*kinds, *([] if "null" in kinds else ["null"])]
    if "enum" in inner:
        inner["enum"] = [*inner["enum"], None]
    inner.pop("default", None)
    return inner


PAGING: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "description": "Length of the page."},
    "marker": described(LABEL, "The last id (of a host: name) of the page before."),
}
WAIT: Mapping[str, Schema] = {
    "wait": {
        "type": "number",
        "minimum": 0,
        "maximum": 30,
        "description": "Seconds to wait until every host has realized what is written.",
    },
}
