# SPDX-License-Identifier: Apache-2.0
"""The API's errors as openstacksdk's exceptions, which do not read problem+json by themselves."""

from http import HTTPStatus
from typing import Any

import requests
from openstack import exceptions

_KINDS: dict[int, type[exceptions.HttpException]] = {
    HTTPStatus.BAD_REQUEST: exceptions.BadRequestException,
    HTTPStatus.FORBIDDEN: exceptions.ForbiddenException,
    HTTPStatus.NOT_FOUND: exceptions.NotFoundException,
    HTTPStatus.CONFLICT: exceptions.ConflictException,
    HTTPStatus.PRECONDITION_FAILED: exceptions.PreconditionFailedException,
}


def check(response: requests.Response) -> None:
    """Raise the exception of a problem document (RFC 9457); other answers pass.

    Its ``message`` is the API's sentence with the fields that it is about.
    """
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        kind = _KINDS.get(response.status_code, exceptions.HttpException)
        raise kind(message=_sentence(response.json()), response=response)


def _sentence(problem: dict[str, Any]) -> str:
    told = str(problem.get("faultstring") or problem.get("detail") or problem.get("title"))
    fields = [f"{e['field']}: {e['message']}" for e in problem.get("errors", ())]
    news = [text for text in fields if text not in told]
    return "\n  ".join([told, *news])
