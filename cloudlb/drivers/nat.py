# SPDX-License-Identifier: Apache-2.0
"""NAT: members need not have the pool's address, nor listen on its ports.

At the edge, as direct routing as far as the member's tap, where packets are translated: members
answer the client past the director. Or by the director, as LVS does: what members answer comes
back by it, because they route it there or, with full NAT, because the director stands in for the
client. So it does for remote servers where taps translate to all others. Source: master's thesis,
ch. 3 (LVS/NAT); requirements L1, L15, L19, L21, L23.
"""

from collections.abc import Set
from dataclasses import replace
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver, RemoteServers
from cloudlb.model.dataplane import AliasPart, Frontend, Mode, Plane
from cloudlb.model.pool import (
    ClientAddress,
    MonitorType,
    Pool,
    Protocol,
    Scheduler,
    Translation,
)
from cloudlb.model.snapshot import PoolView


class Nat(DataPlaneDriver):
    """Data plane ``nat``."""

    name = "nat"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families, towards members that have an address of the same one."""
        return Capabilities(
            description="NAT: members need not have the pool's address. Addresses and ports are "
            "translated at the member's tap, and members answer the client directly; or by the "
            "director, by which the answers come back.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
            port_translation=True,
            translations=frozenset(Translation),
            remote_members=RemoteServers(),
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend on the pool's directors, guests on their hosts once an address is known."""
        translation = view.pool.translation or Translation.EDGE
        plane = placing.plane(view, host, down, _WAYS[translation])
        if plane is None:
            return None
        if plane.frontend:
            plane = replace(plane, frontend=_with_aliases(plane.frontend, view.pool, host))
        return placing.with_known_guests(plane)


def _with_aliases(frontend: Frontend, pool: Pool, host: str) -> Frontend:
    """The frontend with its part of the aliases, if there is anything to have one."""
    disguises = any(backend.mode is Mode.FULL_NAT for backend in frontend.backends)
    if not (disguises or pool.masquerade):
        return frontend
    return replace(
        frontend,
        aliases=AliasPart(pool.directors.index(host), len(pool.directors)),
        masquerade=pool.masquerade,
        tells_clients=disguises and pool.client_address is ClientAddress.TCP_OPTION,
    )


_WAYS = {
    Translation.EDGE: placing.translated,
    Translation.DIRECTOR: placing.through_director(Mode.NAT),
    Translation.FULL: placing.through_director(Mode.FULL_NAT),
}
