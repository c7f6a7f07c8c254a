# SPDX-License-Identifier: Apache-2.0
"""``/v1/pools``."""

from collections.abc import Mapping
from typing import Any

from cloudlb.api import merge, pool_writes, stats, validation, views, waiting
from cloudlb.api.environment import Environment
from cloudlb.api.listing import paging, respond
from cloudlb.api.operation import Answer, Call, etag, missing, object_id, operation
from cloudlb.api.pool_spec import spec_of
from cloudlb.api.pool_writes import Reshape, Written
from cloudlb.db import desired, members, pools
from cloudlb.db.records import MemberRecord, PoolRecord, RealizationRecord
from cloudlb.model.errors import Forbidden, Unavailable
from cloudlb.schemas import pool as schema
from cloudlb.schemas.fields import WAIT
from cloudlb.schemas.stats import STATS

_WRITTEN = {200: schema.SHOW, 202: schema.SHOW}
_HEADERS = ("ETag", "Location")


class Pools:
    """The collection."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("List pools", {200: schema.LIST}, "pool:list", query=schema.QUERY)
    def on_get(self, call: Call) -> Answer:
        """A page of the pools that the caller sees."""
        query, now = call.query, self.environment.clock()
        project = query.get("project_id", call.scope)
        if call.scope not in (None, project):
            raise Forbidden(
                f"The pools of other projects are for administrators; leave this out to list "
                f"those of project {call.scope}.",
                field="project_id",
            )
        with self.environment.sessions.read() as session:
            page = pools.page(
                session, paging(call), project, query.get("name"), query.get("network_id")
            )
            ids = [record.pool.id for record in page.items]
            realizations = desired.of_pools(session, ids)
            health = members.health_of_pools(session, ids)

        def view(record: PoolRecord) -> dict[str, Any]:
            key = record.pool.id
            down_time = self.environment.host_down_time
            status = views.status(record, realizations[key], health[key], now, down_time)
            return views.pool(record, status)

        return respond(call, "pools", page, view, lambda record: str(record.pool.id))

    @operation(
        "Create a pool, with members",
        _WRITTEN,
        "pool:create",
        body=schema.CREATE,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_post(self, call: Call) -> Answer:
        """A new pool."""
        spec = call.body["pool"]
        written = self.environment.sessions.write(
            lambda session: pool_writes.create(session, call, spec)
        )
        return _written(call, written)


class OnePool:
    """A pool."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show a pool with its members", {200: schema.SHOW}, "pool:show", headers=("ETag",))
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """The pool."""
        return show(call, 200, *read(call, pool_id))

    @operation(
        "Replace a pool's spec",
        _WRITTEN,
        "pool:update",
        body=schema.REPLACE,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_put(self, call: Call, pool_id: str) -> Answer:
        """The whole spec; what was chosen stays if it is left out, a director while it can."""
        return self._write(call, pool_id, lambda _old: dict(call.body["pool"]))

    @operation(
        "Change a pool (JSON merge patch)",
        _WRITTEN,
        "pool:update",
        body=schema.PATCH,
        query=WAIT,
        headers=_HEADERS,
    )
    def on_patch(self, call: Call, pool_id: str) -> Answer:
        """Only what the patch names."""

        def merged(old: PoolRecord) -> dict[str, Any]:
            patch = call.body["pool"]
            whole = {"pool": merge.patched(spec_of(old.pool), patch)}
            spec: dict[str, Any] = validation.check(schema.REPLACE, whole)["pool"]
            return spec if "directors" in spec else spec | {"directors": None}

        return self._write(call, pool_id, merged)

    @operation(
        "Delete a pool",
        {202: None, 204: None},
        "pool:delete",
        query=WAIT,
        headers=("Location",),
    )
    def on_delete(self, call: Call, pool_id: str) -> Answer:
        """It stays visible until no host has anything of it."""
        key = object_id(pool_id, "pool")
        written = self.environment.sessions.write(
            lambda session: pool_writes.remove(session, call, key)
        )
        self.environment.ring(written.bell, f"pool={key} change=deleted")
        done = waiting.until_pool_gone(call, key)
        return removed(call, done, f"/v1/pools/{key}")

    def _write(self, call: Call, pool_id: str, reshape: Reshape) -> Answer:
        key = object_id(pool_id, "pool")
        written = self.environment.sessions.write(
            lambda session: pool_writes.update(session, call, key, reshape)
        )
        return _written(call, written)


class PoolStatus:
    """How far the hosts are with a pool, and how its members are."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show the status tree of a pool", {200: schema.STATUS}, "pool:show")
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """The tree."""
        record, known, realizations = read(call, pool_id)
        now, down_time = self.environment.clock(), self.environment.host_down_time
        conditions = views.status(record, realizations, views.serving(known), now, down_time)
        body = {
            "pool_id": str(record.pool.id),
            "name": record.pool.name,
            "generation": record.pool.generation,
            "removing": record.removing,
            **conditions,
            "hosts": [views.host_status(r, now, down_time) for r in realizations],
            "members": [views.member_status(m) for m in known],
        }
        return Answer(200, {"status": body})


class PoolStats:
    """What a pool's hosts have counted."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show the counters of a pool", {200: STATS}, "pool:show")
    def on_get(self, call: Call, pool_id: str) -> Answer:
        """Asked of the hosts now; nothing of it is stored."""
        record, known, realizations = read(call, pool_id)
        names = [r.host for r in realizations]
        with waiting.place(self.environment) as is_taken:
            if not is_taken:
                raise Unavailable("Too many requests wait for hosts already; ask again.")
            answers = stats.ask_all(
                self.environment.ask, names, "stats", {"pool_id": str(record.pool.id)}
            )
        return Answer(200, {"stats": stats.combine(record, known, answers)})


def read(
    call: Call, pool_id: str
) -> tuple[PoolRecord, list[MemberRecord], list[RealizationRecord]]:
    """A pool that the caller sees, with its members and realizations."""
    key = object_id(pool_id, "pool")
    with call.environment.sessions.read() as session:
        found = pools.get(session, key, call.scope)
        if found is None:
            raise missing("pool", pool_id)
        call.check_owner(found[0].pool.project_id)
        known = members.of_pools(session, [key])[key]
        return found[0], known, desired.of_pools(session, [key])[key]


def show(
    call: Call,
    status: int,
    record: PoolRecord,
    known: list[MemberRecord],
    realizations: list[RealizationRecord],
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """The pool as a response."""
    now, down_time = call.environment.clock(), call.environment.host_down_time
    conditions = views.status(record, realizations, views.serving(known), now, down_time)
    body = views.pool(record, conditions) | {"members": [views.member(m) for m in known]}
    tags = {"ETag": etag(record.pool.generation)}
    return Answer(status, {"pool": body}, {**(headers or {}), **tags})


def _written(call: Call, written: Written) -> Answer:
    """200 when the hosts have it, else 202 and what is missing."""
    key = written.record.pool.id
    change = f"pool={key} generation={written.record.pool.generation} change=written"
    call.environment.ring(written.bell, change)
    headers = {"Location": call.url(f"/v1/pools/{key}")}
    done = waiting.until_realized(call, key, waiting.goal(written))
    status = waiting.status(written, done)
    if done is None:
        headers |= waiting.RETRY_AFTER
    if call.query.get("wait"):
        return show(call, status, *read(call, str(key)), headers=headers)
    known, realizations = list(written.members), list(written.realizations)
    return show(call, status, written.record, known, realizations, headers=headers)


def removed(call: Call, done: bool | None, path: str) -> Answer:
    """204 when nothing is left, else 202 and where to look."""
    if done:
        return Answer(204)
    headers = {"Location": call.url(path)}
    return Answer(202, None, headers | (waiting.RETRY_AFTER if done is None else {}))
