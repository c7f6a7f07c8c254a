# SPDX-License-Identifier: Apache-2.0
"""Who asks, for which project, by which request: travels from the API to the agents' logs."""

from collections.abc import Mapping
from typing import Any, Self

from oslo_context import context


class RequestContext(context.RequestContext):
    """oslo.context's request context; exists so that the whole project names one type."""

    @classmethod
    def system(cls) -> Self:
        """The context of work that no request caused."""
        return cls(overwrite=False, is_admin=True)


class ContextSerializer:
    """Carries the request context in messages; bodies are plain JSON data already."""

    def serialize_entity(self, _context: Any, entity: Any) -> Any:
        """Return the entity as it is: callers pass plain data."""
        return entity

    def deserialize_entity(self, _context: Any, entity: Any) -> Any:
        """Return the entity as it is."""
        return entity

    def serialize_context(self, ctxt: RequestContext) -> Mapping[str, Any]:
        """The context as a dict."""
        return ctxt.to_dict()

    def deserialize_context(self, data: Mapping[str, Any]) -> RequestContext:
        """The context from a dict."""
        return RequestContext.from_dict(dict(data))
