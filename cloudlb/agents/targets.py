# SPDX-License-Identifier: Apache-2.0
"""Which members a director probes, and from where."""

from collections.abc import Iterable
from uuid import UUID

from cloudlb.agents.inventory import HostInventory
from cloudlb.agents.ports import Ports
from cloudlb.agents.probe import Target
from cloudlb.model.pool import Pool, Protocol
from cloudlb.model.snapshot import PoolView
from cloudlb.net.frame import source_address


def targets(
    host: str, views: Iterable[PoolView], ports: Ports, inventory: HostInventory
) -> dict[UUID, Target]:
    """The running members of monitored pools that ``host`` directs, by member.

    Removed ones too: one that is dead must not drain.
    """
    addresses = {uplink.network: uplink.addresses for uplink in inventory.uplinks()}
    found: dict[UUID, Target] = {}
    for view in _monitored(host, views):
        link = ports.uplink_of(view.network.number)
        monitor = view.pool.monitor
        if monitor is None or link is None:
            continue
        for m in view.members:
            if m.placement is None or not m.placement.running:
                continue
            found[m.member.id] = Target(
                member_id=m.member.id,
                pool_id=view.pool.id,
                monitor=monitor,
                port=monitor.port or _first_tcp_port(view.pool),
                interface=link.name,
                interface_mac=link.mac,
                member_mac=m.placement.mac,
                source=source_address(addresses.get(view.network.name, ()), view.pool.address),
                address=view.pool.address,
            )
    return found


def switched_off(host: str, views: Iterable[PoolView]) -> frozenset[UUID]:
    """The members of those pools that cannot be probed because their servers are off."""
    return frozenset(
        m.member.id
        for view in _monitored(host, views)
        for m in view.members
        if not m.removing and (m.placement is None or not m.placement.running)
    )


def _monitored(host: str, views: Iterable[PoolView]) -> list[PoolView]:
    return [
        view
        for view in views
        if not view.removing and view.pool.monitor and host in view.pool.directors
    ]


def _first_tcp_port(pool: Pool) -> int:
    return next((p.port for p in pool.ports if p.protocol is Protocol.TCP), 0)
