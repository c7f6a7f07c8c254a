# SPDX-License-Identifier: Apache-2.0
"""Between the JSON of a pool's spec and the model, with the checks that need no database."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from cloudlb.api import monitor_spec
from cloudlb.model import plain
from cloudlb.model.errors import InvalidRequest
from cloudlb.model.network import Address
from cloudlb.model.pool import (
    ClientAddress,
    ConnectionCount,
    DownAction,
    Failover,
    Forwarding,
    Monitor,
    Persistence,
    Pool,
    Port,
    Protocol,
    RotationOrder,
    Scheduler,
    Timeouts,
    Translation,
)
from cloudlb.schemas import pool as schema

WRITABLE = tuple(name for name in schema.SPEC if name != "ip_version")


def spec_of(pool: Pool) -> dict[str, Any]:
    """What its user has written of a pool, and what was chosen in its place."""
    names = [n for n in WRITABLE if n != "directors" or not pool.members_direct]
    return {name: plain.encode(getattr(pool, name)) for name in names}


def build(spec: Mapping[str, Any], *, address: Address, **rest: Any) -> Pool:
    """The pool with a complete spec; ``rest`` are the fields that no user writes."""
    pool = Pool(
        address=address,
        name=spec["name"],
        description=spec["description"],
        ports=tuple(Port(Protocol(p["protocol"]), p["port"]) for p in spec["ports"]),
        data_plane=spec["data_plane"],
        scheduler=Scheduler(spec["scheduler"]),
        rotation_order=RotationOrder(spec["rotation_order"]),
        connection_count=ConnectionCount(spec["connection_count"]),
        persistence=_persistence(spec["persistence"], address),
        forwarding=None if spec["forwarding"] is None else Forwarding(spec["forwarding"]),
        entry_host=spec["entry_host"],
        translation=None if spec["translation"] is None else Translation(spec["translation"]),
        masquerade=spec["masquerade"],
        client_address=_client_address(spec["client_address"]),
        failover=Failover(spec["failover"]),
        timeouts=_timeouts(spec["timeouts"]),
        monitor=_monitor(spec["monitor"]),
        down_action=DownAction(spec["down_action"]),
        panic_threshold=spec["panic_threshold"],
        drain_timeout=spec["drain_timeout"],
        admin_state_up=spec["admin_state_up"],
        **rest,
    )
    monitor_spec.check(pool)
    return pool


def _monitor(spec: Mapping[str, Any] | None) -> Monitor | None:
    return None if spec is None else plain.decode(Monitor, spec)


def _client_address(word: str | None) -> ClientAddress | None:
    return None if word is None else ClientAddress(word)


def _timeouts(spec: Mapping[str, Any] | None) -> Timeouts | None:
    return None if not any((spec or {}).values()) else plain.decode(Timeouts, spec)


def _persistence(spec: Mapping[str, Any] | None, address: Address) -> Persistence | None:
    if spec is None:
        return None
    prefix, bits = spec["prefix"], address.max_prefixlen
    if prefix is not None and prefix > bits:
        raise InvalidRequest(
            f"Clients of an IPv{address.version} pool have addresses of {bits} bits; a prefix of "
            f"{prefix} is longer. Give at most {bits}, or none for whole addresses.",
            field="pool.persistence.prefix",
        )
    return Persistence(spec["timeout"], prefix or bits)


def check_fixed(pool: Pool, spec: Mapping[str, Any]) -> None:
    """Some fields are fixed when a pool is created; naming the same value again is no change."""
    same: dict[str, Callable[[Any], bool]] = {
        "network_id": lambda value: value.lower() == str(pool.network_id),
        "address": lambda value: ip_address(value) == pool.address,
        "ip_version": lambda value: value == pool.address.version,
    }
    for name, is_same in same.items():
        value = spec.get(name)
        if value is not None and not is_same(value):
            raise InvalidRequest(
                "This is fixed when a pool is created; create another pool and delete this one.",
                field=f"pool.{name}",
            )
