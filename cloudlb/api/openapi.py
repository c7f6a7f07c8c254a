# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, derived from the routes and the schemas beside their responders.

OpenAPI 3.1 uses JSON Schema 2020-12 as it is, so nothing is translated.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from cloudlb.api.operation import Operation
from cloudlb.schemas.problem import PROBLEM
from cloudlb.schemas.version import VERSION

METHODS = ("get", "post", "put", "patch", "delete")
_PARAMETER = re.compile(r"{(\w+)}")


def operations(resource: object) -> Iterator[tuple[str, Operation]]:
    """Method and contract of each responder of a resource."""
    for method in METHODS:
        responder = getattr(resource, f"on_{method}", None)
        if responder is not None:
            yield method, responder.operation


def document(routes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The document of ``routes``, pairs of path and resource class."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cloudlb",
            "version": VERSION,
            "description": "Decides where traffic goes around virtual machines.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {path: _path(path, resource) for path, resource in routes},
        "components": {
            "schemas": {"Problem": PROBLEM},
            "responses": {
                "Problem": {
                    "description": "What is wrong and what would be right.",
                    "content": {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/Problem"}
                        }
                    },
                }
            },
        },
    }


def _path(path: str, resource: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        method: _operation(path, method, contract) for method, contract in operations(resource)
    }
    names = _PARAMETER.findall(path)
    if names:
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return item


def _operation(path: str, method: str, contract: Operation) -> dict[str, Any]:
    words = [word.strip("{}") for word in path.split("/") if word] or ["root"]
    answers: Mapping[int, Any] = contract.answers
    described: dict[str, Any] = {
        "operationId": "_".join([method, *words]).replace(".", "_"),
        "summary": contract.summary,
        "responses": {
            **{str(status): _response(status, schema) for status, schema in answers.items()},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if contract.query:
        described["parameters"] = [
            {"name": name, "in": "query", "schema": schema}
            for name, schema in contract.query.items()
        ]
    if contract.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": contract.body}},
        }
    return described


def _response(status: int, schema: Any) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return response
