# SPDX-License-Identifier: Apache-2.0
"""``/v1/pools/{pool_id}/members``."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloudlb.api import merge, pool_writes, validation, views, waiting
from cloudlb.api.environment import Environment
from cloudlb.api.listing import paging, respond
from cloudlb.api.membership import Membership, Outcome, check_same_server, spec_of
from cloudlb.api.operation import Answer, Call, etag, missing, object_id, operation
from cloudlb.api.pool_writes import Change, Written, member_of, wanted
from cloudlb.api.pools import removed
from cloudlb.api.references import Wanted
from cloudlb.db import members, pools
from cloudlb.db.records import MemberRecord
from cloudlb.db.session import Session
from cloudlb.model.errors import InvalidRequest
from cloudlb.schemas import member as schema
from cloudlb.schemas.fields import WAIT

_ALL = {200: schema.MANY_SHOWN, 202: schema.MANY_SHOWN}
_HEADERS = ("ETag", "Location")
_ONE = {200: schema.SHOW, 202: schema.SHOW}


class Members:
    """The members of a pool."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation(
        "List members",
        {200: schema.LIST},
        "member:list",
        query=schema.QUERY,
        headers=("ETag",),
    )
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """A page of members; the ETag is the pool's."""
        key = object_id(pool_id, "pool")
        with self.environment.sessions.read() as session:
            found = pools.get(session, key, call.scope)
            if found is None:
                raise missing("pool", pool_id)
            call.check_owner(found[0].pool.project_id)
            page = members.page(session, key, paging(call), call.query.get("name"))
        if page is None:
            raise InvalidRequest("This pool has no such member.", field="marker")
        answer = respond(call, "members", page, views.member, lambda m: str(m.member.id))
        return Answer(200, answer.body, {"ETag": etag(found[0].pool.generation)})

    @operation(
        "Add one member, or several",
        {200: schema.CREATED, 202: schema.CREATED},
        "member:create",
        body=schema.CREATE,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_post(self, call: Call, pool_id: str) -> Answer:
        """The added members."""
        if "member" in call.body:
            one = Wanted("member", call.body["member"])
            written = self._write(call, pool_id, lambda m: m.add([one]))
            return _show_one(call, written)
        many = wanted(call.body["members"], "members")
        written = self._write(call, pool_id, lambda m: m.add(many))
        return _show_all(call, written, written.named)

    @operation(
        "Replace all members",
        _ALL,
        "member:replace",
        body=schema.REPLACE_ALL,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_put(self, call: Call, pool_id: str) -> Answer:
        """All members, also those that are removed by it."""
        many = wanted(call.body["members"], "members")
        written = self._write(call, pool_id, lambda m: m.replace(many))
        return _show_all(call, written, written.members)

    @operation(
        "Change several members, add those that are new",
        _ALL,
        "member:update",
        body=schema.PATCH_ALL,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_patch(self, call: Call, pool_id: str) -> Answer:
        """The members that the request names."""
        specs = [_without_nulls(spec) for spec in call.body["members"]]
        many = wanted(specs, "members")
        written = self._write(call, pool_id, lambda m: m.update(many))
        return _show_all(call, written, written.named)

    def _write(self, call: Call, pool_id: str, change: Change) -> Written:
        key = object_id(pool_id, "pool")

        def checked(membership: Membership) -> Outcome:
            call.check_match(membership.pool.generation)
            return change(membership)

        return _write(call, lambda s: pool_writes.change_members(s, call, key, checked))


class OneMember:
    """A member."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show a member", {200: schema.SHOW}, "member:show", headers=("ETag",))
    def on_get(self, call: Call, pool_id: str, member_id: str) -> Answer:
        """The member."""
        key = object_id(pool_id, "pool")
        with self.environment.sessions.read() as session:
            found = pools.get(session, key, call.scope)
            if found is None:
                raise missing("pool", pool_id)
            call.check_owner(found[0].pool.project_id)
            record = member_of(session, key, object_id(member_id, "member"))
        return _show(200, record)

    @operation(
        "Replace a member's spec",
        _ONE,
        "member:update",
        body=schema.REPLACE,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_put(self, call: Call, pool_id: str, member_id: str) -> Answer:
        """The whole spec, without its server, which is fixed."""
        return self._write(call, pool_id, member_id, lambda _old: call.body["member"])

    @operation(
        "Change a member (JSON merge patch)",
        _ONE,
        "member:update",
        body=schema.PATCH,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_patch(self, call: Call, pool_id: str, member_id: str) -> Answer:
        """Only what the patch names."""

        def merged(old: MemberRecord) -> Mapping[str, Any]:
            whole = {"member": merge.patched(spec_of(old), call.body["member"])}
            return validation.check(schema.REPLACE, whole)["member"]  # type: ignore[no-any-return]

        return self._write(call, pool_id, member_id, merged)

    @operation(
        "Remove a member",
        {202: None, 204: None},
        "member:delete",
        query=WAIT,
        headers=("Location",),
    )
    def on_delete(self, call: Call, pool_id: str, member_id: str) -> Answer:
        """It stays visible until its last connection has ended."""
        key, member_key = object_id(pool_id, "pool"), object_id(member_id, "member")

        def work(session: Session) -> Written:
            def change(membership: Membership) -> Outcome:
                record = membership.find(member_key)
                call.check_match(record.member.generation)
                return membership.remove_one(record)

            return pool_writes.change_members(session, call, key, change)

        _write(call, work)
        done = waiting.until_member_gone(call, member_key)
        return removed(call, done, f"/v1/pools/{key}/members/{member_key}")

    def _write(self, call: Call, pool_id: str, member_id: str, spec_from: Any) -> Answer:
        key, member_key = object_id(pool_id, "pool"), object_id(member_id, "member")

        def change(membership: Membership) -> Outcome:
            record = membership.find(member_key)
            call.check_match(record.member.generation)
            spec = spec_from(record)
            check_same_server(record, spec)
            return membership.write_one(record, spec)

        written = _write(call, lambda s: pool_writes.change_members(s, call, key, change))
        return _show_one(call, written)


def _without_nulls(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Null as a reference names nothing."""
    return {n: v for n, v in spec.items() if v is not None or n not in ("server", "address")}


def _write(call: Call, work: Any) -> Written:
    written: Written = call.environment.sessions.write(work)
    pool = written.record.pool
    change = f"pool={pool.id} generation={pool.generation} change=members"
    call.environment.ring(written.bell, change)
    return written


def _finish(call: Call, written: Written) -> tuple[int, dict[str, str]]:
    """Status and headers after the hosts were waited for."""
    key = written.record.pool.id
    done = waiting.until_realized(call, key, waiting.goal(written))
    headers = {"Location": call.url(f"/v1/pools/{key}/members")}
    if done is None:
        headers |= waiting.RETRY_AFTER
    return waiting.status(written, done), headers


def _show_one(call: Call, written: Written) -> Answer:
    status, headers = _finish(call, written)
    record = written.named[0]
    headers["Location"] += f"/{record.member.id}"
    return _show(status, record, headers)


def _show(status: int, record: MemberRecord, headers: Mapping[str, str] | None = None) -> Answer:
    tags = {"ETag": etag(record.member.generation)}
    return Answer(status, {"member": views.member(record)}, {**(headers or {}), **tags})


def _show_all(call: Call, written: Written, shown: Sequence[MemberRecord]) -> Answer:
    status, headers = _finish(call, written)
    headers["ETag"] = etag(written.record.pool.generation)
    return Answer(status, {"members": [views.member(m) for m in shown]}, headers)
