# SPDX-License-Identifier: Apache-2.0
"""Which server a request means, and whether its caller may make it a member."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from cloudlb.db import servers
from cloudlb.db.records import MemberRecord, ServerRecord
from cloudlb.db.session import Session
from cloudlb.model.errors import CloudlbError, Conflict, Forbidden, InvalidRequest
from cloudlb.model.network import Network


@dataclass(frozen=True, slots=True)
class Caller:
    """``scope`` is the project whose servers the caller may use; None for any server."""

    project_id: str
    scope: str | None

    def may_use(self, record: ServerRecord) -> bool:
        """Whether the caller may make this server a member."""
        return self.scope is None or record.server.project_id == self.scope


@dataclass(frozen=True, slots=True)
class Wanted:
    """A member that a request names, by the ``field`` of the request that names it."""

    field: str
    spec: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """Name, UUID or address; UUIDs and addresses in their canonical form."""
        if "server" in self.spec:
            text: str = self.spec["server"]
            return text.lower() if _is_uuid(text) else text
        return str(ip_address(self.spec["address"]))


def check_reference(wanted: Sequence[Wanted]) -> None:
    """Each member is named by exactly one of server and address."""
    for one in wanted:
        if ("server" in one.spec) == ("address" in one.spec):
            raise InvalidRequest(
                "Name the member by server (name or UUID of a libvirt domain) or by address, "
                "one of both.",
                field=f"{one.field}.server",
            )
        if "address" in one.spec:
            _check_address(one)


def _check_address(wanted: Wanted) -> None:
    address = ip_address(wanted.spec["address"])
    if address.is_loopback or address.is_link_local or address.is_multicast:
        raise InvalidRequest(
            f"{address} is a loopback, link-local or multicast address and names no server.",
            field=f"{wanted.field}.address",
        )


def members_named(
    wanted: Sequence[Wanted], existing: Sequence[MemberRecord]
) -> dict[str, MemberRecord]:
    """The members of the pool that the request means, by reference.

    These need no claim. One that is being removed does: taking it back is like adding it.
    """
    by_key: dict[str, MemberRecord] = {}
    present = [record for record in existing if not record.removing]
    for record in present:
        place = record.where.placement
        for address in place.addresses if place else ():
            by_key[str(address)] = record
    for record in present:
        by_key[record.server_name] = record
    for record in present:
        by_key[str(record.member.server)] = record
    return {w.reference: by_key[w.reference] for w in wanted if w.reference in by_key}


def find_servers(
    session: Session, network: Network, caller: Caller, wanted: Sequence[Wanted]
) -> dict[str, ServerRecord]:
    """The server that each reference means; raises for the first that cannot be a member."""
    check_reference(wanted)
    if not wanted:
        return {}
    addresses = [w.reference for w in wanted if "address" in w.spec]
    holders = servers.holders(session, network.name, addresses)
    keys = {w.reference for w in wanted if "server" in w.spec}
    keys.update(key for found in holders.values() for key in found)
    by_key: dict[str, dict[UUID, list[ServerRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in servers.find(session, keys):
        by_key[record.server.name][record.server.id].append(record)
        by_key[str(record.server.id)][record.server.id].append(record)
    for address, found in holders.items():
        for key in found:
            by_key[address] |= by_key.get(key, {})
    return {w.reference: _choose(session, network, caller, w, by_key[w.reference]) for w in wanted}


def _choose(
    session: Session,
    network: Network,
    caller: Caller,
    wanted: Wanted,
    found: Mapping[UUID, Sequence[ServerRecord]],
) -> ServerRecord:
    candidates = [best for best in map(servers.best, found.values()) if best is not None]
    usable = [record for record in candidates if caller.may_use(record)]
    if not candidates:
        raise _unknown(session, network, caller, wanted)
    if not usable:
        raise Forbidden(
            f"{wanted.reference} is not of project {caller.project_id}. Use a server of this "
            "project (its libvirt metadata name the project), or let an administrator do it.",
            field=_field(wanted),
        )
    if len(usable) > 1:
        raise _ambiguous(wanted, usable)
    if len(servers.nics(usable[0].server, network.name)) != 1:
        raise InvalidRequest(
            servers.describe_nics(usable[0].server, network.name), field=_field(wanted)
        )
    return usable[0]


def _field(wanted: Wanted) -> str:
    return f"{wanted.field}.{'server' if 'server' in wanted.spec else 'address'}"


def _ambiguous(wanted: Wanted, usable: Sequence[ServerRecord]) -> CloudlbError:
    named = ", ".join(f"{r.server.id} ({r.server.name} on {r.host})" for r in usable)
    return Conflict(
        f"{wanted.reference} means several servers; name one by its UUID: {named}.",
        field=_field(wanted),
    )


def _unknown(session: Session, network: Network, caller: Caller, wanted: Wanted) -> CloudlbError:
    known = ", ".join(servers.some_names(session, caller.scope)) or "none"
    what = (
        f"No host reports a server {wanted.reference}"
        if "server" in wanted.spec
        else f"No server that a host reports holds {wanted.reference} in network {network.name}"
    )
    return InvalidRequest(
        f"{what}. It must be a libvirt domain on a host where cloudlb-agent runs. Known: {known}.",
        field=_field(wanted),
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
