# SPDX-License-Identifier: Apache-2.0
"""Checks of JSON data against schemas, in words that name the field."""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

from cloudlb.model.errors import InvalidRequest
from cloudlb.model.ether import Mac
from cloudlb.schemas.fields import Schema

MAX_ERRORS = 10
_SHOWN = 80

FORMATS = FormatChecker(formats=())


class InvalidFields(InvalidRequest):
    """The request contradicts its schema; ``fields`` are pairs of field and message."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in fields))
        self.fields = fields


def _format(name: str, parse: Callable[[str], object]) -> None:
    def is_valid(value: object) -> bool:
        if isinstance(value, str):
            parse(value)
        return True

    FORMATS.checks(name, raises=ValueError)(is_valid)


def _plain_address(text: str) -> None:
    if "%" in text:
        raise ValueError("has a zone")
    ip_address(text)


def _canonical_uuid(text: str) -> None:
    if str(UUID(text)) != text.lower():
        raise ValueError("is not in the usual form")


def _plain_prefix(text: str) -> None:
    if "%" in text:
        raise ValueError("has a zone")
    ip_network(text)


_format("uuid", _canonical_uuid)
_format("ip-address", _plain_address)
_format("ip-prefix", _plain_prefix)
_format("mac", Mac)
_format("date-time", datetime.fromisoformat)


def check(schema: Schema, data: Any) -> Any:
    """``data`` with defaults filled in; raises `InvalidFields` where it is not as the schema says.

    JSON knows one kind of number, so 80.0 is a port as good as 80; it is returned as 80.
    """
    found = [_explain(error) for error, _ in zip(_errors(schema, data), range(MAX_ERRORS))]  # noqa: B905
    if found:
        raise InvalidFields(found)
    return _complete(schema, data)


def problems(schema: Schema, data: Any) -> list[str]:
    """What is wrong with ``data``, for the check of our own responses."""
    return [f"{_path(error.absolute_path)}: {error.message}" for error in _errors(schema, data)]


def _errors(schema: Schema, data: Any) -> Iterable[ValidationError]:
    errors: Iterable[ValidationError] = _validator(_Held(schema)).iter_errors(data)
    return errors


class _Held:
    """Lets a schema, which has no hash, be an argument of a cached function."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.schema is self.schema


def _unique_items(validator: Any, unique: Any, items: Any, schema: Schema) -> Iterable[Any]:
    """Not of a list that is too long anyway: each item would be compared with all others."""
    if isinstance(items, list) and len(items) <= schema["maxItems"]:
        yield from Draft202012Validator.VALIDATORS["uniqueItems"](validator, unique, items, schema)


_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"uniqueItems": _unique_items}
)


@cache
def _validator(held: _Held) -> Any:
    return _Validator(held.schema, format_checker=FORMATS)


def _complete(schema: Schema, data: Any) -> Any:
    if isinstance(data, dict) and "properties" in schema:
        known: Mapping[str, Schema] = schema["properties"]
        defaults = {n: s["default"] for n, s in known.items() if "default" in s and n not in data}
        return {n: _complete(known.get(n, {}), value) for n, value in data.items()} | defaults
    if isinstance(data, list) and "items" in schema:
        return [_complete(schema["items"], item) for item in data]
    if isinstance(data, float) and "integer" in schema.get("type", ()):
        return int(data)
    return data


def _path(parts: Iterable[str | int], last: str = "") -> str:
    path = ""
    for part in [*parts, *([last] if last else [])]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"


def _explain(error: Any) -> tuple[str, str]:
    keyword, limit = error.validator, error.validator_value
    if keyword == "required":  # an error for each, which its message alone names
        missing = next(name for name in limit if error.message.startswith(repr(name)))
        return _path(error.absolute_path, missing), "is required"
    if keyword == "additionalProperties":
        known = error.schema["properties"]
        extra = next(name for name in error.instance if name not in known)
        names = ", ".join(known)
        return _path(error.absolute_path, _short(extra)), f"is not known here; known: {names}"
    return _path(error.absolute_path), _WORDS.get(str(keyword), _other)(error, limit)


def _other(error: Any, _limit: Any) -> str:
    return str(error.message)[:300]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _listed(kinds: Any) -> str:
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


_KINDS = {
    "uuid": "a UUID",
    "ip-address": "an IPv4 or IPv6 address",
    "ip-prefix": "an address block such as 192.0.2.0/24, without host bits",
    "mac": "an Ethernet address",
}

_WORDS: Mapping[str, Callable[[Any, Any], str]] = {
    "type": lambda e, kinds: f"must be {_listed(kinds)}, not {_short(e.instance)}",
    "enum": lambda e, values: (
        f"must be one of {', '.join(map(str, values))}, not {_short(e.instance)}"
    ),
    "minimum": lambda e, limit: f"must be at least {limit}, not {_short(e.instance)}",
    "maximum": lambda e, limit: f"must be at most {limit}, not {_short(e.instance)}",
    "minLength": lambda _e, _limit: "must not be empty",
    "maxLength": lambda _e, limit: f"must have at most {limit} characters",
    "minItems": lambda _e, _limit: "must name at least one",
    "maxItems": lambda _e, limit: f"must have at most {limit} items",
    "uniqueItems": lambda _e, _limit: "must not name anything twice",
    "pattern": lambda e, _limit: f"has characters that are not allowed: {_short(e.instance)}",
    "format": lambda e, name: f"must be {_KINDS.get(name, name)}, not {_short(e.instance)}",
    "minProperties": lambda e, _l: f"must have one of {', '.join(e.schema['properties'])}",
    "maxProperties": lambda e, _l: f"must have only one of {', '.join(e.schema['properties'])}",
}


def parse_query(known: Mapping[str, Schema], given: Mapping[str, Any]) -> dict[str, Any]:
    """Query parameters as their schemas say."""
    for name, value in given.items():
        if name not in known:
            words = f"Known are: {', '.join(known)}." if known else "There are none here."
            raise InvalidRequest(f"There is no such query parameter. {words}", field=_short(name))
        if isinstance(value, list):
            raise InvalidRequest("Give this query parameter once.", field=name)
    data = {name: _number(name, known[name], value) for name, value in given.items()}
    schema = {"type": "object", "properties": dict(known)}
    errors = Draft202012Validator(schema, format_checker=FORMATS).iter_errors(data)
    if found := [_explain(error) for error in errors]:
        raise InvalidFields(found)
    return {name: _canonical(known[name], value) for name, value in data.items()}


def _canonical(schema: Schema, value: Any) -> Any:
    """Identifiers as they are kept, in lower case (RFC 9562, section 4)."""
    return value.lower() if schema.get("format") == "uuid" else value


def _number(name: str, schema: Schema, text: str) -> Any:
    if schema["type"] not in ("integer", "number"):
        return text
    try:
        number = int(text) if schema["type"] == "integer" else float(text)
    except ValueError:
        number = math.nan
    if isinstance(number, float) and not math.isfinite(number):
        raise InvalidRequest(f"must be a {schema['type']}, not {_short(text)!r}.", field=name)
    return number
