# SPDX-License-Identifier: Apache-2.0
"""Pools as hosts are told of them: numbered pools and members, and the snapshots around them."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from cloudlb.model.network import Network
from cloudlb.model.pool import Member, Monitor, MonitorType, Placement, Pool, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView, Snapshot
from tests.planes import NETWORK, PORTS, VIP4, mac, member_id

LAN = Network(
    UUID(int=0xA),
    "project",
    "lan",
    NETWORK,
    (ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
    (ip_network("192.0.2.0/24"),),
)
HOSTS = ("d1", "d2", "c1")


def pool(number: int = 1, **spec: Any) -> Pool:
    """A pool by number, directed by d1."""
    whole = Pool(
        UUID(int=number),
        "project",
        LAN.id,
        f"pool{number}",
        VIP4 + number,
        PORTS,
        "dr",
        Scheduler.ROUND_ROBIN,
        ("d1",),
        drain_timeout=30,
    )
    return replace(whole, **spec)


def member(
    number: int,
    host: str = "c1",
    *,
    pool_number: int = 1,
    weight: int = 1,
    backup: bool = False,
    removing: bool = False,
    removed_for: float = 0.0,
    running: bool = True,
) -> MemberView:
    """A member by number, with its server on a host."""
    wanted = Member(
        member_id(number),
        "project",
        UUID(int=pool_number),
        UUID(int=number),
        weight=weight,
        backup=backup,
    )
    placement = Placement(host, mac(number), f"tap{number}", running=running)
    return MemberView(wanted, placement, removing, removed_for)


def view(*members: MemberView, number: int = 1, removing: bool = False, **spec: Any) -> PoolView:
    """A pool with its members."""
    return PoolView(pool(number, **spec), LAN, members, removing)


def snapshot(*views: PoolView, generation: int = 1, host: str = "d1") -> Snapshot:
    """All that is wanted of a host."""
    return Snapshot(host, generation, views, (LAN,))


def tcp_monitor(**change: Any) -> Monitor:
    """A monitor that connects once a second."""
    return replace(Monitor(MonitorType.TCP), **change)


@st.composite
def _members(draw: st.DrawFn, pool_number: int) -> MemberView:
    made = member(
        100 * pool_number + draw(st.integers(0, 5)),
        draw(st.sampled_from(HOSTS)),
        pool_number=pool_number,
        weight=draw(st.sampled_from((0, 1, 5))),
        backup=draw(st.booleans()),
        removing=draw(st.booleans()),
        removed_for=draw(st.sampled_from((0.0, 29.5, 1e6))),
        running=draw(st.booleans()),
    )
    return made if draw(st.booleans()) else replace(made, placement=None)


@st.composite
def views(draw: st.DrawFn, number: int = 1) -> PoolView:
    """Any view of a pool; its address stays the same, as the API has it."""
    members = draw(st.lists(_members(number), max_size=4, unique_by=lambda m: m.member.id))
    return view(
        *members,
        number=number,
        removing=draw(st.booleans()),
        directors=tuple(draw(st.sets(st.sampled_from(HOSTS)))),
        scheduler=draw(st.sampled_from(Scheduler)),
        admin_state_up=draw(st.booleans()),
        panic_threshold=draw(st.sampled_from((0, 50, 99))),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot for d1 of up to three pools."""
    numbers = draw(st.sets(st.integers(1, 3)))
    generation = draw(st.integers(1, 1000))
    return snapshot(*(draw(views(number=n)) for n in sorted(numbers)), generation=generation)
