# SPDX-License-Identifier: Apache-2.0
"""IPv6 anycast by Ethernet address: the pools of requirements A12 to A17.

All members hold the same IPv6 anycast address. The director forwards a client's packet by its
Ethernet addresses alone: IP header, ports and payload leave byte for byte as they came (A12). A
member answers the client directly, from the anycast address (A14). On the link only the director
answers for that address: the guard at every tap silences members, which may run duplicate address
detection, and leaves their own addresses alone (A15). Probes take the way of the traffic (A16),
and a member that misses them leaves the rotation (A17). How a member comes by the address, by a
lease or by hand, is not the forwarding's business.
"""

from collections.abc import Set
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.model.dataplane import Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.model.snapshot import PoolView


class AnycastMac(DataPlaneDriver):
    """Data plane ``anycast_mac``."""

    name = "anycast_mac"

    def capabilities(self) -> Capabilities:
        """TCP and UDP over IPv6, towards guests on the director's own link."""
        return Capabilities(
            description="IPv6 anycast: members hold one address, packets reach them by their "
            "Ethernet addresses and are not changed otherwise.",
            protocols=frozenset(Protocol),
            address_families=frozenset({6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """As direct routing: only the family and what is promised of it differ."""
        return placing.plane(view, host, down, placing.direct)
