# SPDX-License-Identifier: Apache-2.0
"""Run inside the guest: connections through a pool's addresses to two members, by the real engine.

A bridge joins a client, the uplink of a director and the taps of two members; client and members
are network namespaces. The members hold the pool's addresses on their own interface, where a
kernel answers for them unless a guard stands in the way.
"""

import ctypes
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Algorithm, Plane, TableSizes
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from tests.packet.conftest import FLOWS, UPLINK_MAC
from tests.packet.frames import arp
from tests.planes import NETWORK, VIP4, VIP6, backend, backends, both, compute, director, mac

T = TypeVar("T")
MEMBERS = (17, 18)
VIPS = [pytest.param(VIP4, id="ipv4"), pytest.param(VIP6, id="ipv6")]
PINS = Path("/sys/fs/bpf/site")
_CLONE_NEWNET = 0x40000000
_PORT = 80
LINKS = f"""link add br0 type bridge
link set br0 up
link add up0 address {UPLINK_MAC} type veth peer name up1
link set up1 master br0
link set up1 up
link set up0 up
"""


class Namespace:
    """A network namespace: sockets that are made in it belong to it wherever they are used."""

    def __init__(self, name: str, number: int, hardware: Mac, port: Mac, vips: str = "") -> None:
        self.name = name
        run("ip", "netns", "add", name)
        commands = f"""link add eth0 netns {name} address {hardware} type veth peer name {name}
link set {name} address {port} master br0
link set {name} up
"""
        run("ip", "-batch", "-", text=commands)
        commands = f"""address add 192.0.2.{number}/24 dev eth0
address add 2001:db8::{number}/64 dev eth0 nodad
{vips}link set lo up
link set eth0 up
"""
        run("ip", "-n", name, "-batch", "-", text=commands)
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)

    def do(self, action: Callable[[], T]) -> T:
        """Have something done in the namespace."""
        return self._thread.submit(action).result()

    def neighbour(self, address: Address) -> str:
        """The Ethernet address that the kernel there has for an address."""
        words = run("ip", "-n", self.name, "neighbour", "show", str(address)).split()
        return words[words.index("lladdr") + 1]

    def close(self) -> None:
        """End the namespace, and the link into it."""
        self._thread.shutdown()
        run("ip", "netns", "delete", self.name)

    def _enter(self) -> None:
        with Path("/run/netns", self.name).open() as pin:
            if ctypes.CDLL(None, use_errno=True).setns(pin.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns", self.name)


@dataclass
class Site:
    """A director and two members on one link, and a client."""

    engine: EbpfEngine
    client: Namespace
    members: dict[int, Namespace]

    def apply(self, *planes: Plane) -> None:
        """Have the engine realize planes."""
        for plane in planes:
            self.engine.apply(plane.pool_id, plane)

    def connect(self, vip: Address) -> int:
        """The number of the member that answers a new connection to a pool's address."""
        with self.client.do(
            lambda: socket.create_connection((str(vip), _PORT), timeout=30)
        ) as connection:
            return int(connection.recv(16))


def run(*command: str, text: str | None = None) -> str:
    """The output of a program that succeeds."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def serve(namespace: Namespace, number: int) -> socket.socket:
    """A server that tells the member's number to whoever connects, over IPv4 and IPv6."""

    def listener() -> socket.socket:
        address = ("", _PORT)
        return socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)

    listening = namespace.do(listener)

    def answer() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"%d" % number)

    threading.Thread(target=answer, daemon=True).start()
    return listening


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The link with everybody on it, before any pool."""
    vips = f"address add {VIP4}/32 dev eth0\naddress add {VIP6}/128 dev eth0 nodad\n"
    with ExitStack() as stack:
        run("ip", "-batch", "-", text=LINKS)
        stack.callback(run, "ip", "-batch", "-", text="link del up0\nlink del br0\n")
        engine = EbpfEngine(PINS, tmp_path_factory.mktemp("objects"), TableSizes(FLOWS))
        stack.callback(engine.close)
        engine.attach(HostPort(index("up0"), PortKind.UPLINK, NETWORK, UPLINK_MAC))
        client = Namespace("client", 9, mac(9), Mac("fe:54:00:00:00:09"))
        stack.callback(client.close)
        members = {}
        for number in MEMBERS:
            tap = Mac.unpack(b"\xfe" + mac(number).packed[1:])
            namespace = Namespace(f"tap{number}", number, mac(number), tap, vips)
            stack.callback(namespace.close)
            stack.callback(serve(namespace, number).close)
            engine.attach(HostPort(index(namespace.name), PortKind.TAP, NETWORK, tap))
            members[number] = namespace
        yield Site(engine, client, members)


def index(interface: str) -> int:
    """The kernel's number of an interface."""
    return socket.if_nametoindex(interface)


@pytest.fixture
def pools(site: Site) -> Site:
    """The site with a pool for each family, guarded at the members' taps."""
    guarded = [
        both(director(backends(*MEMBERS), address=vip, pool=pool), *MEMBERS)
        for pool, vip in ((1, VIP4), (2, VIP6))
    ]
    site.apply(*guarded)
    site.engine.guard(NETWORK, (VIP4, VIP6))
    return site


@pytest.mark.parametrize("vip", VIPS)
def test_connections_to_the_address_go_to_the_members_in_turn(pools: Site, vip: Address) -> None:
    assert Counter(pools.connect(vip) for _ in range(6)) == {17: 3, 18: 3}


@pytest.mark.parametrize("vip", VIPS)
def test_the_client_finds_the_director_though_members_hold_the_address(
    pools: Site, vip: Address
) -> None:
    dropped = pools.engine.events()["guard_drop"]
    for _ in range(3):
        run("ip", "-n", "client", "neighbour", "flush", "dev", "eth0")
        pools.connect(vip)
        assert pools.client.neighbour(vip) == str(UPLINK_MAC)
    assert pools.engine.events()["guard_drop"] >= dropped + 3 * len(MEMBERS)


def test_a_member_that_claims_the_address_is_not_heard(pools: Site) -> None:
    pools.connect(VIP4)
    dropped = pools.engine.events()["guard_drop"]
    with pools.members[17].do(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
        wire.bind(("eth0", 0))
        wire.send(arp(VIP4, VIP4, op=2, hardware=mac(17)))
    assert pools.engine.events()["guard_drop"] == dropped + 1
    assert pools.client.neighbour(VIP4) == str(UPLINK_MAC)


def test_a_member_that_is_taken_out_gets_no_more_connections(pools: Site) -> None:
    rest = (backend(17, idle=True), backend(18))
    pools.apply(both(director(rest), *MEMBERS))
    assert [pools.connect(VIP4) for _ in range(4)] == [18] * 4


@pytest.mark.parametrize("scheduler", Algorithm)
def test_what_was_applied_is_observed(pools: Site, scheduler: Algorithm) -> None:
    members = (backend(17, 5), backend(18, idle=True), backend(4, 0))
    four = both(director(members, scheduler, VIP4, pool=1), 18)
    six = compute(17, address=VIP6, pool=2)
    pools.apply(four, six)
    assert pools.engine.observe() == {four.pool_id: four, six.pool_id: six}
    pools.engine.apply(four.pool_id, None)
    assert pools.engine.observe() == {six.pool_id: six}


def test_an_engine_that_starts_later_observes_the_same(pools: Site, tmp_path: Path) -> None:
    later = EbpfEngine(PINS, tmp_path, TableSizes(FLOWS))
    try:
        assert later.observe() == pools.engine.observe()
        assert later.ports() == {index(name) for name in ("up0", "tap17", "tap18")}
    finally:
        later.close()
