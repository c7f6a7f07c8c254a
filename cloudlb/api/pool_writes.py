# SPDX-License-Identifier: Apache-2.0
"""The transactions that change a pool or its members.

Each reads what it needs, decides, writes the spec, and last announces the change to the hosts.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from cloudlb.api import addresses, capabilities, directors, pool_spec
from cloudlb.api.membership import Membership, Outcome
from cloudlb.api.operation import Call, missing
from cloudlb.api.references import Caller, Wanted, find_servers
from cloudlb.db import desired, directing, hosts, members, networks, pools, virtual_routers
from cloudlb.db.records import MemberRecord, PoolRecord, RealizationRecord
from cloudlb.db.session import Session
from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.host import Host
from cloudlb.model.network import Network
from cloudlb.model.pool import Pool


@dataclass(frozen=True, slots=True)
class Written:
    """A pool after a write. An empty ``bell`` says that there was nothing to change."""

    record: PoolRecord
    members: tuple[MemberRecord, ...]
    realizations: tuple[RealizationRecord, ...]
    bell: desired.Bell
    named: tuple[MemberRecord, ...] = ()


Change = Callable[[Membership], Outcome]
Reshape = Callable[[PoolRecord], dict[str, Any]]
"""Makes a spec of what there is. In it ``directors`` None asks for a choice as at creation, and
without ``directors`` the present ones stay while they can."""


def create(session: Session, call: Call, spec: dict[str, Any]) -> Written:
    """A new pool, with its members."""
    if spec.get("members"):
        call.enforce("member:create", str(call.context.project_id))
    now = call.environment.clock()
    drivers = call.environment.drivers
    network = _network(session, spec["network_id"])
    capabilities.check_name(drivers, spec["data_plane"])
    spec = directors.translated(drivers, directors.resolved(drivers, spec))
    known = hosts.everything(session, now, call.environment.host_down_time)
    named = wanted(spec.get("members", ()), "pool.members")
    found = find_servers(session, network, caller(call), named)
    pool = pool_spec.build(
        spec,
        id=uuid4(),
        project_id=str(call.context.project_id),
        network_id=network.id,
        address=addresses.claim(
            session,
            network,
            spec.get("address"),
            spec.get("ip_version"),
            own=[server.id for server in found.values()],
        ),
        directors=_chosen(known, network, spec),
    )
    capabilities.check_pool(drivers, pool)
    if pool.entry_host is not None:
        directors.check_entry(known, network, pool.entry_host)
    membership = Membership(session, drivers, caller(call), pool, network, (), now)
    outcome = membership.add(named, found)
    pool = directing.settle(session, pool, outcome.everything)
    pool = replace(pool, virtual_router=virtual_routers.number(session, pool))
    record = pools.add(session, pool, now)
    outcome.store(session)
    told = [h.name for h in known if any(u.network == network.name for u in h.uplinks)]
    return _announced(session, record, outcome, (), now, told)


def _chosen(known: Sequence[Host], network: Network, spec: dict[str, Any]) -> tuple[str, ...]:
    """The directors of a pool that had none, as far as somebody is to choose them."""
    if spec["forwarding"] is not None:
        return ()
    return directors.choose(known, network, spec.get("directors"))


def update(session: Session, call: Call, pool_id: UUID, reshape: Reshape) -> Written:
    """Another spec of a pool; ``reshape`` makes it of what there is."""
    now = call.environment.clock()
    old, network, known = _locked(session, call, pool_id)
    call.check_match(old.pool.generation)
    spec = reshape(old)
    pool_spec.check_fixed(old.pool, spec)
    capabilities.check_name(call.environment.drivers, spec["data_plane"])
    drivers = call.environment.drivers
    spec = directors.translated(drivers, directors.resolved(drivers, spec, old.pool), old.pool)
    pool = _rebuilt(session, call, network, old.pool, spec)
    pool = directing.settle(session, pool, known)
    realizations = desired.of_pools(session, [pool_id])[pool_id]
    if pool == old.pool:
        return Written(old, tuple(known), tuple(realizations), {})
    capabilities.check_pool(call.environment.drivers, pool)
    for member in (record.member for record in known if not record.removing):
        capabilities.check_port(call.environment.drivers, pool, member, "pool.ports")
        capabilities.check_weight(call.environment.drivers, pool, member, "pool.scheduler")
        capabilities.check_remote(drivers, pool, network, member, "pool.data_plane")
    pool = replace(
        pool,
        virtual_router=virtual_routers.number(session, pool, old.pool),
        generation=pool.generation + 1,
    )
    record = pools.change(session, old, pool, now)
    if pool.monitor is None and old.pool.monitor is not None:
        known = members.forget_health(session, pool_id, known)
    return _announced(session, record, Outcome(tuple(known)), realizations, now)


def _rebuilt(
    session: Session, call: Call, network: Network, old: Pool, spec: dict[str, Any]
) -> Pool:
    entry = spec["entry_host"]
    if entry is not None and entry != old.entry_host:
        now, down_time = call.environment.clock(), call.environment.host_down_time
        directors.check_entry(hosts.everything(session, now, down_time), network, entry)
    return pool_spec.build(
        spec,
        id=old.id,
        project_id=old.project_id,
        network_id=old.network_id,
        address=old.address,
        directors=_rechosen(session, call, network, old, spec),
        virtual_router=old.virtual_router,
        generation=old.generation,
    )


def _rechosen(
    session: Session, call: Call, network: Network, old: Pool, spec: dict[str, Any]
) -> tuple[str, ...]:
    if spec["forwarding"] is not None and old.members_direct:
        return old.directors
    if spec.get("directors", ()) == list(old.directors):
        return old.directors
    now, down_time = call.environment.clock(), call.environment.host_down_time
    known = hosts.everything(session, now, down_time)
    if spec["forwarding"] is not None or old.members_direct:
        return _chosen(known, network, spec)
    if "directors" in spec:
        return directors.choose(known, network, spec["directors"], old.directors)
    return directors.keep(known, network, old.directors)


def remove(session: Session, call: Call, pool_id: UUID) -> Written:
    """Mark a pool as deleted. Doing it again changes nothing."""
    now = call.environment.clock()
    found = pools.get(session, pool_id, call.scope, lock=True)
    if found is None:
        raise missing("pool", pool_id)
    old = found[0]
    call.check_owner(old.pool.project_id)
    call.check_match(old.pool.generation)
    realizations = desired.of_pools(session, [pool_id])[pool_id]
    if old.removing:
        return Written(old, (), tuple(realizations), {})
    pool = replace(old.pool, generation=old.pool.generation + 1)
    record = pools.mark_removed(session, replace(old, pool=pool), now)
    rows, bell = desired.announce(session, pool_id, realizations, frozenset(), now)
    return Written(record, (), tuple(rows), bell)


def change_members(session: Session, call: Call, pool_id: UUID, change: Change) -> Written:
    """Whatever ``change`` makes of the members of a pool."""
    now = call.environment.clock()
    record, network, known = _locked(session, call, pool_id)
    membership = Membership(
        session,
        call.environment.drivers,
        caller(call, record.pool.project_id),
        record.pool,
        network,
        known,
        now,
    )
    outcome = change(membership)
    for rule in sorted(outcome.rules):
        call.enforce(rule, record.pool.project_id)
    realizations = desired.of_pools(session, [pool_id])[pool_id]
    if not outcome.is_change:
        return Written(record, outcome.everything, tuple(realizations), {}, outcome.named)
    outcome.store(session)
    pool = directing.settle(session, record.pool, outcome.everything)
    pool = replace(pool, generation=pool.generation + 1)
    record = pools.touch(session, replace(record, pool=pool), now)
    return _announced(session, record, outcome, realizations, now)


def member_of(session: Session, pool_id: UUID, member_id: UUID) -> MemberRecord:
    """A member, within the transaction that changes it."""
    record = members.get(session, pool_id, member_id)
    if record is None:
        raise missing("member", member_id)
    return record


def caller(call: Call, owner: str | None = None) -> Caller:
    """Who asks, and whose servers it may use in a pool of the project ``owner``."""
    any_server = call.environment.may(call.context, "member:any_server", owner)
    remote = call.environment.may(call.context, "member:remote_server", owner)
    project = str(call.context.project_id)
    return Caller(project, None if any_server else project, remote)


def wanted(specs: Sequence[dict[str, Any]], field: str) -> list[Wanted]:
    """Members as a request names them."""
    return [Wanted(f"{field}[{index}]", spec) for index, spec in enumerate(specs)]


def _network(session: Session, text: str) -> Network:
    """The network of a new pool, which stays as it is until the pool is stored."""
    record = networks.get(session, UUID(text), keep=True)
    if record is None:
        raise InvalidRequest(
            f"There is no network {text}; /v1/networks lists them.", field="pool.network_id"
        )
    return record.network


def _locked(
    session: Session, call: Call, pool_id: UUID
) -> tuple[PoolRecord, Network, list[MemberRecord]]:
    found = pools.get(session, pool_id, call.scope, lock=True)
    if found is None:
        raise missing("pool", pool_id)
    record, network = found
    call.check_owner(record.pool.project_id)
    if record.removing:
        raise Conflict("The pool has been deleted and is being removed.", field="pool_id")
    return record, network, members.of_pools(session, [pool_id])[pool_id]


def _announced(
    session: Session,
    record: PoolRecord,
    outcome: Outcome,
    realizations: Sequence[RealizationRecord],
    now: float,
    told: Collection[str] = (),
) -> Written:
    concerned = desired.hosts_of(record.pool, outcome.everything)
    rows, bell = desired.announce(session, record.pool.id, realizations, concerned, now, told)
    return Written(record, outcome.everything, tuple(rows), bell, outcome.named)
