# SPDX-License-Identifier: Apache-2.0
"""Edge NAT: as direct routing as far as the member's tap, where packets are translated.

A member has neither the pool's address nor any setting for it, and answers the client past the
director. Requirements L1, L15.
"""

from collections.abc import Set
from dataclasses import replace
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.drivers.placing import Way
from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.pool import MonitorType, Placement, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView


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
        plane = placing.plane(view, host, down, _way)
        return plane and replace(plane, guests=tuple(g for g in plane.guests if g.address))


def _way(view: PoolView, m: MemberView, placement: Placement) -> Way:
    """To an own address of the pool's family; the member's port stands for all of the pool's."""
    version = view.pool.address.version
    own = view.network.own_address(placement.addresses, version)
    if own is None or own.version != version:
        return Way(Mode.EDGE_NAT, port=m.member.port, open=False)
    return Way(Mode.EDGE_NAT, own, m.member.port)
