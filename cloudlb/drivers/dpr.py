# SPDX-License-Identifier: Apache-2.0
"""Distributed packet rewriting: the host of every member directs, and no other host does.

With a hash as scheduler a connection's addresses and ports name its member, the same one on every
host (D2). With the others the host by which it comes decides by load (D3, D5): see `model.load`;
the scheduler then chooses among the members of one host. A packet that comes to another host than
its member's goes on by the pool's ``forwarding`` to the member itself and not to its host's
director: so it is passed on once at most, whatever hosts know of each other (D7), and the member
answers the client past the host by which it came (D1).
Source: master's thesis, ch. 4 (DPR); requirements D1 to D5, D7, D9.
"""

from collections.abc import Set
from dataclasses import replace
from uuid import UUID

from cloudlb.drivers import placing
from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.drivers.placing import Way, WayTo
from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.pool import Forwarding, MonitorType, Placement, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView


class DistributedRewriting(DataPlaneDriver):
    """Data plane ``dpr``."""

    name = "dpr"

    def capabilities(self) -> Capabilities:
        """TCP and UDP of both families."""
        return Capabilities(
            description="Distributed packet rewriting: there is no director, each member's host "
            "takes packets to the pool's address, serves them or passes them on by a hash or by "
            "load.",
            protocols=frozenset(Protocol),
            address_families=frozenset({4, 6}),
            schedulers=frozenset(Scheduler),
            monitors=frozenset(MonitorType),
            persistence=False,
            members_direct=True,
        )

    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """A frontend and guests on every host that has a member."""
        plane = self._compile(view, host, down)
        if plane is None or plane.frontend is None or view.pool.scheduler.is_hash:
            return plane
        known = {backend.member_id for backend in plane.frontend.backends}
        keeps = any(guest.member_id in known for guest in plane.guests)
        return replace(plane, frontend=replace(plane.frontend, keeps_unknown=keeps))

    def _compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        forwarding = view.pool.forwarding
        if forwarding is Forwarding.NAT:
            plane = placing.plane(view, host, down, placing.translated)
            return plane and placing.with_known_guests(plane)
        if forwarding is Forwarding.TUN:
            plane = placing.plane(view, host, down, _tunnelled_from(host))
            return plane and _with_ends_of_tunnels(plane)
        return placing.plane(view, host, down, placing.direct)


def _tunnelled_from(host: str) -> WayTo:
    """Through tunnels to members elsewhere, by Ethernet addresses to those of the host itself."""

    def way(view: PoolView, m: MemberView, placement: Placement) -> Way:
        found = placing.tunnelled(view, m, placement)
        return replace(found, mode=Mode.DR) if placement.host == host else found

    return way


def _with_ends_of_tunnels(plane: Plane) -> Plane:
    """Other hosts' tunnels end at the taps of this one."""
    guests = tuple(replace(guest, former=(Mode.TUN,)) for guest in plane.guests)
    return replace(plane, guests=guests)
