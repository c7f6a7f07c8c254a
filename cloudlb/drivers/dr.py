# SPDX-License-Identifier: Apache-2.0
"""Direct routing: the director changes Ethernet addresses only, members answer the client.

Every member holds the pool's address; its host's guard at the tap keeps it from answering ARP
and neighbour solicitations for it. Source: master's thesis, ch. 3 (LVS/DR); requirements L1-L24.
"""

from collections.abc import Set
from uuid import UUID

from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.model.dataplane import Backend, BackendState, Frontend, Guest, Mode, Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView


class DirectRouting(DataPlaneDriver):
    """Data plane ``dr``."""

    name = "dr"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families, towards guests on the director's own link."""
        return Capabilities(
            description="Direct routing: Ethernet addresses are rewritten, members hold the "
            "pool's address and answer the client directly.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend on the pool's directors, guests and guard on its members' hosts."""
        if view.removing:
            return None
        guests = tuple(
            _guest(m)
            for m in sorted(view.members, key=lambda m: m.member.id.bytes)
            if _is_on(m, host)
        )
        is_director = host in view.pool.directors
        if not is_director and not guests:
            return None
        return Plane(
            pool_id=view.pool.id,
            network=view.network.number,
            address=view.pool.address,
            frontend=_frontend(view, down) if is_director else None,
            guests=guests,
        )


def _is_on(view: MemberView, host: str) -> bool:
    return view.placement is not None and view.placement.host == host


def _guest(view: MemberView) -> Guest:
    assert view.placement is not None  # noqa: S101  (callers asked _is_on)
    return Guest(view.member.id, view.placement.mac)


def _frontend(view: PoolView, down: Set[UUID]) -> Frontend:
    """An administratively closed pool keeps its connections and takes no new ones."""
    backends = tuple(
        Backend(
            member_id=m.member.id,
            mode=Mode.DR,
            mac=m.placement.mac,
            weight=m.member.weight,
            state=_state(view, m, down),
        )
        for m in view.members
        if m.placement is not None
    )
    return Frontend(view.pool.scheduler, tuple(sorted(view.pool.ports)), backends)


def _state(view: PoolView, m: MemberView, down: Set[UUID]) -> BackendState:
    takes_new = (
        view.pool.admin_state_up
        and m.member.admin_state_up
        and not m.removing
        and m.member.id not in down
        and m.placement is not None
        and m.placement.running
    )
    return BackendState.ACTIVE if takes_new else BackendState.IDLE
