# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, derived from the routes and the schemas beside their responders.

OpenAPI 3.1 uses JSON Schema 2020-12 as it is, so nothing is translated.
"""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from cloudlb.api.operation import Operation
from cloudlb.schemas.problem import PROBLEM
from cloudlb.schemas.version import VERSION

_HEADERS: dict[str, Any] = {
    "ETag": {
        "description": "The generation of the object (of a list of members: of the pool).",
        "schema": {"type": "string"},
        "required": True,
    },
    "Location": {
        "description": "Where the object is.",
        "schema": {"type": "string", "format": "uri"},
        "required": True,
    },
    "Retry-After": {
        "description": "Seconds. Sent with 503, and with 202 when ?wait= was not heeded because "
        "too many wait already.",
        "schema": {"type": "integer"},
    },
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags. The request is refused with 412 if the object has another one by now.",
    "schema": {"type": "string"},
}
_PROBLEM = {"$ref": "#/components/responses/Problem"}
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
            "headers": _HEADERS,
            "parameters": {"If-Match": _IF_MATCH},
            "responses": {
                "Problem": {
                    "description": "What is wrong and what would be right.",
                    "headers": {"Retry-After": {"$ref": "#/components/headers/Retry-After"}},
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
    described: dict[str, Any] = {
        "operationId": "_".join([method, *words]).replace(".", "_"),
        "summary": contract.summary,
        "responses": {
            **{str(status): _response(contract, status) for status in contract.answers},
            **{str(status): _PROBLEM for status in _problems(path, method, contract)},
            "default": _PROBLEM,
        },
    }
    if parameters := _parameters(path, method, contract):
        described["parameters"] = parameters
    if contract.body is not None:
        kinds = ["application/json"]
        if method == "patch" and path.endswith("}"):
            kinds.append("application/merge-patch+json")
        described["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": contract.body} for kind in kinds},
        }
    return described


def _parameters(path: str, method: str, contract: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": schema} for name, schema in contract.query.items()
    ]
    if matches(path, method):
        parameters.append({"$ref": "#/components/parameters/If-Match"})
    return parameters


def matches(path: str, method: str) -> bool:
    """Whether an operation heeds If-Match: each that changes an object which is there."""
    return method != "get" and "{" in path


def _problems(path: str, method: str, contract: Operation) -> Iterator[int]:
    """The statuses of the errors that an operation may answer."""
    yield HTTPStatus.BAD_REQUEST
    yield HTTPStatus.FORBIDDEN
    if "{" in path:
        yield HTTPStatus.NOT_FOUND
    yield HTTPStatus.NOT_ACCEPTABLE
    if method != "get":
        yield HTTPStatus.CONFLICT
    if matches(path, method):
        yield HTTPStatus.PRECONDITION_FAILED
    if contract.body is not None:
        yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        yield HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    yield HTTPStatus.SERVICE_UNAVAILABLE


def _response(contract: Operation, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    schema = contract.answers[status]
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    headers = [*contract.headers_of(status)]
    if "wait" in contract.query and status == HTTPStatus.ACCEPTED:
        headers.append("Retry-After")
    if headers:
        response["headers"] = {n: {"$ref": f"#/components/headers/{n}"} for n in headers}
    return response
