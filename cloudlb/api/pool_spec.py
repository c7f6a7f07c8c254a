# SPDX-License-Identifier: Apache-2.0
"""Between the JSON of a pool's spec and the model, with the checks that need no database."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from cloudlb.model import plain
from cloudlb.model.errors import InvalidRequest
from cloudlb.model.pool import Monitor, MonitorType, Pool, Port, Protocol, Scheduler
from cloudlb.schemas import pool as schema

WRITABLE = tuple(name for name in schema.SPEC if name != "ip_version")


def spec_of(pool: Pool) -> dict[str, Any]:
    """What its user has written of a pool, and what was chosen in its place."""
    return {name: plain.encode(getattr(pool, name)) for name in WRITABLE}


def build(spec: Mapping[str, Any], **rest: Any) -> Pool:
    """The pool with a complete spec; ``rest`` are the fields that no user writes."""
    pool = Pool(
        name=spec["name"],
        description=spec["description"],
        ports=tuple(Port(Protocol(p["protocol"]), p["port"]) for p in spec["ports"]),
        scheduler=Scheduler(spec["scheduler"]),
        monitor=_monitor(spec["monitor"]),
        drain_timeout=spec["drain_timeout"],
        admin_state_up=spec["admin_state_up"],
        **rest,
    )
    _check_monitor(pool)
    return pool


def _monitor(spec: Mapping[str, Any] | None) -> Monitor | None:
    return None if spec is None else plain.decode(Monitor, spec)


def _check_monitor(pool: Pool) -> None:
    monitor = pool.monitor
    if monitor is None:
        return
    if monitor.timeout > monitor.interval:
        raise InvalidRequest(
            f"A probe must be answered before the next one is sent: {monitor.timeout:g} s is "
            f"longer than the interval of {monitor.interval:g} s. Make this shorter, or the "
            "interval longer.",
            field="pool.monitor.timeout",
        )
    if monitor.type is MonitorType.ICMP and monitor.port is not None:
        raise InvalidRequest(
            "Probes by icmp have no port; leave it out, or probe by tcp.",
            field="pool.monitor.port",
        )
    has_tcp = any(port.protocol is Protocol.TCP for port in pool.ports)
    if monitor.type is MonitorType.TCP and monitor.port is None and not has_tcp:
        raise InvalidRequest(
            "The pool has no TCP port that a tcp probe could ask by default; name one here, or "
            "probe by icmp.",
            field="pool.monitor.port",
        )


def check_fixed(pool: Pool, spec: Mapping[str, Any]) -> None:
    """Some fields are fixed when a pool is created; naming the same value again is no change."""
    same: dict[str, Callable[[Any], bool]] = {
        "network_id": lambda value: value.lower() == str(pool.network_id),
        "address": lambda value: ip_address(value) == pool.address,
        "data_plane": lambda value: value == pool.data_plane,
        "ip_version": lambda value: value == pool.address.version,
    }
    for name, is_same in same.items():
        value = spec.get(name)
        if value is not None and not is_same(value):
            raise InvalidRequest(
                "This is fixed when a pool is created; create another pool and delete this one.",
                field=f"pool.{name}",
            )
