# SPDX-License-Identifier: Apache-2.0
"""``/v1/hosts``: what agents said of their hosts."""

from dataclasses import replace

from cloudlb.api import views
from cloudlb.api.environment import Environment
from cloudlb.api.listing import paging, respond
from cloudlb.api.operation import Answer, Call, etag, missing, operation
from cloudlb.db import applied, desired, forget, hosts
from cloudlb.db.session import Session
from cloudlb.model.errors import Conflict
from cloudlb.model.host import Host
from cloudlb.schemas import host as schema


class Hosts:
    """The collection."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("List hosts", {200: schema.LIST}, "host:list", query=schema.QUERY)
    def on_get(self, call: Call) -> Answer:
        """A page of hosts by name."""
        environment = self.environment
        with environment.sessions.read() as session:
            page = hosts.page(
                session,
                paging(call),
                call.query.get("name"),
                environment.clock(),
                environment.host_down_time,
            )
            page = replace(page, items=tuple(applied.as_applied(session, page.items)))
        return respond(call, "hosts", page, views.host, lambda host: host.name)


class OneHost:
    """A host."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show a host", {200: schema.SHOW}, "host:show", headers=("ETag",))
    def on_get(self, call: Call, name: str) -> Answer:
        """The host."""
        with self.environment.sessions.read() as session:
            (host,) = applied.as_applied(session, [self._find(session, name)])
        return Answer(200, {"host": views.host(host)}, {"ETag": etag(host.generation)})

    @operation("Declare a silent host gone", {204: None}, "host:delete")
    def on_delete(self, call: Call, name: str) -> Answer:
        """Forget the host and free the addresses that were kept because of it."""
        now = self.environment.clock()

        def work(session: Session) -> desired.Bell:
            host = self._find(session, name)
            call.check_match(host.generation)
            if host.alive:
                raise Conflict(
                    f"The agent of host {name} is alive. Stop it, and declare the host gone when "
                    f"it has been silent for {self.environment.host_down_time:.0f} seconds."
                )
            if directed := hosts.pools_directed_by(session, name):
                raise Conflict(
                    f"Host {name} is the director of {', '.join(sorted(directed)[:5])}; give "
                    "these pools another director, or delete them."
                )
            return forget.forget_host(session, name, now)

        bell = self.environment.sessions.write(work)
        self.environment.ring(bell, f"host={name} change=forgotten")
        return Answer(204)

    def _find(self, session: Session, name: str) -> Host:
        environment = self.environment
        is_name = name.isprintable() and len(name) <= 255
        host = (
            hosts.get(session, name, environment.clock(), environment.host_down_time)
            if is_name
            else None
        )
        if host is None:
            raise missing("host", name)
        return host
