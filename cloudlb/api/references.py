# SPDX-License-Identifier: Apache-2.0
"""Which server a request means, and whether its caller may make it a member."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from cloudlb.db import pools, servers
from cloudlb.db.records import MemberRecord, ServerRecord, Whereabouts
from cloudlb.db.session import Session
from cloudlb.model.errors import CloudlbError, Conflict, Forbidden, InvalidRequest
from cloudlb.model.network import Address, Network, unserved
from cloudlb.model.pool import remote_placement, remote_server


@dataclass(frozen=True, slots=True)
class Caller:
    """``scope`` is the project whose servers the caller may use; None for any server.

    ``names_remote``: also those that no agent reports.
    """

    project_id: str
    scope: str | None
    names_remote: bool

    def may_use(self, record: ServerRecord) -> bool:
        """Whether the caller may make this server a member."""
        return self.scope is None or record.server.project_id == self.scope


@dataclass(frozen=True, slots=True)
class Found:
    """The server that a reference means; ``remote``: its address if no agent reports it."""

    id: UUID
    name: str
    where: Whereabouts
    remote: Address | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A member that a request names, by the ``field`` of the request that names it."""

    field: str
    spec: Mapping[str, Any]

    @property
    def is_remote(self) -> bool:
        """Whether it names a server that no agent reports."""
        return bool(self.spec.get("remote"))

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
        if one.is_remote and "address" not in one.spec:
            raise InvalidRequest(
                "A remote server is known by its address alone; name it instead of server.",
                field=f"{one.field}.server",
            )
        if "address" in one.spec:
            _check_address(one)


def _check_address(wanted: Wanted) -> None:
    address = ip_address(wanted.spec["address"])
    if kind := unserved(ip_network(address)):
        raise InvalidRequest(
            f"{address} is of a block of {kind} addresses and names no server.",
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
) -> dict[str, Found]:
    """The server that each reference means; raises for the first that cannot be a member."""
    check_reference(wanted)
    found = {w.reference: _remote(session, network, caller, w) for w in wanted if w.is_remote}
    reported = [w for w in wanted if not w.is_remote]
    return found | (_reported(session, network, caller, reported) if reported else {})


def _remote(session: Session, network: Network, caller: Caller, wanted: Wanted) -> Found:
    """Nothing can be found of a remote server; its address must be nobody's that is known."""
    address = ip_address(wanted.reference)
    if not caller.names_remote:
        raise Forbidden(
            "Nobody can tell whose a remote server is, so only an administrator may name one "
            "(rule member:remote_server).",
            field=_field(wanted),
        )
    if network.is_reserved(address):
        raise InvalidRequest(
            f"{address} is the address of a whole prefix of network {network.name}, or of its "
            "broadcasts, and names no server.",
            field=_field(wanted),
        )
    if any(address in block for block in network.vip_range):
        raise InvalidRequest(
            f"{address} is among the addresses that network {network.name} leaves to pools; a "
            "server has one of its own.",
            field=_field(wanted),
        )
    if holder := pools.taken(session, network, remote=False).get(str(address)):
        raise Conflict(
            f"{address} {holder}. What a host reports is named by server or address and is not "
            "remote; a host itself, a gateway and a pool are no servers.",
            field=_field(wanted),
        )
    where = Whereabouts(remote_placement(address))
    return Found(remote_server(address), str(address), where, address)


def _reported(
    session: Session, network: Network, caller: Caller, wanted: Sequence[Wanted]
) -> dict[str, Found]:
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
) -> Found:
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
    server = usable[0].server
    return Found(server.id, server.name, servers.locate(usable[0], network.name))


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
        f"{what}. It must be a libvirt domain on a host where cloudlb-agent runs, or a "
        f"remote server named by its address. Known: {known}.",
        field=_field(wanted),
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
