# SPDX-License-Identifier: Apache-2.0
"""Connections of a pool, and where a client's next packet goes: asked of its directors."""

from collections.abc import Sequence
from typing import Any

from cloudlb.api import stats, waiting
from cloudlb.api.environment import Environment
from cloudlb.api.operation import Answer, Call, operation
from cloudlb.api.pools import read
from cloudlb.db.records import MemberRecord
from cloudlb.model.errors import InvalidRequest, Unavailable
from cloudlb.schemas import flow as schema


class PoolFlows:
    """The connections that a pool's directors remember."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation(
        "List connections of a pool",
        {200: schema.FLOWS},
        "pool:show",
        query=schema.FLOWS_QUERY,
    )
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """Asked of the directors now; nothing of it is stored."""
        record, known, _ = read(call, pool_id)
        args = {"pool_id": str(record.pool.id), "limit": call.query.get("limit", 100)}
        answers = _ask(self.environment, record.pool.directors, "flows", args)
        flows = [
            _flow(flow, known) | {"director": host}
            for host, listed in answers.items()
            for flow in listed or ()
        ]
        missing = [host for host, listed in answers.items() if listed is None]
        return Answer(200, {"flows": flows, "missing": missing})


class PoolExplain:
    """The member that a client's next packet goes to, and why."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation(
        "Explain where a packet goes",
        {200: schema.EXPLANATION},
        "pool:show",
        query=schema.EXPLAIN_QUERY,
    )
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """By the pool's first director; nothing is changed by asking."""
        record, known, _ = read(call, pool_id)
        args = {"pool_id": str(record.pool.id), **_packet(call)}
        director = next(iter(record.pool.directors), None)
        if director is None:
            raise Unavailable(
                "No host directs the pool, because none of its members is on a known host. See "
                "the pool's status."
            )
        answer = _ask(self.environment, [director], "explain", args)[director]
        if answer is None:
            raise Unavailable(
                f"The director {director} gives no answer; its agent is down, or has not realized "
                "the pool. See the pool's status."
            )
        member = _member(answer["member_id"], known)
        place = member.where.placement if member else None
        said = {
            "pool_id": str(record.pool.id),
            "director": director,
            **_named(answer["member_id"], known),
            "host": place.host or None if place else None,
            "reason": answer["reason"],
            "detail": answer["detail"],
        }
        return Answer(200, {"explanation": said})


def _ask(
    environment: Environment, hosts: Sequence[str], question: str, args: dict[str, Any]
) -> dict[str, Any]:
    with waiting.place(environment) as is_taken:
        if not is_taken:
            raise Unavailable("Too many requests wait for hosts already; ask again.")
        return stats.ask_all(environment.ask, hosts, question, args)


def _packet(call: Call) -> dict[str, Any]:
    for name in ("client", "client_port", "port"):
        if name not in call.query:
            raise InvalidRequest(
                "A packet has a client, a client_port, a port and a protocol; one is missing.",
                field=name,
            )
    query = call.query
    return {
        "client": query["client"],
        "client_port": query["client_port"],
        "port": {"protocol": query.get("protocol", "tcp"), "port": query["port"]},
    }


def _flow(flow: dict[str, Any], known: Sequence[MemberRecord]) -> dict[str, Any]:
    return {
        "client": flow["client"],
        "client_port": flow["client_port"],
        **flow["port"],
        **_named(flow["member_id"], known),
        "state": flow["state"],
        "idle": flow["idle"],
    }


def _named(member_id: str | None, known: Sequence[MemberRecord]) -> dict[str, Any]:
    member = _member(member_id, known)
    return {"member_id": member_id, "member_name": member.member.name if member else None}


def _member(member_id: str | None, known: Sequence[MemberRecord]) -> MemberRecord | None:
    return next((m for m in known if str(m.member.id) == member_id), None)
