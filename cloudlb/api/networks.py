# SPDX-License-Identifier: Apache-2.0
"""``/v1/networks``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

from cloudlb.api import merge, validation, views
from cloudlb.api.environment import Environment
from cloudlb.api.listing import paging, respond
from cloudlb.api.operation import Answer, Call, etag, missing, object_id, operation
from cloudlb.db import desired, networks
from cloudlb.db.records import NetworkRecord
from cloudlb.db.session import Session
from cloudlb.model import plain
from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.network import Network, Prefix, unserved
from cloudlb.schemas import network as schema


class Networks:
    """The collection."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("List networks", {200: schema.LIST}, "network:list", query=schema.QUERY)
    def on_get(self, call: Call) -> Answer:
        """A page of networks."""
        query = call.query
        with self.environment.sessions.read() as session:
            page = networks.page(session, paging(call), query.get("name"), query.get("project_id"))
        return respond(call, "networks", page, views.network, lambda r: str(r.network.id))

    @operation(
        "Create a network",
        {201: schema.SHOW},
        "network:create",
        body=schema.CREATE,
        headers=("ETag", "Location"),
    )
    def on_post(self, call: Call) -> Answer:
        """A new network, with a number that none had before."""
        spec = call.body["network"]
        now = self.environment.clock()

        def work(session: Session) -> tuple[NetworkRecord, desired.Bell]:
            if networks.get_by_name(session, spec["name"]) is not None:
                raise _name_taken(spec["name"])
            network = _build(
                spec,
                id=uuid4(),
                project_id=str(call.context.project_id),
                number=networks.next_number(session),
            )
            record = networks.add(session, network, now)
            return record, desired.announce_network(session, network.id, network.name, now)

        record, bell = self.environment.sessions.write(work)
        self.environment.ring(bell, f"network={record.network.id} change=created")
        headers = {"Location": call.url(f"/v1/networks/{record.network.id}")}
        return _show(201, record, headers)


class OneNetwork:
    """A network."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("Show a network", {200: schema.SHOW}, "network:show", headers=("ETag",))
    def on_get(self, call: Call, network_id: str) -> Answer:
        """The network."""
        with self.environment.sessions.read() as session:
            record = networks.get(session, object_id(network_id, "network"))
        if record is None:
            raise missing("network", network_id)
        call.check_owner(record.network.project_id)
        return _show(200, record)

    @operation(
        "Replace a network's spec",
        {200: schema.SHOW},
        "network:update",
        body=schema.REPLACE,
        headers=("ETag",),
    )
    def on_put(self, call: Call, network_id: str) -> Answer:
        """The whole spec."""
        return self._write(call, network_id, lambda _old: call.body["network"])

    @operation(
        "Change a network (JSON merge patch)",
        {200: schema.SHOW},
        "network:update",
        body=schema.PATCH,
        headers=("ETag",),
    )
    def on_patch(self, call: Call, network_id: str) -> Answer:
        """Only what the patch names."""

        def merged(old: Mapping[str, Any]) -> Mapping[str, Any]:
            whole = {"network": merge.patched(old, call.body["network"])}
            return validation.check(schema.REPLACE, whole)["network"]  # type: ignore[no-any-return]

        return self._write(call, network_id, merged)

    @operation("Delete a network", {204: None}, "network:delete")
    def on_delete(self, call: Call, network_id: str) -> Answer:
        """Refused while it has pools."""
        key = object_id(network_id, "network")

        def work(session: Session) -> desired.Bell:
            record = self._locked(session, call, key)
            if used := networks.pools_of(session, key):
                raise Conflict(
                    f"Network {record.network.name} has pools: {_names(used)}. Delete them first."
                )
            return desired.dissolve_network(session, key, record.network.name)

        bell = self.environment.sessions.write(work)
        self.environment.ring(bell, f"network={key} change=deleted")
        return Answer(204)

    def _locked(self, session: Session, call: Call, key: UUID) -> NetworkRecord:
        record = networks.get(session, key, lock=True)
        if record is None:
            raise missing("network", key)
        call.check_owner(record.network.project_id)
        call.check_match(record.network.generation)
        return record

    def _write(self, call: Call, network_id: str, spec_from: Any) -> Answer:
        key = object_id(network_id, "network")
        now = self.environment.clock()

        def work(session: Session) -> tuple[NetworkRecord, desired.Bell]:
            old = self._locked(session, call, key)
            network = _build(
                spec_from(_spec_of(old.network)),
                id=key,
                project_id=old.network.project_id,
                number=old.network.number,
                generation=old.network.generation,
            )
            if network == old.network:
                return old, {}
            _check_change(session, old.network, network)
            network = replace(network, generation=network.generation + 1)
            record = networks.change(session, old, network, now)
            return record, desired.announce_network(session, key, network.name, now)

        record, bell = self.environment.sessions.write(work)
        self.environment.ring(bell, f"network={key} change=written")
        return _show(200, record)


def _show(status: int, record: NetworkRecord, headers: Mapping[str, str] | None = None) -> Answer:
    tags = {"ETag": etag(record.network.generation)}
    return Answer(status, {"network": views.network(record)}, {**(headers or {}), **tags})


def _spec_of(network: Network) -> dict[str, Any]:
    return {name: plain.encode(getattr(network, name)) for name in schema.SPEC}


def _build(spec: Mapping[str, Any], **rest: Any) -> Network:
    prefixes = _blocks(spec, "prefixes")
    vip_range = _blocks(spec, "vip_range")
    for index, block in enumerate(vip_range):
        if not any(_inside(block, prefix) for prefix in prefixes):
            raise InvalidRequest(
                f"{block} is inside none of the network's prefixes "
                f"({', '.join(map(str, prefixes))}).",
                field=f"network.vip_range[{index}]",
            )
    return Network(name=spec["name"], prefixes=prefixes, vip_range=vip_range, **rest)


def _blocks(spec: Mapping[str, Any], field: str) -> tuple[Prefix, ...]:
    blocks = [ip_network(text) for text in spec[field]]
    for index, block in enumerate(blocks):
        if kind := unserved(block):
            raise InvalidRequest(
                f"{block} has {kind} addresses, which cannot be served; name blocks without.",
                field=f"network.{field}[{index}]",
            )
    return tuple(dict.fromkeys(blocks))


def _inside(block: Prefix, prefix: Prefix) -> bool:
    return block.version == prefix.version and block.subnet_of(prefix)  # type: ignore[arg-type]


def _check_change(session: Session, old: Network, new: Network) -> None:
    if new.name != old.name and networks.get_by_name(session, new.name) is not None:
        raise _name_taken(new.name)
    used = networks.pools_of(session, old.id)
    if new.name != old.name and used:
        raise Conflict(
            f"Agents know the network by its name, and it has pools: {_names(used)}.",
            field="network.name",
        )
    outside = [pool for pool in used if not new.offers(pool[2])]
    if outside:
        raise Conflict(
            f"The vip_range must keep the addresses of these pools: {_names(outside)}.",
            field="network.vip_range",
        )


def _name_taken(name: str) -> Conflict:
    return Conflict(f"There is a network {name} already.", field="network.name")


def _names(found: Sequence[tuple[UUID, str, Any]]) -> str:
    shown = ", ".join(f"{name} ({address})" for _, name, address in found[:5])
    return shown + (f" and {len(found) - 5} more" if len(found) > 5 else "")
