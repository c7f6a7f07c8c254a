# SPDX-License-Identifier: Apache-2.0
"""Run inside the guest: pools through ip_vs by the engine ``ipvs``, members behind real guards.

The link is that of direct_routing.py. The director's stack has the pools' addresses on its uplink;
the members' taps carry the programs of the engine ``ebpf``, as on a host of guests.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloudlb.engines import teardown
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.engines.ipvs import IpvsEngine
from cloudlb.model.dataplane import Algorithm, FlowState, Guest, Mode, Plane, TableSizes
from cloudlb.model.errors import EngineError
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence, Port, Protocol
from cloudlb.net.ipvs import Service, Virtual, VirtualServers
from tests.guest.inside.direct_routing import LINKS, Namespace, index, run
from tests.packet.conftest import FLOWS, UPLINK_MAC
from tests.planes import NETWORK, VIP4, VIP6, backend, director, mac, member_id

MEMBERS = (17, 18)
VIPS = [pytest.param(VIP4, id="ipv4"), pytest.param(VIP6, id="ipv6")]
POOLS = {VIP4: 1, VIP6: 2}
HTTP = Port(Protocol.TCP, 80)
POOL = director([], address=VIP4).pool_id
FOREIGN = Virtual(ip_address("192.0.2.222"), 6, 80)


def own(number: int, version: int) -> Address:
    """The address that a namespace has."""
    return ip_address(f"192.0.2.{number}" if version == 4 else f"2001:db8::{number}")


class Site:
    """A director by LVS, members behind taps with guards, a client."""

    def __init__(self, lvs: IpvsEngine, taps: EbpfEngine, client: Namespace) -> None:
        self.lvs, self.taps, self.client = lvs, taps, client

    def apply(
        self,
        vip: Address,
        algorithm: Algorithm = Algorithm.ROUND_ROBIN,
        mode: Mode = Mode.DR,
        *,
        idle: tuple[int, ...] = (),
        members: tuple[int, ...] = MEMBERS,
        persistence: Persistence | None = None,
    ) -> Plane:
        """A pool in both engines, as agents would have it; the director's plane."""
        backends = [
            replace(backend(n, idle=n in idle), mode=mode, address=own(n, vip.version))
            for n in members
        ]
        plane = director(backends, algorithm, vip, POOLS[vip], (HTTP,), persistence)
        guests = tuple(Guest(member_id(n), mac(n), mode, own(n, vip.version)) for n in MEMBERS)
        self.taps.guard(NETWORK, [VIP4, VIP6])
        self.taps.apply(plane.pool_id, replace(plane, frontend=None, guests=guests))
        self.lvs.apply(plane.pool_id, plane)
        return plane

    def open(self, vip: Address) -> tuple[socket.socket, int]:
        """A connection that stays, and its member's number."""
        made = self.client.do(lambda: socket.create_connection((str(vip), HTTP.port), timeout=30))
        return made, int(made.recv(16))

    def connect(self, vip: Address) -> int:
        """The number of the member that answers a new connection."""
        made, number = self.open(vip)
        made.close()
        return number


def serve(namespace: Namespace, number: int) -> socket.socket:
    """A server that tells its number, then repeats what it is told until the client ends."""

    def listener() -> socket.socket:
        return socket.create_server(("", HTTP.port), family=socket.AF_INET6, dualstack_ipv6=True)

    def attend(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"%d" % number)
            while octets := connection.recv(4096):
                connection.sendall(octets)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    listening = namespace.do(listener)
    threading.Thread(target=accept, daemon=True).start()
    return listening


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine keeps what it has made."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Iterator[Site]:
    vips = f"address add {VIP4}/32 dev eth0\naddress add {VIP6}/128 dev eth0 nodad\n"
    with ExitStack() as stack:
        run("ip", "-batch", "-", text=LINKS)
        stack.callback(run, "ip", "-batch", "-", text="link del up0\nlink del br0\n")
        addresses = "address add 192.0.2.1/24 dev up0\naddress add 2001:db8::1/64 dev up0 nodad\n"
        run("ip", "-batch", "-", text=addresses)
        run(
            "sysctl", "-q", "-w", "net.ipv4.conf.br0.arp_ignore=1", "net.ipv4.conf.all.rp_filter=0"
        )
        taps = EbpfEngine(
            Path("/sys/fs/bpf/lvs"), tmp_path_factory.mktemp("objects"), TableSizes(FLOWS)
        )
        stack.callback(taps.close)
        lvs = IpvsEngine(state)
        stack.callback(lvs.close)
        lvs.attach(HostPort(index("up0"), PortKind.UPLINK, NETWORK, UPLINK_MAC))
        client = Namespace("client", 9, mac(9), Mac("fe:54:00:00:00:09"))
        stack.callback(client.close)
        for number in MEMBERS:
            tap = Mac.unpack(b"\xfe" + mac(number).packed[1:])
            namespace = Namespace(f"tap{number}", number, mac(number), tap, vips)
            stack.callback(namespace.close)
            stack.callback(serve(namespace, number).close)
            taps.attach(HostPort(index(namespace.name), PortKind.TAP, NETWORK, tap))
        yield Site(lvs, taps, client)


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    """The site without pools before and after."""
    yield site
    for pool_id in list(site.lvs.observe()):
        site.lvs.apply(pool_id, None)
        site.taps.apply(pool_id, None)


@pytest.mark.parametrize("vip", VIPS)
def test_connections_go_to_the_members_in_turn(clean: Site, vip: Address) -> None:
    clean.apply(vip)
    assert Counter(clean.connect(vip) for _ in range(6)) == {17: 3, 18: 3}


