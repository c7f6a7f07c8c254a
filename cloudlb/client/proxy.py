# SPDX-License-Identifier: Apache-2.0
"""The API as methods of an openstacksdk proxy: ``connection.traffic_placement``.

Writes take ``wait``, the seconds that the API may hold its answer until every host has realized
what is written (at most `LONGEST_WAIT`); `wait_for_pool` and `wait_for_deletion` wait longer.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import requests
from openstack import exceptions, proxy

from cloudlb.client import problem
from cloudlb.client.resources import (
    Driver,
    Host,
    Member,
    Network,
    Pool,
    PoolExplanation,
    PoolFlow,
    PoolStats,
    PoolStatus,
    _Noun,
)
from cloudlb.schemas.fields import WAIT

N = TypeVar("N", bound=_Noun)

LONGEST_WAIT: float = WAIT["wait"]["maximum"]
_POLL = 1.0


class Unknown(exceptions.NotFoundException):
    """Nothing of the ``noun`` has this name or ID."""

    def __init__(self, noun: str, name_or_id: str) -> None:
        super().__init__(f"There is no {noun} '{name_or_id}'.")
        self.noun = noun


class Proxy(proxy.Proxy):
    """Networks, pools with their members, hosts and drivers.

    A ``find_`` method takes a name or an ID and raises `Unknown` or, for a name that several
    objects have, `exceptions.DuplicateResource`. What is being removed counts only if nothing
    else has the name.
    """

    api_version: ClassVar[str] = "1"

    def request(self, url: str, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        """As in the base class; an error of the API is raised with the API's own words."""
        response = super().request(url, method, *args, **kwargs)
        problem.check(response)
        return response

    def networks(self, **query: Any) -> Iterator[Network]:
        """Networks; ``query`` are filters, ``limit`` and ``marker``."""
        return self._list(Network, **_paged(query))

    def find_network(self, name_or_id: str) -> Network:
        """The network of this name or ID."""
        return self._one(Network, name_or_id)

    def create_network(self, **attrs: Any) -> Network:
        """Create a network."""
        return self._create(Network, **attrs)

    def update_network(self, network: str | Network, **attrs: Any) -> Network:
        """Change attributes of a network."""
        return self._update(Network, network, **attrs)

    def delete_network(self, network: str | Network) -> None:
        """Delete a network that no pool uses."""
        self._delete(Network, network, ignore_missing=False)

    def pools(self, **query: Any) -> Iterator[Pool]:
        """Pools without their members; ``query`` are filters, ``limit`` and ``marker``."""
        return self._list(Pool, **_paged(query))

    def get_pool(self, pool: str | Pool) -> Pool:
        """A pool with its members."""
        return self._get(Pool, pool)

    def find_pool(self, name_or_id: str) -> Pool:
        """The pool of this name or ID, with its members."""
        return self._one(Pool, name_or_id)

    def create_pool(self, wait: float | None = None, **attrs: Any) -> Pool:
        """Create a pool; ``members`` may be nested."""
        return self._written(Pool.new(connection=self._get_connection(), **attrs), wait)

    def update_pool(self, pool: str | Pool, wait: float | None = None, **attrs: Any) -> Pool:
        """Change attributes of a pool; ``monitor`` may name only the settings that change."""
        return self._changed(self._get_resource(Pool, pool, **attrs), wait)

    def delete_pool(self, pool: str | Pool, wait: float | None = None) -> None:
        """Delete a pool with its members."""
        self._get_resource(Pool, pool).delete(self, params=_query(wait))

    def get_pool_status(self, pool: str | Pool) -> PoolStatus:
        """A pool's conditions with what its hosts and members say to them."""
        return self._get(PoolStatus, requires_id=False, pool_id=_id(pool))

    def get_pool_stats(self, pool: str | Pool) -> PoolStats:
        """A pool's counters and rates."""
        return self._get(PoolStats, requires_id=False, pool_id=_id(pool))

    def pool_flows(self, pool: str | Pool, limit: int = 100) -> Iterator[PoolFlow]:
        """Connections that a pool's directors remember, ``limit`` of each at most."""
        return self._list(PoolFlow, paginated=False, pool_id=_id(pool), limit=limit)

    def explain_pool(
        self, pool: str | Pool, client: tuple[str, int], protocol: str, port: int
    ) -> PoolExplanation:
        """The member that the next packet of a client (address, port) goes to, and why."""
        packet: dict[str, Any] = {"client": client[0], "client_port": client[1]}
        packet |= {"protocol": protocol, "port": port}
        found = PoolExplanation.new(connection=self._get_connection(), pool_id=_id(pool))
        return found.fetch(self, requires_id=False, **packet)

    def pool_members(self, pool: str | Pool, **query: Any) -> Iterator[Member]:
        """A pool's members; ``query`` are filters, ``limit`` and ``marker``."""
        return self._list(Member, pool_id=_id(pool), **_paged(query))

    def find_pool_member(self, pool: str | Pool, name_or_id: str) -> Member:
        """The member of this name or ID in a pool."""
        return self._one(Member, name_or_id, pool_id=_id(pool))

    def create_pool_member(
        self, pool: str | Pool, wait: float | None = None, **attrs: Any
    ) -> Member:
        """Add a member: a ``server`` or an ``address``."""
        return self._written(
            Member.new(connection=self._get_connection(), pool_id=_id(pool), **attrs), wait
        )

    def update_pool_member(
        self, member: Member, wait: float | None = None, **attrs: Any
    ) -> Member:
        """Change attributes of a member."""
        return self._changed(self._get_resource(Member, member, **attrs), wait)

    def delete_pool_member(self, member: Member, wait: float | None = None) -> None:
        """Remove a member; it is shown as ``removing`` until its last connection has ended."""
        member.delete(self, params=_query(wait))

    def hosts(self, **query: Any) -> Iterator[Host]:
        """Hosts; ``query`` are filters, ``limit`` and ``marker``."""
        return self._list(Host, **_paged(query))

    def find_host(self, name: str) -> Host:
        """The host of this name."""
        return self._one(Host, name)

    def delete_host(self, host: str | Host) -> None:
        """Declare a silent host gone for good."""
        self._delete(Host, host, ignore_missing=False)

    def drivers(self) -> Iterator[Driver]:
        """The data planes that pools can ask for."""
        return self._list(Driver)

    def wait_for_pool(self, pool: str | Pool, timeout: float) -> Pool:
        """The pool as soon as every host has realized it; ResourceTimeout says what is missing."""

        def missing() -> str:
            condition = self.get_pool(_id(pool)).status["realized"]
            if condition["state"] == "yes":
                return ""
            return f"{condition['state']} ({condition['reason']})".removesuffix(" ()")

        self._until(missing, timeout, "is not realized on every host")
        return self.get_pool(_id(pool))

    def wait_for_deletion(self, deleted: Pool | Member, timeout: float) -> None:
        """Return when the object is gone everywhere; ResourceTimeout if it stays."""

        def missing() -> str:
            try:
                deleted.fetch(self)
            except exceptions.NotFoundException:
                return ""
            if isinstance(deleted, Member):
                return "its last connections may end, for the pool's drain_timeout at the most"
            return "a host still has a part of it"

        self._until(missing, timeout, "is still there")

    def _until(self, missing: Callable[[], str], timeout: float, complaint: str) -> None:
        end = time.monotonic() + timeout
        while reason := missing():
            left = end - time.monotonic()
            if left <= 0:
                raise exceptions.ResourceTimeout(f"{complaint}: {reason}")
            time.sleep(min(_POLL, left))

    def _one(self, kind: type[N], name_or_id: str, **uri: Any) -> N:
        if _is_uuid(name_or_id):
            try:
                return self._get(kind, name_or_id, **uri)
            except exceptions.NotFoundException:
                pass  # a name may look like a UUID
        noun = kind.__name__.lower()
        found = list(self._list(kind, name=name_or_id, **uri))
        found = [each for each in found if not each.get("removing")] or found
        if not found:
            raise Unknown(noun, name_or_id)
        if len(found) > 1:
            ids = ", ".join(each.id for each in found)
            raise exceptions.DuplicateResource(
                f"{len(found)} {noun}s have the name '{name_or_id}'; give one's ID: {ids}"
            )
        return self._get(kind, found[0].id, **uri)

    def _written(self, new: N, wait: float | None) -> N:
        return new.create(self, **_query(wait))

    def _changed(self, changed: N, wait: float | None) -> N:
        return changed.commit(self, params=_query(wait))


def _query(wait: float | None) -> dict[str, Any]:
    return {} if wait is None else {"wait": min(round(wait, 1), LONGEST_WAIT)}


def _paged(query: dict[str, Any]) -> dict[str, Any]:
    """A limit asks for one page; without one the links to further pages are followed."""
    return {**query, "paginated": "limit" not in query}


def _id(pool: str | Pool) -> str:
    return pool.id if isinstance(pool, Pool) else pool


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
