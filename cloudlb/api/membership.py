# SPDX-License-Identifier: Apache-2.0
"""What a request makes of a pool's members: decided purely, stored in a few statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from cloudlb.api import capabilities
from cloudlb.api.capabilities import Drivers
from cloudlb.api.operation import missing
from cloudlb.api.references import (
    Caller,
    Found,
    Wanted,
    check_reference,
    find_servers,
    members_named,
)
from cloudlb.db import members
from cloudlb.db.records import MemberRecord
from cloudlb.db.session import Session
from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.network import Network
from cloudlb.model.pool import Health, Member, Pool
from cloudlb.schemas import member as schema

_WRITABLE = ("name", "port", "weight", "backup", "admin_state_up", "prepared")
_DEFAULTS = {name: schema.SPEC[name].get("default") for name in _WRITABLE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``everything`` is the pool's members afterwards, ``named`` those of the request.

    ``rules`` are the policies for what is done to them.
    """

    everything: tuple[MemberRecord, ...]
    new: tuple[MemberRecord, ...] = ()
    changed: tuple[MemberRecord, ...] = ()
    named: tuple[MemberRecord, ...] = ()
    rules: frozenset[str] = frozenset()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to store."""
        return bool(self.new or self.changed)

    def store(self, session: Session) -> None:
        """Write it: one statement for the new, one for the changed."""
        members.add(session, self.new)
        members.change(session, self.changed)


class Membership:
    """Applies requests to the members of one pool. Every method returns an `Outcome`."""

    def __init__(
        self,
        session: Session,
        drivers: Drivers,
        caller: Caller,
        pool: Pool,
        network: Network,
        existing: Sequence[MemberRecord],
        now: float,
    ) -> None:
        self._session = session
        self._drivers = drivers
        self._caller = caller
        self.pool = pool
        self._network = network
        self._existing = existing
        self._now = now

    def find(self, member_id: UUID) -> MemberRecord:
        """The member of the pool with this id."""
        for record in self._existing:
            if record.member.id == member_id:
                return record
        raise missing("member", member_id)

    def add(self, wanted: Sequence[Wanted], found: Mapping[str, Found] | None = None) -> Outcome:
        """Members that must not be there yet. One that is being removed is taken back.

        ``found``: the servers, by reference, if they were looked for already.
        """
        pairs = self._match(wanted, found)
        for one, record, _ in pairs:
            if record is not None and not record.removing:
                raise Conflict(
                    f"Server {record.server_name} is a member already ({record.member.id}); "
                    "change that one.",
                    field=f"{one.field}.server",
                )
        return self._outcome([self._full(*pair) for pair in pairs])

    def update(self, wanted: Sequence[Wanted]) -> Outcome:
        """Merge patches of members; those that are not there yet are added."""
        pairs = self._match(wanted)
        return self._outcome([self._merged(*pair) for pair in pairs])

    def replace(self, wanted: Sequence[Wanted]) -> Outcome:
        """The whole list: members that it does not name are removed."""
        named = [self._full(*pair) for pair in self._match(wanted)]
        ids = {record.member.id for record in named}
        rest = [r for r in self._existing if r.member.id not in ids and not r.removing]
        return self._outcome([*named, *(self.removed(record) for record in rest)])

    def write_one(self, record: MemberRecord, spec: Mapping[str, Any]) -> Outcome:
        """The whole spec of one member. One that is being removed is taken back by it."""
        if record.removing:
            self._find_servers([Wanted("member", _reference_of(record))])
        return self._outcome([self._respec(record, _writable(spec), "member")])

    def remove_one(self, record: MemberRecord) -> Outcome:
        """One member less."""
        return self._outcome([record if record.removing else self.removed(record)])

    def removed(self, record: MemberRecord) -> MemberRecord:
        """The member, marked."""
        member = replace(record.member, generation=record.member.generation + 1)
        return replace(record, member=member, deleted_at=self._now, updated_at=self._now)

    def _find_servers(self, wanted: Sequence[Wanted]) -> Mapping[str, Found]:
        return find_servers(self._session, self._network, self._caller, wanted)

    def _match(
        self, wanted: Sequence[Wanted], found: Mapping[str, Found] | None = None
    ) -> list[tuple[Wanted, MemberRecord | None, Found | None]]:
        """Each wanted member with what is there of it: the member, else its server."""
        check_reference(wanted)
        known = members_named(wanted, self._existing)
        rest = [one for one in wanted if one.reference not in known]
        found = self._find_servers(rest) if found is None else found
        by_server = {record.member.server: record for record in self._existing}
        pairs = []
        seen: set[UUID] = set()
        for one in wanted:
            server = found.get(one.reference)
            record = known.get(one.reference)
            if record is None and server is not None:
                record = by_server.get(server.id)
            key = record.member.server if record else server.id if server else None
            if key in seen:
                raise Conflict("The request names this server twice.", field=f"{one.field}.server")
            seen.update([key] if key else [])
            self._check_one_server(one, record, server)
            pairs.append((one, record, server))
        return pairs

    def _check_one_server(
        self, one: Wanted, record: MemberRecord | None, server: Found | None
    ) -> None:
        """A server is one member, remote or not, by whatever it is named."""
        is_remote = record is not None and record.member.remote is not None
        if record is not None and one.spec.get("remote", is_remote) != is_remote:
            raise Conflict(
                f"{one.reference} is of the member {record.member.name}, which is "
                f"{'' if is_remote else 'not '}remote. That is fixed: remove it first.",
                field=f"{one.field}.remote",
            )
        place = server.where.placement if record is None and server else None
        held = {*place.addresses} if place else set()
        for other in self._existing:
            if other.member.remote in held and not other.removing:
                raise Conflict(
                    f"{other.member.remote} of server {one.reference} is a remote member already "
                    f"({other.member.id}); remove that one first.",
                    field=f"{one.field}.server",
                )

    def _full(
        self, one: Wanted, record: MemberRecord | None, server: Found | None
    ) -> MemberRecord:
        if record is not None:
            return self._respec(record, _writable(one.spec), one.field)
        assert server is not None  # noqa: S101  (_match finds one or the other)
        return self._new(server, _writable(one.spec), one.field)

    def _merged(
        self, one: Wanted, record: MemberRecord | None, server: Found | None
    ) -> MemberRecord:
        given = {name: one.spec[name] for name in _WRITABLE if name in one.spec}
        old = _DEFAULTS if record is None or record.removing else spec_of(record)
        spec = old | {n: _DEFAULTS[n] if v is None else v for n, v in given.items()}
        return self._full(Wanted(one.field, {**one.spec, **spec}), record, server)

    def _new(self, server: Found, spec: Mapping[str, Any], field: str) -> MemberRecord:
        member = Member(
            id=uuid4(),
            project_id=self.pool.project_id,
            pool_id=self.pool.id,
            server=server.id,
            remote=server.remote,
            **{**spec, "name": spec["name"] or server.name},
        )
        self._check(member, field)
        now = self._now
        return MemberRecord(member, server.name, Health.UNKNOWN, "", now, now, None, server.where)

    def _check(self, member: Member, field: str) -> None:
        capabilities.check_member(self._drivers, self.pool, self._network, member, field)

    def _respec(self, record: MemberRecord, spec: Mapping[str, Any], field: str) -> MemberRecord:
        """The member with another spec; the same record if nothing differs."""
        name = spec["name"] or record.server_name
        member = replace(record.member, **{**spec, "name": name})
        self._check(member, field)
        if member == record.member and not record.removing:
            return record
        member = replace(member, generation=member.generation + 1)
        return replace(record, member=member, deleted_at=None, updated_at=self._now)

    def _outcome(self, named: Sequence[MemberRecord]) -> Outcome:
        named = _in_order(named, self._existing)
        before = {record.member.id: record for record in self._existing}
        after = before | {record.member.id: record for record in named}
        new = tuple(r for r in named if r.member.id not in before)
        changed = tuple(r for r in named if before.get(r.member.id, r) != r)
        return Outcome(
            everything=tuple(after.values()),
            new=new,
            changed=changed,
            named=tuple(named),
            rules=frozenset(_rule(before.get(r.member.id), r) for r in (*new, *changed)),
        )


def _rule(old: MemberRecord | None, new: MemberRecord) -> str:
    """The policy of a change; taking a removed member back is adding one."""
    if old is None or (old.removing and not new.removing):
        return "member:create"
    return "member:delete" if new.removing else "member:update"


def _writable(spec: Mapping[str, Any]) -> dict[str, Any]:
    return _DEFAULTS | {name: spec[name] for name in _WRITABLE if name in spec}


def _in_order(
    named: Sequence[MemberRecord], existing: Sequence[MemberRecord]
) -> list[MemberRecord]:
    """Lists go by the time of creation, so new members of one request differ in it.

    By ten microseconds: rounding of the stored time may eat one.
    """
    old = {record.member.id for record in existing}
    return [
        record
        if record.member.id in old
        else replace(record, created_at=record.created_at + index * 1e-5)
        for index, record in enumerate(named)
    ]


def spec_of(record: MemberRecord) -> dict[str, Any]:
    """What its user has written of a member."""
    return {name: getattr(record.member, name) for name in _WRITABLE}


def _reference_of(record: MemberRecord) -> dict[str, Any]:
    """What names the member's server."""
    if record.member.remote is None:
        return {"server": str(record.member.server)}
    return {"address": str(record.member.remote), "remote": True}


def check_same_server(record: MemberRecord, spec: Mapping[str, Any]) -> None:
    """A member's server is fixed; naming the same one again is no change."""
    if spec.get("remote") not in (None, record.member.remote is not None):
        raise InvalidRequest(
            "Whether a member is remote is fixed at its creation; add a member as it should be "
            "and remove this one.",
            field="member.remote",
        )
    same = {str(record.member.server), record.server_name}
    place = record.where.placement
    same_addresses = {str(a) for a in place.addresses} if place else set()
    for name, known in (("server", same), ("address", same_addresses)):
        if spec.get(name) is None:
            continue
        if Wanted("member", {name: spec[name]}).reference not in known:
            raise InvalidRequest(
                "The server of a member is fixed at its creation; add a member for the other "
                "server and remove this one.",
                field=f"member.{name}",
            )
