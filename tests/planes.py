# SPDX-License-Identifier: Apache-2.0
"""Planes for tests of drivers, engines and programs: numbered pools, backends and guests."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from cloudlb.model.dataplane import (
    Algorithm,
    AliasPart,
    Backend,
    BackendState,
    Frontend,
    Guest,
    Mode,
    Plane,
)
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence, Port, Protocol, Timeouts

NETWORK = 7
VIP4 = IPv4Address("192.0.2.100")
VIP6 = IPv6Address("2001:db8::100")
TABLES = (Algorithm.SOURCE_HASH, Algorithm.FLOW_HASH, Algorithm.MAGLEV)
PORTS = (Port(Protocol.TCP, 80), Port(Protocol.UDP, 53))


def member_id(number: int) -> UUID:
    """The member with this number."""
    return UUID(int=0xBEEF << 64 | number)


def mac(number: int) -> Mac:
    """The address of a member's NIC: its last two octets are the member's number."""
    return Mac.unpack(b"\x52\x54\x00\x00" + number.to_bytes(2))


def backend(number: int, weight: int = 1, *, idle: bool = False) -> Backend:
    """A backend by number."""
    state = BackendState.IDLE if idle else BackendState.ACTIVE
    return Backend(member_id(number), Mode.DR, mac(number), weight, state)


def backends(*numbers: int) -> tuple[Backend, ...]:
    """Active backends of weight 1."""
    return tuple(backend(number) for number in numbers)


def guest(number: int) -> Guest:
    """A member behind a tap of this host."""
    return Guest(member_id(number), mac(number))


def watched(plane: Plane) -> Plane:
    """The plane with all its guests watched."""
    return replace(plane, guests=tuple(replace(guest, watched=True) for guest in plane.guests))


def own(number: int, version: int = 4) -> Address:
    """A member's own address."""
    return (VIP4 + 50 if version == 4 else VIP6 + 0x1000) + number


def translated(
    *numbers: int, address: Address = VIP4, pool: int = 1, port: int | None = None
) -> Plane:
    """A pool's plane on a host with guests that are reached by edge NAT."""
    version = address.version
    guests = tuple(
        replace(guest(n), mode=Mode.EDGE_NAT, address=own(n, version), port=port) for n in numbers
    )
    return Plane(UUID(int=pool), NETWORK, address, guests=guests)


def director(
    members: Sequence[Backend],
    algorithm: Algorithm = Algorithm.ROUND_ROBIN,
    address: Address = VIP4,
    pool: int = 1,
    ports: tuple[Port, ...] = PORTS,
    persistence: Persistence | None = None,
    router: int = 0,
) -> Plane:
    """A pool's plane on a host that is its director, or one of those that elect as ``router``."""
    frontend = Frontend(algorithm, ports, tuple(members), persistence, router)
    return Plane(UUID(int=pool), NETWORK, address, frontend)


def compute(*numbers: int, address: Address = VIP4, pool: int = 1) -> Plane:
    """A pool's plane on a host that has guests of it and is no director."""
    guests = tuple(guest(number) for number in numbers)
    return Plane(UUID(int=pool), NETWORK, address, guests=guests)


def both(plane: Plane, *numbers: int) -> Plane:
    """The plane on a director that also has guests of the pool."""
    return replace(plane, guests=tuple(guest(number) for number in numbers))


def members(largest: int = 12) -> st.SearchStrategy[tuple[Backend, ...]]:
    """Backends in any order, of any weight and state."""
    one = st.builds(
        lambda n, weight, idle: backend(n, weight, idle=idle),
        st.integers(1, largest),
        st.sampled_from((0, 1, 1, 2, 5, 100)),
        st.booleans(),
    )
    unique = st.lists(one, max_size=largest, unique_by=lambda b: b.member_id)
    return unique.map(tuple)


@st.composite
def planes(draw: st.DrawFn, pool: int = 1) -> Plane:
    """Any plane of a pool; its address stays the same, as the API has it."""
    frontend = None
    if draw(st.booleans()):
        ports = draw(
            st.sets(st.builds(Port, st.sampled_from(Protocol), st.sampled_from((53, 80, 65535))))
        )
        algorithm = draw(st.sampled_from(Algorithm))
        persistence = draw(
            st.none() | st.builds(Persistence, st.integers(1, 86400), st.integers(0, 32))
        )
        listed = tuple(replace(b, **_way(b.member_id)) for b in draw(members()))
        router = draw(st.sampled_from((0, 0, 7, 255)))
        parts = st.sampled_from((AliasPart(), AliasPart(0, 2), AliasPart(2, 3)))
        frontend = Frontend(
            algorithm,
            tuple(sorted(ports)),
            listed,
            persistence,
            router,
            aliases=draw(st.none() | parts),
            masquerade=draw(st.booleans()),
            tells_clients=draw(st.booleans()),
        )
    numbers = draw(st.sets(st.integers(1, 14), max_size=6))
    guests = tuple(
        replace(
            g,
            former=_former(draw(st.sets(st.sampled_from(Mode))), _way(g.member_id)["mode"]),
            watched=draw(st.booleans()),
            **_way(g.member_id),
        )
        for g in sorted(map(guest, numbers), key=lambda g: g.member_id.bytes)
    )
    here = {g.member_id for g in guests}
    if frontend and any(b.member_id in here for b in frontend.backends):
        is_table = frontend.algorithm in TABLES
        frontend = replace(frontend, keeps_unknown=not is_table and draw(st.booleans()))
    address: Address = VIP6 + pool if pool % 2 else VIP4 + pool
    seconds = st.none() | st.integers(1, 604800)
    given = draw(st.none() | st.builds(Timeouts, seconds, seconds, seconds, seconds))
    timeouts = None if given == Timeouts() else given
    return Plane(UUID(int=pool), NETWORK, address, frontend, guests, timeouts)


def _former(modes: set[Mode], present: Mode) -> tuple[Mode, ...]:
    return tuple(mode for mode in Mode if mode in modes - {present})


def _way(member: UUID) -> dict[str, Any]:
    """How a member is reached: some by each mode, some by the other family."""
    number = member.int & 0xFFFF
    mode = tuple(Mode)[number % len(Mode)]
    address = own(number, 6 if number % 2 else 4)
    port = 8080 if mode is not Mode.DR and number % 3 else None
    return {"mode": mode, "address": None if mode is Mode.DR else address, "port": port}
