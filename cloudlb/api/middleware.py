# SPDX-License-Identifier: Apache-2.0
"""What happens to every request: who asks, under which id, by which version."""

from http import HTTPStatus
from ipaddress import ip_address

import falcon

from cloudlb.api.forwarded import PEER
from cloudlb.api.operation import Operation
from cloudlb.api.problems import MEDIA_TYPE
from cloudlb.api.validation import problems
from cloudlb.model.errors import Forbidden, InvalidRequest
from cloudlb.rpc.context import RequestContext
from cloudlb.schemas import problem, version
from cloudlb.schemas.fields import Schema

DEFAULT_PROJECT = "default"
SERVICE = version.SERVICE_TYPE
_IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))


class Identity:
    """Gives every request its context. With ``noauth`` the headers are believed, on loopback.

    oslo.context keeps the context of the thread, from where logs take the request id.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before anything else."""
        context = RequestContext(overwrite=True)
        req.context.request_id = context.request_id
        resp.set_header("x-openstack-request-id", context.request_id)
        resp.set_header("OpenStack-API-Version", f"{SERVICE} {version.VERSION}")
        resp.set_header("Vary", "OpenStack-API-Version")
        _check_loopback(req)
        _check_version(req)
        context.project_id = _header(req, "X-Project-Id") or DEFAULT_PROJECT
        context.user_id = _header(req, "X-User-Id")
        roles = _header(req, "X-Roles") or "admin"
        context.roles = _with_implied({role.strip().lower() for role in roles.split(",")})
        req.context.identity = context


def _header(req: falcon.Request, name: str) -> str | None:
    value = req.get_header(name)
    if value and (len(value) > 255 or not value.isprintable()):
        raise InvalidRequest("must be at most 255 printable characters.", field=name)
    return value


def _check_loopback(req: falcon.Request) -> None:
    """Both the connection and, behind a proxy, the caller that it names must be of this host."""
    caller = req.env.get("REMOTE_ADDR", "")
    if not all(map(_is_loopback, {caller, req.env.get(PEER, caller)})):
        raise Forbidden("Without authentication this service answers only on loopback.")


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _check_version(req: falcon.Request) -> None:
    wanted = (req.get_header("OpenStack-API-Version") or "").split()
    if len(wanted) == 2 and wanted[0] == SERVICE and wanted[1] not in ("latest", version.VERSION):
        raise falcon.HTTPNotAcceptable(
            description=f"OpenStack-API-Version: this service has version {version.VERSION} only."
        )


def _with_implied(roles: set[str]) -> list[str]:
    for role, implied in _IMPLIED:
        if role in roles:
            roles.add(implied)
    return sorted(roles)


class ResponseCheck:
    """Compares every response with its contract; for tests, which fail on `AssertionError`."""

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """After everything else."""
        contract: Operation | None = getattr(req.context, "contract", None)
        status = resp.status_code
        if req.method == "OPTIONS" and status == HTTPStatus.OK:
            return  # falcon's own answer, which is the header Allow and nothing else
        if resp.content_type == MEDIA_TYPE:
            schema: Schema | None = problem.PROBLEM
        elif contract is not None and status in contract.answers:
            schema = contract.answers[status]
            _check_headers(contract, status, resp)
        else:
            raise AssertionError(f"{req.method} {req.path} does not document {status}")
        body = getattr(req.context, "answer", None) if schema is not problem.PROBLEM else None
        if schema is not None and body is not None and (found := problems(schema, body)):
            raise AssertionError(f"{req.method} {req.path} {status}: {found}")


def _check_headers(contract: Operation, status: int, resp: falcon.Response) -> None:
    sent = {name for name in ("ETag", "Location") if resp.get_header(name)}
    if sent != set(contract.headers_of(status)):
        raise AssertionError(f"{contract.summary} {status}: undocumented headers, or less: {sent}")
