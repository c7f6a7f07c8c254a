# SPDX-License-Identifier: Apache-2.0
"""Direct routing: the director changes Ethernet addresses only, members answer the client.

Every member holds the pool's address; its host's guard at the tap keeps it from answering ARP
and neighbour solicitations for it. Source: master's thesis, ch. 3 (LVS/DR); requirements L1-L24.
"""

from collections.abc import Set
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver, RemoteServers
from cloudlb.model.dataplane import Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.model.snapshot import PoolView


class DirectRouting(DataPlaneDriver):
    """Data plane ``dr``."""

    name = "dr"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families, towards members on the director's own link."""
        return Capabilities(
            description="Direct routing: Ethernet addresses are rewritten, members hold the "
            "pool's address and answer the client directly.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
            remote_members=RemoteServers(
                preparation="has the pool's address, on an interface that neither answers nor "
                "announces it on the link",
                on_link=True,
            ),
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend on the pool's directors, guests and guard on its members' hosts."""
        return placing.plane(view, host, down, placing.direct)