@pytest.mark.parametrize("mode", [Mode.TUN, Mode.EDGE_NAT])
@pytest.mark.parametrize("vip", VIPS)
def test_members_are_reached_in_other_ways_too(clean: Site, vip: Address, mode: Mode) -> None:
    clean.apply(vip, mode=mode)
    assert Counter(clean.connect(vip) for _ in range(4)) == {17: 2, 18: 2}


@pytest.mark.parametrize("vip", VIPS)
def test_it_translates_where_answers_come_back_by_it(clean: Site, vip: Address) -> None:
    forward = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}[vip.version]
    client, director = (own(number, vip.version) for number in (9, 1))
    run("sysctl", "-q", "-w", f"{forward}=1", "net.ipv4.conf.all.send_redirects=0")
    run("sysctl", "-q", "-w", "net.ipv4.conf.up0.send_redirects=0")
    for command in ("add", "del"):
        for number in MEMBERS:
            run("ip", "-n", f"tap{number}", "route", command, str(client), "via", str(director))
        if command == "add":
            clean.apply(vip, mode=Mode.NAT)
            assert Counter(clean.connect(vip) for _ in range(4)) == {17: 2, 18: 2}
    run("sysctl", "-q", "-w", f"{forward}=0")


@pytest.mark.parametrize("vip", VIPS)
def test_a_member_that_is_taken_out_keeps_its_connections(clean: Site, vip: Address) -> None:
    clean.apply(vip)
    stays, number = clean.open(vip)
    clean.apply(vip, idle=(number,))
    assert {clean.connect(vip) for _ in range(4)} == set(MEMBERS) - {number}
    stays.sendall(b"still there?")
    assert stays.recv(64) == b"still there?"
    stays.close()


def test_clients_stay_with_their_member_where_that_is_wanted(clean: Site) -> None:
    clean.apply(VIP4, persistence=Persistence(60, 24))
    assert len({clean.connect(VIP4) for _ in range(4)}) == 1


@pytest.mark.parametrize("vip", VIPS)
def test_what_was_applied_is_observed_also_by_another_engine(
    clean: Site, vip: Address, state: Path
) -> None:
    plane = clean.apply(vip, Algorithm.WLC_LVS, persistence=Persistence(60, 24))
    assert clean.lvs.observe() == {plane.pool_id: plane}
    later = IpvsEngine(state)
    assert later.observe() == {plane.pool_id: plane}
    later.close()


def test_what_somebody_else_removed_is_missed_and_made_again(clean: Site) -> None:
    plane = clean.apply(VIP4)
    table = VirtualServers()
    table.remove_service(Virtual(VIP4, 6, HTTP.port))
    table.close()
    assert clean.lvs.observe() != {plane.pool_id: plane}
    clean.apply(VIP4)
    assert clean.lvs.observe() == {plane.pool_id: plane}


def test_virtual_servers_of_others_are_left_alone(clean: Site) -> None:
    table = VirtualServers()
    table.put_service(FOREIGN, Service("rr"), is_new=True)
    plane = clean.apply(VIP4)
    assert set(clean.lvs.observe()) == {plane.pool_id}
    clean.lvs.apply(plane.pool_id, None)
    assert set(table.services()) == {FOREIGN}
    table.remove_service(FOREIGN)
    table.close()


def test_a_pool_that_is_gone_leaves_nothing(clean: Site) -> None:
    plane = clean.apply(VIP4)
    clean.lvs.apply(plane.pool_id, None)
    assert clean.lvs.observe() == {}
    assert str(VIP4) not in run("ip", "address", "show", "dev", "up0")
    with pytest.raises(OSError):
        clean.open(VIP4)


def test_connections_are_counted_and_listed(clean: Site) -> None:
    plane = clean.apply(VIP4)
    before = sum(c.connections for c in clean.lvs.counters(plane.pool_id))
    stays, number = clean.open(VIP4)
    (counted,) = (c for c in clean.lvs.counters(plane.pool_id) if c.active)
    assert (counted.member_id, counted.active) == (member_id(number), 1)
    (flow,) = (f for f in clean.lvs.flows(plane.pool_id, 100) if f.state is FlowState.ESTABLISHED)
    assert (flow.client, flow.port, flow.member_id) == (own(9, 4), HTTP, member_id(number))
    deadline = time.monotonic() + 20
    while sum(c.connections for c in clean.lvs.counters(plane.pool_id)) <= before:
        assert time.monotonic() < deadline, "the kernel sums its counters every two seconds"
        time.sleep(0.1)
    stays.close()


def test_what_lvs_cannot_do_is_refused_by_name(clean: Site) -> None:
    with pytest.raises(EngineError, match="does not schedule by wrr_smooth"):
        clean.apply(VIP4, Algorithm.WRR_SMOOTH)
    with pytest.raises(EngineError, match="none of the pool's family is known"):
        clean.lvs.apply(POOL, director([backend(17)], address=VIP4, ports=(HTTP,)))
    full = replace(backend(17), mode=Mode.FULL_NAT, address=own(17, 4))
    with pytest.raises(EngineError, match="has no full NAT"):
        clean.lvs.apply(POOL, director([full], address=VIP4, ports=(HTTP,)))
    with pytest.raises(EngineError, match="serves no guests"):
        clean.lvs.attach(HostPort(1, PortKind.TAP, NETWORK, UPLINK_MAC))


def test_teardown_leaves_nothing_of_it(clean: Site, state: Path) -> None:
    """The last one: it takes the programs off the taps, too."""
    clean.apply(VIP6)
    assert f"virtual servers of {VIP6}" in list(teardown.remove(Path("/sys/fs/bpf/none"), state))
    with closing(VirtualServers()) as table:
        assert table.services() == {}
    assert str(VIP6) not in run("ip", "address", "show", "dev", "up0")
