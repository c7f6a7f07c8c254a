# SPDX-License-Identifier: Apache-2.0
"""A link with a client, a director and four members, each a network namespace, on one kernel.

Members are on the link themselves, or each behind the bridge of a host of its own. The client has
addresses of its own networks, so that answers of members can be sent through the director (NAT) or
straight to the client (all others). Members hold the pools' addresses without answering for them,
as LVS asks it of them.
"""

import contextlib
import ctypes
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address

T = TypeVar("T")
TCP_PORT, UDP_PORT = 80, 9
VIP: dict[int, Address] = {4: ip_address("192.0.2.100"), 6: ip_address("2001:db8::100")}
MEMBERS = (17, 18, 19, 20)
CLIENT, DIRECTOR = 9, 1
HOSTS = tuple(member + 16 for member in MEMBERS)
ROUTE = {4: "198.51.100.0/24", 6: "2001:db8:c::/64"}
"""The client's network, by family."""
_BRIDGE = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
_CLONE_NEWNET = 0x40000000
_SETTINGS = """net.ipv4.conf.all.arp_ignore=1
net.ipv4.conf.all.arp_announce=2
net.ipv4.conf.all.rp_filter=0
net.ipv4.conf.default.rp_filter=0
net.ipv4.conf.eth0.rp_filter=0
"""
HASH_BY_PORTS = ("net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1")
"""Routes with several next hops are chosen by ports, too."""


def own(number: int, version: int) -> Address:
    """A machine's address in the pools' network."""
    return ip_address(f"192.0.2.{number}" if version == 4 else f"2001:db8::{number}")


def client_address(version: int) -> Address:
    """The client's address."""
    return ip_address(f"198.51.100.{CLIENT}" if version == 4 else f"2001:db8:c::{CLIENT}")


def mac(number: int) -> Mac:
    """A machine's Ethernet address."""
    return Mac.unpack(b"\x52\x54\x00\x00\x00" + bytes([number]))


def tap_mac(number: int) -> Mac:
    """That of the host's end of its link, as libvirt gives it."""
    return Mac.unpack(b"\xfe\x54\x00\x00\x00" + bytes([number]))


def run(*command: str, text: str | None = None) -> str:
    """The output of a program that succeeds."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


class Machine:
    """A network namespace on the link; sockets made in it belong to it wherever they are used."""

    def __init__(self, name: str, number: int, host: "Machine | None" = None) -> None:
        self.name, self.number = name, number
        run("ip", "netns", "add", name)
        peer = f"peer name eth0 address {mac(number)} netns {name}"
        link = f"link add {name} address {tap_mac(number)} type veth {peer}\n"
        plugged = f"{link}link set {name} master br0\nlink set {name} up\n"
        if host:
            host.ip(plugged)
        else:
            run("ip", "-batch", "-", text=plugged)
        self.ip("link set lo up\nlink set eth0 up\n")
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)

    def ip(self, commands: str) -> None:
        """Commands of `ip` in the namespace, a line each."""
        run("ip", "-n", self.name, "-batch", "-", text=commands)

    def run(self, *command: str, text: str | None = None) -> str:
        """The output of a program in the namespace."""
        return run("nsenter", f"--net=/run/netns/{self.name}", *command, text=text)

    def set(self, *settings: str) -> None:
        """Kernel settings, as name=value."""
        self.run("sysctl", "-q", "-w", *settings)

    def do(self, action: Callable[[], T]) -> T:
        """Have something done by a thread in the namespace."""
        return self._thread.submit(action).result()

    def _enter(self) -> None:
        with Path("/run/netns", self.name).open() as pin:
            if ctypes.CDLL(None, use_errno=True).setns(pin.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns", self.name)


@dataclass(frozen=True)
class Rig:
    """The machines on the link; ``hosts`` are those of the members, in their order, if any."""

    client: Machine
    director: Machine
    members: tuple[Machine, ...]
    hosts: tuple[Machine, ...] = ()

    def answers_through(self, version: int, *, director: bool) -> None:
        """Members' answers go through the director, or straight to the client."""
        via = f"via {own(DIRECTOR, version)} " if director else ""
        for member in self.members:
            member.ip(f"route replace {ROUTE[version]} {via}dev eth0\n")

    def delivered(self, device: str = "eth0") -> int:
        """Datagrams that members have got; they are dropped as soon as they are counted."""
        return sum(
            int(line.split("packets")[1].split()[0])
            for member in self.members
            for line in member.run(
                "nft", "list", "table", "netdev", f"count_{device}"
            ).splitlines()
            if "packets" in line
        )


