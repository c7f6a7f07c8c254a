# SPDX-License-Identifier: Apache-2.0
"""Tunnels: the director sends packets inside others, members answer the client directly.

The outer packet goes to the member's own address, of either family; its host takes the outer
header off at the tap, so the guest needs the pool's address and no tunnel device. Source:
master's thesis, ch. 3 (LVS/TUN); RFC 2003, RFC 2473, RFC 4213; requirements L1, L12, L15.
"""

from collections.abc import Set
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver, RemoteServers
from cloudlb.model.dataplane import Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.model.snapshot import PoolView


class Tunnel(DataPlaneDriver):
    """Data plane ``tun``."""

    name = "tun"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families, each to members that are reached by either."""
        return Capabilities(
            description="Tunnels: packets travel inside others to the members' own addresses and "
            "are unpacked in front of the guests, which hold the pool's address and answer the "
            "client directly.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
            remote_members=RemoteServers(
                preparation="unpacks tunnels (IPIP, IP6IP6, SIT) and has the pool's address, on "
                "an interface that neither answers nor announces it on the link",
                same_family=False,
            ),
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend on the pool's directors, tunnels' ends on its members' hosts."""
        return placing.plane(view, host, down, placing.tunnelled)
