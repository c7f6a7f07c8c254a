# SPDX-License-Identifier: Apache-2.0
"""The API's reference, from its OpenAPI document and the schemas of its bodies."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from cloudlb.api import openapi
from cloudlb.api.app import ROUTES
from cloudlb.schemas import driver, host, member, network, pool, problem, version
from generated import rst

NOUNS: tuple[ModuleType, ...] = (version, network, pool, member, host, driver, problem)
Schema = dict[str, Any]


def text() -> str:
    """Routes first, then the bodies that they take and answer."""
    names = _names()
    used: dict[str, Schema] = {"problem: problem": problem.PROBLEM}
    parts = [rst.title("Routes", "-")]
    for path, item in openapi.document(ROUTES)["paths"].items():
        parts += [
            _operation(path, method, item[method], names, used)
            for method in openapi.METHODS
            if method in item
        ]
    parts.append(rst.title("Bodies", "-"))
    parts += [_body(name, schema) for name, schema in sorted(used.items())]
    return "\n".join(parts)


def _names() -> list[tuple[str, Schema]]:
    """Every body of ``cloudlb.schemas`` with the words that name it."""
    return [
        (f"{module.__name__.rpartition('.')[2]}: {name.lower().replace('_', ' ')}", schema)
        for module in NOUNS
        for name, schema in vars(module).items()
        if name.isupper() and isinstance(schema, dict) and schema.get("type") == "object"
    ]


def _operation(
    path: str,
    method: str,
    operation: Schema,
    names: list[tuple[str, Schema]],
    used: dict[str, Schema],
) -> str:
    def link(schema: Schema) -> str:
        name = next((n for n, known in names if known == schema), "")
        if not name:
            return "any JSON object"
        used[name] = schema
        return f":ref:`{name} <{_label(name)}>`"

    lines = [rst.title(f"{method.upper()} {path}", "~"), f"{operation['summary']}.", ""]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        lines += [f"Takes {link(schema)}.", ""]
    answers = [
        _answer(status, answer, link)
        for status, answer in operation["responses"].items()
        if "$ref" not in answer
    ]
    lines += [f"Answers {'; '.join(answers)}.", "", *_parameters(operation.get("parameters", []))]
    return "\n".join(lines)


def _answer(status: str, answer: Schema, link: Callable[[Schema], str]) -> str:
    content = answer.get("content", {}).get("application/json")
    body = f" with {link(content['schema'])}" if content else ""
    headers = ", ".join(map(rst.literal, answer.get("headers", {})))
    return f"{status} {answer['description']}{body}" + (f" ({headers})" if headers else "")


def _parameters(given: list[Schema]) -> list[str]:
    query = [p for p in given if "$ref" not in p]
    lines = [f"Heeds {rst.literal('If-Match')}.", ""] if len(query) < len(given) else []
    rows = [(rst.literal(p["name"]), _kind(p["schema"]), _says(p["schema"])) for p in query]
    return [
        *lines,
        *([rst.table(("Query", "Type", "Meaning"), rows, (18, 26, 56))] if rows else []),
    ]


def _label(name: str) -> str:
    return "body-" + name.replace(": ", "-").replace(" ", "-")


def _body(name: str, schema: Schema) -> str:
    rows = [
        (rst.literal(path), _kind(field), "yes" if required else "", _says(field))
        for path, field, required in _fields(schema, "")
    ]
    title = rst.title(name, "~")
    return f".. _{_label(name)}:\n\n{title}\n" + rst.table(
        ("Field", "Type", "Always", "Meaning"), rows, (30, 24, 8, 38)
    )


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Path, schema and whether it must be there of every field, depth first."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in schema.get("required", ())
        inner = field.get("items", {}) if _is(field, "array") else field
        yield from _fields(inner, f"{path}[]." if _is(field, "array") else f"{path}.")


def _kinds(schema: Schema) -> list[str]:
    kind = schema.get("type", "any")
    return kind if isinstance(kind, list) else [kind]


def _is(schema: Schema, kind: str) -> bool:
    return kind in _kinds(schema)


def _kind(schema: Schema) -> str:
    """``integer 1 to 256, or null``, for example."""
    kinds = _kinds(schema)
    words = schema.get("format") or next(k for k in kinds if k != "null")
    if _is(schema, "array"):
        words = f"array of {_kind(schema['items'])}"
    if "enum" in schema:
        words = ", ".join(rst.literal(each) for each in schema["enum"] if each is not None)
    if "minimum" in schema and "maximum" in schema:
        words += f" {schema['minimum']} to {schema['maximum']}"
    return f"{words}, or null" if "null" in kinds else words


def _says(schema: Schema) -> str:
    parts = [rst.escape(schema.get("description", ""))]
    if schema.get("default") not in (None, "", []):
        parts.append(f"Default: {rst.literal(schema['default'])}.")
    return " ".join(part for part in parts if part)
