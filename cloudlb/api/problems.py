# SPDX-License-Identifier: Apache-2.0
"""Every error becomes problem details (RFC 9457) that OpenStack's clients also understand."""

import json
import logging
from http import HTTPStatus
from typing import Any

import falcon

from cloudlb.api.validation import InvalidFields
from cloudlb.model.errors import CloudlbError

LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


def install(app: falcon.App[Any, Any]) -> None:
    """Answer every error of the application with a problem body."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http)
    app.add_error_handler(CloudlbError, _ours)


def _ours(
    req: falcon.Request, resp: falcon.Response, error: CloudlbError, _params: object
) -> None:
    """An error that was raised on purpose; the operator's part only goes to the log."""
    if error.status >= 500:
        LOG.error("request=%s status=%d cause=%s", _id(req), error.status, error.detail)
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        resp.set_header("Retry-After", "1")
    fields = error.fields if isinstance(error, InvalidFields) else []
    if error.field:
        fields = [(error.field, error.message)]
    text = f"{error.field}: {error.message}" if error.field else error.message
    _write(req, resp, error.status, text, error.code, fields)


def _http(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: object
) -> None:
    """An error of the framework: no such route, a method that is not allowed, a bad header."""
    status = error.status_code
    title = falcon.code_to_http_status(status)[4:]
    text = error.description or _TEXTS.get(status, error.title or title)
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    code = title.lower().replace(" ", "-")
    _write(req, resp, status, text.format(method=req.method, path=req.path), code, [])


_TEXTS = {
    404: "There is nothing at {path}; /v1/openapi.json lists what there is.",
    405: "{method} is not allowed at {path}; the Allow header names what is.",
}


def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    LOG.error(
        "request=%s status=500 method=%s path=%s",
        _id(req),
        req.method,
        req.path,
        exc_info=error,
    )
    text = "The service failed; its log tells more under the request id."
    _write(req, resp, 500, text, "internal", [])


def _id(req: falcon.Request) -> str:
    return str(getattr(req.context, "request_id", ""))


def _write(
    req: falcon.Request,
    resp: falcon.Response,
    status: int,
    text: str,
    code: str,
    fields: list[tuple[str, str]],
) -> None:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": falcon.code_to_http_status(status)[4:],
        "status": status,
        "detail": text,
        "faultstring": text,
        "request_id": _id(req),
        "code": code,
    }
    if fields:
        body["errors"] = [{"field": field, "message": message} for field, message in fields]
    resp.status = status
    resp.content_type = MEDIA_TYPE
    resp.data = json.dumps(body).encode()
