# SPDX-License-Identifier: Apache-2.0
"""Arguments whose types, choices, ranges and help come from the API's schemas."""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cloudlb.schemas.fields import Schema

_NUMBERS: dict[str, Callable[[str], float]] = {"integer": int, "number": float}


def add(parser: Any, flag: str, spec: Mapping[str, Schema], field: str = "", **more: Any) -> None:
    """Add the option that sets ``field``, by default the one that the flag names.

    An option of an array is repeated. ``more`` goes before what the schema says.
    """
    field = field or flag.lstrip("-").replace("-", "_")
    schema = spec[field]
    item = schema.get("items", schema)
    form: dict[str, Any] = {"type": lambda text: read(item, text), "help": _help(schema)}
    if item is not schema:
        form["action"] = "append"
    if "enum" in item and _kind(item) == "string":
        form["choices"] = [each for each in item["enum"] if each is not None]
    else:
        form["metavar"] = f"<{flag.lstrip('-')}>"
    if flag.startswith("-"):
        form["dest"] = field
    parser.add_argument(flag, **form | more)


def add_admin_state(parser: Any) -> None:
    """Add ``--enable`` and ``--disable``."""
    texts = "Let it take connections", "Give it no new connections"
    _add_switch(parser, "admin_state_up", ("--enable", "--disable"), texts)


def add_switch(parser: Any, flag: str, spec: Mapping[str, Schema]) -> None:
    """Add the options that set a field of two values, ``--field`` and ``--no-field``."""
    name = flag.lstrip("-")
    field = name.replace("-", "_")
    _add_switch(parser, field, (flag, f"--no-{name}"), (_help(spec[field]), f"Not --{name}"))


def _add_switch(parser: Any, field: str, flags: Iterable[str], texts: Iterable[str]) -> None:
    group = parser.add_mutually_exclusive_group()
    for flag, text, state in zip(flags, texts, (True, False), strict=True):
        form = {"action": "store_const", "const": state, "help": text}
        group.add_argument(flag, dest=field, **form)


def add_wait(parser: Any, until: str) -> None:
    """Add ``--wait`` and ``--timeout``."""
    parser.add_argument("--wait", action="store_true", help=f"Wait until {until}")
    seconds = {"timeout": {"type": "number", "minimum": 0, "description": "Longest --wait"}}
    add(parser, "--timeout", seconds, metavar="<seconds>", default=60.0)


def given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of the named arguments that the user has given."""
    return {n: v for n in names if (v := getattr(args, n, None)) is not None}


def read(schema: Schema, text: str) -> Any:
    """``text`` as the schema's type; ArgumentTypeError says what would be right.

    An object is written ``key=value,key=value``; the first key may be left out if it is the
    schema's first one. A value whose pattern has commas may have some: ``expected_codes=200,202``.
    A port is written ``tcp:80``.
    """
    kind = _kind(schema)
    if kind == "object":
        fields = schema["properties"]
        return _service(fields, text) if "protocol" in fields else _settings(fields, text)
    if "enum" in schema:
        return _one_of({str(each): each for each in schema["enum"]}, text)
    if kind == "boolean":
        return _one_of({"true": True, "false": False}, text)
    return _number(schema, _NUMBERS[kind], text) if kind in _NUMBERS else text


def _number(schema: Schema, convert: Callable[[str], float], text: str) -> float:
    low, high = schema.get("minimum", "-inf"), schema.get("maximum", "inf")
    try:
        number = convert(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no {_kind(schema)}") from None
    if not float(low) <= number <= float(high):
        scope = f"between {low} and {high}" if "maximum" in schema else f"{low} or more"
        raise argparse.ArgumentTypeError(f"{text} is not {scope}")
    return number


def _service(fields: Mapping[str, Schema], text: str) -> dict[str, Any]:
    protocol, _, port = text.partition(":")
    if not port:
        known = " or ".join(f"{each}:<port>" for each in fields["protocol"]["enum"])
        raise argparse.ArgumentTypeError(f"'{text}' is no port; write {known}")
    return {"protocol": read(fields["protocol"], protocol), "port": read(fields["port"], port)}


def _settings(fields: Mapping[str, Schema], text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    key = ""
    for number, part in enumerate(text.split(",")):
        before, (key, equals, rest) = key, part.partition("=")
        if number == 0 and part and not equals:
            key, rest = next(iter(fields)), part
        elif not equals and _goes_on(fields.get(before, {}), f"{settings.get(before)},{part}"):
            key, rest = before, f"{settings[before]},{part}"
        elif key not in fields or not equals:
            known = ", ".join(f"{name}=…" for name in fields)
            raise argparse.ArgumentTypeError(f"'{part}' is no setting; settings are {known}")
        try:
            settings[key] = read(fields[key], rest)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{key}: {error}") from None
    return settings


def _goes_on(schema: Schema, text: str) -> bool:
    """Whether a comma belongs to a value, as its pattern says."""
    return "pattern" in schema and re.search(schema["pattern"], text) is not None


def _one_of(choices: Mapping[str, Any], text: str) -> Any:
    if text not in choices:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(choices)}")
    return choices[text]


def _kind(schema: Schema) -> str:
    return str(schema["type"][0] if isinstance(schema["type"], list) else schema["type"])


def _help(schema: Schema) -> str:
    parts = [schema.get("description", "").rstrip(".")]
    if "maximum" in schema:
        parts.append(f"{schema['minimum']} to {schema['maximum']}")
    if schema.get("default") not in (None, "", []):
        parts.append(f"default: {schema['default']}")
    if "items" in schema:
        parts.append("repeat for several")
    return "; ".join(part for part in parts if part).replace("%", "%%")
