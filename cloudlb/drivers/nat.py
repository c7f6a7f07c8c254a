# SPDX-License-Identifier: Apache-2.0
"""Edge NAT: as direct routing as far as the member's tap, where packets are translated.

A member has neither the pool's address nor any setting for it, and answers the client past the
director. Requirements L1, L15.
"""

from collections.abc import Set
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.model.dataplane import Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.model.snapshot import PoolView


class EdgeNat(DataPlaneDriver):
    """Data plane ``nat``."""

    name = "nat"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families, towards guests on the director's own link."""
        return Capabilities(
            description="Edge NAT: addresses and ports are translated at the member's tap, "
            "members need not have the pool's address and answer the client directly.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
            port_translation=True,
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend on the pool's directors, guests on their hosts once an address is known."""
        plane = placing.plane(view, host, down, placing.translated)
        return plane and placing.with_known_guests(plane)
