# SPDX-License-Identifier: Apache-2.0
"""``/``, ``/v1``, ``/healthcheck`` and the OpenAPI document."""

from typing import Any

from cloudlb.api.environment import Environment
from cloudlb.api.operation import Answer, Call, operation
from cloudlb.schemas import version as schema
from cloudlb.schemas.version import VERSION

UPDATED = "2026-11-20T00:00:00Z"


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": f"v{VERSION}",
        "status": "CURRENT",
        "version": VERSION,
        "min_version": VERSION,
        "updated": UPDATED,
        "links": [{"rel": "self", "href": call.url("/v1/")}],
    }


class Root:
    """Where clients look for versions."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("List the versions of the API", {300: schema.VERSIONS}, None)
    def on_get(self, call: Call) -> Answer:
        """The one version."""
        return Answer(300, {"versions": [_version(call)]})


class Version:
    """The version 1 of the API."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show the version", {200: schema.SHOW}, None)
    def on_get(self, call: Call) -> Answer:
        """The version."""
        return Answer(200, {"version": _version(call)})


class Health:
    """For load balancers in front of the API: answers if the database does."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Tell whether the API works", {200: schema.HEALTH}, None)
    def on_get(self, _call: Call) -> Answer:
        """Asks the database."""
        self.environment.sessions.ping()
        return Answer(200, {"status": "ok"})


class Document:
    """The OpenAPI document; ``content`` is set when all routes are known."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.content: dict[str, Any] = {}

    @operation("Show this document", {200: {"type": "object"}}, None)
    def on_get(self, _call: Call) -> Answer:
        """The document."""
        return Answer(200, self.content)