def build(*, behind_hosts: bool = False) -> Rig:
    """The link with everybody on it; it goes with the guest, or the bridge's namespace."""
    run("ip", "-batch", "-", text=f"{_BRIDGE}link set lo up\nlink set br0 up\n")
    client = Machine("client", CLIENT)
    director = Machine("director", DIRECTOR)
    hosts = tuple(_host(number) for number in HOSTS) if behind_hosts else ()
    members = tuple(
        Machine(f"tap{number}", number, host)
        for number, host in zip(MEMBERS, hosts or (None,) * len(MEMBERS), strict=True)
    )
    for version in VIP:
        length, wide = (24, 32) if version == 4 else (64, 128)
        nodad = "" if version == 4 else " nodad"
        client.ip(f"address add {client_address(version)}/{length} dev eth0{nodad}\n")
        client.ip(f"route add {own(0, version)}/{length} dev eth0\n")
        for machine in (director, *members):
            machine.ip(f"address add {own(machine.number, version)}/{length} dev eth0{nodad}\n")
        director.ip(f"route add {ROUTE[version]} dev eth0\n")
        for member in members:
            member.ip(f"address add {VIP[version]}/{wide} dev lo{nodad}\n")
    for machine in (client, *members):
        machine.set(*_SETTINGS.splitlines(), *HASH_BY_PORTS)
    for member in members:
        _count(member, "eth0")
    return Rig(client, director, members, hosts)


def _host(number: int) -> Machine:
    """A machine whose uplink is in a bridge that has its addresses, as on a compute host."""
    host = Machine(f"host{number}", number)
    bridge = _BRIDGE.replace("br0", f"br0 address {mac(number)}")
    host.ip(f"{bridge}link set eth0 master br0\nlink set br0 up\n")
    for version in VIP:
        length, nodad = (24, "") if version == 4 else (64, " nodad")
        host.ip(f"address add {own(number, version)}/{length} dev br0{nodad}\n")
        host.ip(f"route add {ROUTE[version]} dev br0\n")
    return host


def _count(member: Machine, device: str) -> None:
    """Datagrams of the benchmark end where they reach a device."""
    member.run("nft", "-f", "-", text=f"""table netdev count_{device} {{
  chain arrivals {{
    type filter hook ingress device {device} priority 0;
    udp dport {UDP_PORT} counter drop
  }}
}}
""")  # fmt: skip


def count_behind_tunnel(rig: Rig, device: str) -> None:
    """Count where a member's own tunnel device has unwrapped; its packets pass ``eth0``."""
    for member in rig.members:
        _count(member, device)


def serve(member: Machine) -> None:
    """A server that sends an octet to whoever connects, over both families."""
    listening = member.do(
        lambda: socket.create_server(("", TCP_PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    )

    def answer() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"x")
                connection.recv(1)

    threading.Thread(target=answer, daemon=True).start()


@contextlib.contextmanager
def forwarding(rig: Rig) -> Iterator[None]:
    """The director's kernel forwards."""
    rig.director.set("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    rig.director.set("net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
    yield
    rig.director.set("net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")


@contextlib.contextmanager
def address_of_director(rig: Rig, version: int) -> Iterator[None]:
    """The director's kernel answers for the pool's address and forwards."""
    wide, device = (32, "lo") if version == 4 else (128, "eth0")
    nodad = "" if version == 4 else " nodad"
    with forwarding(rig):
        rig.director.ip(f"address add {VIP[version]}/{wide} dev {device}{nodad}\n")
        yield
        rig.director.ip(f"address del {VIP[version]}/{wide} dev {device}\n")
