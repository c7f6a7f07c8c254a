# SPDX-License-Identifier: Apache-2.0
"""Run inside the guest: connections to pools whose addresses no member has, by the real engine.

The link is that of direct_routing.py. Members listen on a port of their own; between network
namespaces the kernel leaves checksums and segments to be made by devices that never do.
"""

import hashlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Plane, TableSizes
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from tests.guest.inside.direct_routing import LINKS, Namespace, Site, index, run
from tests.packet.conftest import FLOWS, UPLINK_MAC
from tests.planes import NETWORK, VIP4, VIP6, backend, director, mac, translated

MEMBERS = (17, 18)
PINS = Path("/sys/fs/bpf/nat")
VIPS = [pytest.param(VIP4, id="ipv4"), pytest.param(VIP6, id="ipv6")]
OWN_PORT, PORT, BODY = 8080, 80, bytes(n % 251 for n in range(1_000_000))


def own(number: int, vip: Address) -> Address:
    """The address that a namespace has."""
    return ip_address(f"192.0.2.{number}" if vip.version == 4 else f"2001:db8::{number}")


def plane(vip: Address, pool: int) -> Plane:
    """A pool of both members, with its director on the same host."""
    guests = tuple(
        replace(guest, address=own(number, vip))
        for number, guest in zip(MEMBERS, translated(*MEMBERS, port=OWN_PORT).guests, strict=True)
    )
    backends = [
        replace(backend(n), mode=g.mode, address=g.address, port=g.port)
        for n, g in zip(MEMBERS, guests, strict=True)
    ]
    return replace(director(backends, address=vip, pool=pool), guests=guests)


def serve(namespace: Namespace, number: int, kind: int) -> socket.socket:
    """A server that tells the member's number and what it thinks of what it was sent."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", OWN_PORT))
        return made

    opened = namespace.do(make)
    target = _answer_streams if kind == socket.SOCK_STREAM else _answer_datagrams
    threading.Thread(target=target, args=(opened, number), daemon=True).start()
    return opened


def _answer_streams(listening: socket.socket, number: int) -> None:
    listening.listen()
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            got = bytearray()
            while octets := connection.recv(65536):
                got += octets
            connection.sendall(b"%d %s " % (number, hashlib.sha256(got).hexdigest().encode()))
            connection.sendall(BODY)


def _answer_datagrams(opened: socket.socket, number: int) -> None:
    while True:
        try:
            _, peer = opened.recvfrom(2048)
        except OSError:
            return
        opened.sendto(b"%d" % number, peer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The link with everybody on it, and a pool for each family."""
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
            members[number] = namespace = Namespace(f"tap{number}", number, mac(number), tap)
            stack.callback(namespace.close)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                stack.callback(serve(namespace, number, kind).close)
            engine.attach(HostPort(index(namespace.name), PortKind.TAP, NETWORK, tap))
        made = Site(engine, client, members)
        made.apply(plane(VIP4, 1), plane(VIP6, 2))
        engine.guard(NETWORK, (VIP4, VIP6))
        yield made


def exchange(site: Site, address: Address, port: int = PORT) -> int:
    """The member that took a large body and sent one, both as they should be."""
    with site.client.do(
        lambda: socket.create_connection((str(address), port), timeout=30)
    ) as connection:
        connection.sendall(BODY)
        connection.shutdown(socket.SHUT_WR)
        got = bytearray()
        while octets := connection.recv(65536):
            got += octets
    number, digest, body = bytes(got).split(b" ", 2)
    assert digest.decode() == hashlib.sha256(BODY).hexdigest()
    assert body == BODY
    return int(number)


@pytest.mark.parametrize("vip", VIPS)
def test_large_bodies_go_both_ways_through_the_translation(site: Site, vip: Address) -> None:
    assert Counter(exchange(site, vip) for _ in range(4)) == {17: 2, 18: 2}
    assert site.engine.events()["session_clash"] == 0


@pytest.mark.parametrize("vip", VIPS)
def test_members_are_reached_directly_at_the_same_time(site: Site, vip: Address) -> None:
    assert exchange(site, own(17, vip), OWN_PORT) == 17


@pytest.mark.parametrize("vip", VIPS)
def test_datagrams_are_answered_from_the_address(site: Site, vip: Address) -> None:
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    answers = []
    for _ in range(4):
        with site.client.do(lambda: socket.socket(family, socket.SOCK_DGRAM)) as asking:
            asking.settimeout(30)
            asking.connect((str(vip), 53))
            asking.send(b"who")
            answers.append(int(asking.recv(16)))
    assert Counter(answers) == {17: 2, 18: 2}


@pytest.mark.parametrize("vip", VIPS)
def test_an_error_of_a_member_reaches_the_socket_that_it_is_about(
    site: Site, vip: Address
) -> None:
    site.apply(*(_without_ports(plane(v, n)) for v, n in ((VIP4, 1), (VIP6, 2))))
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    with site.client.do(lambda: socket.socket(family, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(30)
        asking.connect((str(vip), 53))
        asking.send(b"who")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(16)


def _without_ports(plane: Plane) -> Plane:
    """Nobody listens on the virtual port."""
    assert plane.frontend
    backends = tuple(replace(b, port=None) for b in plane.frontend.backends)
    guests = tuple(replace(guest, port=None) for guest in plane.guests)
    frontend = replace(plane.frontend, backends=backends)
    return replace(plane, frontend=frontend, guests=guests)
