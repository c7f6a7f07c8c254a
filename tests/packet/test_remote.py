# SPDX-License-Identifier: Apache-2.0
"""Members on no host with an agent: the host's routes and neighbours lead to them."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.dataplane import AliasPart, Mode, Plane
from cloudlb.model.network import Address
from tests.packet.conftest import UPLINK_MAC, Bench
from tests.packet.frames import ether, ip, tcp
from tests.planes import NETWORK, PORTS, VIP4, VIP6, backend, director, mac

ROUTER4, ROUTER6 = VIP4 + 100, VIP6 + 0x2000
FAR4, FAR6 = "203.0.113.9", "2001:db8:1::9"
BOTH = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["IPv4", "IPv6"])
REMOTE = mac(9)


@pytest.fixture
def wire(bench: Bench) -> Iterator[socket.socket]:
    """The other end of an uplink whose host has addresses, and knows one neighbour: a router."""
    ours = "192.0.2.1/24", "2001:db8::1/48"
    commands = [f"address add {a} dev up0 {'nodad' if ':' in a else ''}" for a in ours]
    for router, far in ((ROUTER4, "203.0.113.0/24"), (ROUTER6, "2001:db8:1::/64")):
        commands.append(f"neigh replace {router} lladdr {REMOTE} dev up0")
        commands.append(f"route replace {far} via {router} dev up0")
    _ip(commands)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as packets:
        packets.bind(("up1", 3))
        packets.settimeout(5)
        yield packets
    _ip([f"neigh del {router} dev up0" for router in (ROUTER4, ROUTER6)])
    _ip([f"address del {a} dev up0" for a in ours])


def _ip(commands: list[str]) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def remote(mode: Mode, vip: Address, own: Address | str) -> Plane:
    """A pool of one server, whose Ethernet address nobody tells."""
    address = type(vip)(own) if isinstance(own, str) else own
    member = replace(backend(1), mode=mode, mac=None, address=address)
    plane = director([member], address=vip, ports=PORTS)
    assert plane.frontend
    aliases = AliasPart() if mode is Mode.FULL_NAT else None
    return replace(plane, frontend=replace(plane.frontend, aliases=aliases))


def _to_remote(packets: socket.socket) -> bytes:
    """The next frame to the neighbour."""
    while True:
        frame, (_, _, kind, _, _) = packets.recvfrom(4096)
        if kind != socket.PACKET_OUTGOING and frame[:6] == REMOTE.packed:
            return frame


@contextmanager
def _director_of(bench: Bench, plane: Plane) -> Iterator[None]:
    bench.apply(plane)
    yield
    assert bench.engine.observe()[plane.pool_id] == plane


@BOTH
@pytest.mark.requirement("L21")
def test_direct_routing_leaves_a_packet_as_it_is(
    bench: Bench, wire: socket.socket, vip: Address
) -> None:
    own = ROUTER4 if vip.version == 4 else ROUTER6
    with _director_of(bench, remote(Mode.DR, vip, own)):
        wire.send(tcp(vip=vip))
        assert _to_remote(wire) == REMOTE.packed + UPLINK_MAC.packed + tcp(vip=vip)[12:]


@BOTH
@pytest.mark.requirement("L21")
@pytest.mark.parametrize("far", [True, False], ids=["routed", "on the link"])
def test_full_nat_reaches_a_server_by_the_hosts_routes(
    bench: Bench, wire: socket.socket, vip: Address, far: bool
) -> None:
    own = ((FAR4, FAR6) if far else (ROUTER4, ROUTER6))[vip.version == 6]
    with _director_of(bench, remote(Mode.FULL_NAT, vip, own)):
        wire.send(tcp(vip=vip))
        sent = _to_remote(wire)
    parsed = ether(REMOTE, UPLINK_MAC) / ip(vip, type(vip)(own))
    start = 26 if vip.version == 4 else 22
    length = 2 * vip.max_prefixlen // 8
    assert sent[:14] == bytes(parsed)[:14]
    assert sent[start : start + length] == bytes(parsed)[start : start + length]


@BOTH
@pytest.mark.requirement("L21")
@pytest.mark.parametrize("far", [FAR4, FAR6])
def test_a_tunnel_to_a_server_follows_the_hosts_routes(
    bench: Bench, wire: socket.socket, vip: Address, far: str
) -> None:
    own, ours = ip_address(far), (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    port = HostPort(bench.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC, addresses=ours)
    bench.engine.attach(port)
    with _director_of(bench, remote(Mode.TUN, vip, own)):
        wire.send(tcp(vip=vip))
        sent = _to_remote(wire)
    assert sent[6:12] == UPLINK_MAC.packed
    assert sent.endswith(tcp(vip=vip)[14:])
    assert own.packed in sent[14:54]


@pytest.mark.requirement("L21")
def test_what_nobody_leads_to_is_dropped(bench: Bench, wire: socket.socket) -> None:
    """The next packet to a server that can be reached comes first, and alone."""
    bench.apply(remote(Mode.FULL_NAT, VIP4, "198.51.100.1"))
    bench.apply(replace(remote(Mode.DR, VIP6, ROUTER6), pool_id=director([], pool=2).pool_id))
    wire.send(tcp())
    wire.send(tcp(vip=VIP6))
    assert _to_remote(wire)[12:] == tcp(vip=VIP6)[12:]
