# SPDX-License-Identifier: Apache-2.0
"""A responder of the API: what it takes, what it answers and who may call it stand beside it.

`operation` makes a falcon responder of a function from `Call` to `Answer`; the OpenAPI document
is made of the same words.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from uuid import UUID

import falcon

from cloudlb.api import validation
from cloudlb.api.environment import Environment
from cloudlb.model.errors import InvalidRequest, NotFound, StaleGeneration
from cloudlb.rpc.context import RequestContext
from cloudlb.schemas.fields import Schema

MAX_BODY = 1 << 20
MAX_DEPTH = 32
"""Lists and objects in each other; the deepest body that is taken has five."""
_BODY_TYPES = ("application/json", "application/merge-patch+json")


@dataclass(frozen=True, slots=True)
class Operation:
    """The contract of a responder. Without ``rule`` everybody may call it.

    ``headers`` are in every successful answer but 204.
    """

    summary: str
    answers: Mapping[int, Schema | None]
    rule: str | None
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()

    def headers_of(self, status: int) -> tuple[str, ...]:
        """The headers of an answer with this status."""
        return self.headers if status != HTTPStatus.NO_CONTENT else ()


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed its schema, and its policy as far as the caller's project goes.

    A responder that has found the object passes its project to `check_owner`.
    """

    rule: str | None
    context: RequestContext
    environment: Environment
    query: Mapping[str, Any]
    body: Any
    base: str
    path: str
    if_match: str | None

    @property
    def is_admin(self) -> bool:
        """Whether the caller sees and changes objects of all projects."""
        return self.environment.may(self.context, "all_projects")

    @property
    def scope(self) -> str | None:
        """The project whose objects the caller sees; None for all."""
        return None if self.is_admin else str(self.context.project_id)

    def check_owner(self, project_id: str) -> None:
        """Raise `Forbidden` unless the caller may do this to an object of this project."""
        if self.rule is not None:
            self.enforce(self.rule, project_id)

    def enforce(self, rule: str, project_id: str) -> None:
        """Raise `Forbidden` unless the policy ``rule`` allows it for an object of this project."""
        self.environment.enforce(self.context, rule, project_id)

    def check_match(self, generation: int) -> None:
        """If-Match (RFC 9110, 13.1.1): the caller changes only what it has seen."""
        if self.if_match is None or self.if_match.strip() == "*":
            return
        tags = [tag.strip() for tag in self.if_match.split(",")]
        if etag(generation) not in tags:
            raise StaleGeneration(
                f"The object has generation {generation} by now; read it again, then repeat.",
                field="If-Match",
            )

    def url(self, path: str) -> str:
        """The absolute URL of a path of this API."""
        return self.base + path


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer; without a body nothing but the status is sent."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def etag(generation: int) -> str:
    """The strong entity tag of a generation."""
    return f'"{generation}"'


def object_id(text: str, noun: str) -> UUID:
    """The id in a path. What is no UUID names no object."""
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text.lower():
        raise missing(noun, text)
    return value


def missing(noun: str, key: object) -> NotFound:
    """There is no such object for this caller."""
    shown = str(key)[:80].encode("ascii", "backslashreplace").decode()
    return NotFound(f"There is no {noun} {shown}.", field=f"{noun}_id")


def operation(
    summary: str,
    answers: Mapping[int, Schema | None],
    rule: str | None,
    body: Schema | None = None,
    query: Mapping[str, Schema] | None = None,
    headers: tuple[str, ...] = (),
) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Declare a responder."""
    contract = Operation(summary, answers, rule, body, query or {}, headers)

    def decorate(function: Callable[..., Answer]) -> Callable[..., None]:
        @functools.wraps(function)
        def respond(self: Any, req: falcon.Request, resp: falcon.Response, **ids: str) -> None:
            req.context.contract = contract
            call = _call(contract, self.environment, req)
            _answer(req, resp, function(self, call, **ids))

        respond.operation = contract  # type: ignore[attr-defined]
        return respond

    return decorate


def _call(contract: Operation, environment: Environment, req: falcon.Request) -> Call:
    context: RequestContext = req.context.identity
    if contract.rule is not None:
        environment.enforce(context, contract.rule)
    query = validation.parse_query(contract.query, req.params)
    body = None
    if contract.body is not None:
        body = validation.check(contract.body, _read(req))
    return Call(
        rule=contract.rule,
        context=context,
        environment=environment,
        query=query,
        body=body,
        base=req.prefix,
        path=req.path,
        if_match=req.get_header("If-Match"),
    )


def _read(req: falcon.Request) -> Any:
    """The JSON body. Python would also read NaN and Infinity, which JSON does not have."""
    kind = (req.content_type or "").split(";")[0].strip().lower()
    if kind not in _BODY_TYPES:
        raise falcon.HTTPUnsupportedMediaType(
            description="Content-Type: the body must be application/json."
        )
    data = req.bounded_stream.read(MAX_BODY + 1)
    if len(data) > MAX_BODY or (req.content_length or 0) > MAX_BODY:
        raise falcon.HTTPContentTooLarge(description=f"The body is longer than {MAX_BODY} bytes.")
    try:
        found = json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON: {error}.", field="body") from None
    if _depth_exceeds(MAX_DEPTH, found):
        raise _too_deep()
    return found


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested more than {MAX_DEPTH} deep.", field="body")


def _depth_exceeds(limit: int, data: Any) -> bool:
    """Whether lists and objects stand in each other more than so many times."""
    level = [data]
    for _ in range(limit + 1):
        nested = [each for each in level if isinstance(each, dict | list)]
        if not nested:
            return False
        level = [i for each in nested for i in (each.values() if isinstance(each, dict) else each)]
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _answer(req: falcon.Request, resp: falcon.Response, answer: Answer) -> None:
    resp.status = answer.status
    for name, value in answer.headers.items():
        resp.set_header(name, value)
    if answer.body is not None:
        req.context.answer = answer.body
        resp.content_type = falcon.MEDIA_JSON
        resp.data = json.dumps(answer.body).encode()
