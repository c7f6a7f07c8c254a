# SPDX-License-Identifier: Apache-2.0
"""What stands between client and members of a rig: nobody, the kernel's own ways, cloudlb."""

import contextlib
import itertools
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from pyroute2 import IPVS, IPVSDest, IPVSService

from benchmarks.proxy import haproxy
from benchmarks.rig import (
    DIRECTOR,
    HASH_BY_PORTS,
    MEMBERS,
    TCP_PORT,
    UDP_PORT,
    VIP,
    Rig,
    address_of_director,
    count_behind_tunnel,
    forwarding,
    mac,
    own,
    tap_mac,
)
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Algorithm, Backend, Frontend, Guest, Mode, Plane, TableSizes
from cloudlb.model.pool import Port, Protocol

NETWORK = 7
POOL = UUID(int=1)
PORTS = (Port(Protocol.TCP, TCP_PORT), Port(Protocol.UDP, UDP_PORT))
IDS = tuple(UUID(int=number) for number in MEMBERS)
_MASQUERADE, _TUNNEL, _DIRECT_ROUTE = 0, 2, 3  # linux/ip_vs.h, IP_VS_CONN_F_…
_SIZES = TableSizes(flows=32768, clients=1024, fragments=1024, members=1024)
_LOOK_AT_EVENTS = (
    "no_member",
    "no_service",
    "table_full",
    "session_clash",
    "no_tunnel",
    "no_alias",
)

Way = Callable[[Rig, int], "contextlib.AbstractContextManager[None]"]
"""Brings a director about for a rig and a family, and takes it away."""


@contextlib.contextmanager
def nobody(rig: Rig, version: int) -> Iterator[None]:
    """The client itself spreads its packets over routes to the members, by a hash."""
    rig.answers_through(version, director=False)
    hops = " ".join(f"nexthop via {own(number, version)} dev eth0" for number in MEMBERS)
    rig.client.ip(f"route add {VIP[version]} {hops}\n")
    yield
    rig.client.ip(f"route del {VIP[version]}\n")


@contextlib.contextmanager
def plain_hop(rig: Rig, version: int) -> Iterator[None]:
    """A machine in the director's place spreads by routes; answers do not come by it."""
    rig.answers_through(version, director=False)
    hops = " ".join(f"nexthop via {own(number, version)} dev eth0" for number in MEMBERS)
    with forwarding(rig):
        rig.director.set(*HASH_BY_PORTS)
        rig.director.ip(f"route add {VIP[version]} {hops}\n")
        rig.client.ip(f"route add {VIP[version]} via {own(DIRECTOR, version)}\n")
        yield
        rig.client.ip(f"route del {VIP[version]}\n")
        rig.director.ip(f"route del {VIP[version]}\n")


@contextlib.contextmanager
def nft_dnat(rig: Rig, version: int) -> Iterator[None]:
    """nftables' DNAT with conntrack, members in turn; answers come back through the director."""
    family = "ip" if version == 4 else "ip6"
    targets = ", ".join(f"{turn} : {own(n, version)}" for turn, n in enumerate(MEMBERS))
    rule = (
        f"{family} daddr {VIP[version]} dnat to numgen inc mod {len(MEMBERS)} map {{ {targets} }}"
    )
    rig.answers_through(version, director=True)
    with address_of_director(rig, version):
        rig.director.run("nft", "-f", "-", text=f"""table {family} bench {{
  chain steer {{ type nat hook prerouting priority -100; {rule}; }}
}}
""")  # fmt: skip
        yield
        rig.director.run("nft", "delete", "table", family, "bench")


@contextlib.contextmanager
def nft_dr(rig: Rig, version: int) -> Iterator[None]:
    """nftables at the device: other Ethernet addresses by a hash, nothing remembered."""
    family, table = ("ip" if version == 4 else "ip6"), "netdev bench"
    targets = ", ".join(f"{turn} : {mac(n)}" for turn, n in enumerate(MEMBERS))
    rule = (
        f"{family} daddr {VIP[version]} ether saddr set {mac(DIRECTOR)} ether daddr set "
        f"jhash {family} saddr . th sport mod {len(MEMBERS)} map {{ {targets} }} fwd to eth0"
    )
    rig.answers_through(version, director=False)
    with address_of_director(rig, version):
        rig.director.run("nft", "-f", "-", text=f"""table {table} {{
  chain steer {{ type filter hook ingress device eth0 priority 0;
    meta l4proto {{ tcp, udp }} {rule}; }}
}}
""")  # fmt: skip
        yield
        rig.director.run("nft", "delete", "table", *table.split())


def ipvs(method: int) -> Way:
    """LVS, round robin, by a forwarding method."""

    @contextlib.contextmanager
    def balance(rig: Rig, version: int) -> Iterator[None]:
        rig.answers_through(version, director=method == _MASQUERADE)
        with address_of_director(rig, version):
            rig.director.set("net.ipv4.vs.conntrack=0")
            services = [_service(rig, version, method, port) for port in PORTS]
            yield
            for service in services:
                rig.director.do(partial(_change_service, "del", service))

    return balance


def _service(rig: Rig, version: int, method: int, port: Port) -> IPVSService:
    number = socket.IPPROTO_TCP if port.protocol is Protocol.TCP else socket.IPPROTO_UDP
    service = IPVSService(addr=str(VIP[version]), port=port.port, protocol=number, sched_name="rr")
    rig.director.do(partial(_change_service, "add", service))
    for member in MEMBERS:
        dest = IPVSDest(
            addr=str(own(member, version)), port=port.port, weight=1, fwd_method=method
        )
        rig.director.do(partial(_add_server, service, dest))
    return service


def _change_service(action: str, service: IPVSService) -> None:
    with IPVS() as channel:
        channel.service(action, service)


def _add_server(service: IPVSService, server: IPVSDest) -> None:
    with IPVS() as channel:
        channel.dest("add", service, server)


@contextlib.contextmanager
def lvs_tunnel(rig: Rig, version: int) -> Iterator[None]:
    """LVS by IPIP; members unwrap it by a tunnel device of their own."""
    for member in rig.members:
        member.ip("link set tunl0 up\n")
        member.set("net.ipv4.conf.tunl0.rp_filter=0")
    count_behind_tunnel(rig, "tunl0")
    for member in rig.members:
        member.run("nft", "delete", "table", "netdev", "count_eth0")
    with ipvs(_TUNNEL)(rig, version):
        yield


def cloudlb(mode: Mode) -> Way:
    """cloudlb: its director's program, and its programs at all members' taps, both ways."""

    @contextlib.contextmanager
    def balance(rig: Rig, version: int) -> Iterator[None]:
        with cloudlb_programs(rig) as programs, balancing(programs, mode, rig, version):
            yield

    return balance


@dataclass(frozen=True)
class Programs:
    """Those of an engine, which can be taken out of the packets' way; ``do`` runs at its place."""

    engine: EbpfEngine
    ports: tuple[HostPort, ...]
    do: Callable[[Callable[[], None]], None]

    def put_on(self) -> None:
        """Attach them; the engine knows its planes before and after."""
        for port in self.ports:
            self.do(partial(self.engine.attach, port))

    def take_off(self) -> None:
        """Detach them."""
        for port in self.ports:
            self.do(partial(self.engine.detach, port.index))


@contextlib.contextmanager
def cloudlb_programs(rig: Rig) -> Iterator[tuple[Programs, Programs]]:
    """The director's and those at the members' taps, not yet in the packets' way."""
    number = next(_NUMBERS)
    uplink = rig.director.do(lambda: socket.if_nametoindex("eth0"))
    addresses = tuple(own(DIRECTOR, v) for v in VIP)
    port = HostPort(uplink, PortKind.UPLINK, NETWORK, mac(DIRECTOR), addresses)
    taps = tuple(
        HostPort(socket.if_nametoindex(f"tap{member}"), PortKind.TAP, NETWORK, tap_mac(member))
        for member in MEMBERS
    )
    with (
        programs_with_maps(f"director{number}", (port,), rig.director.do) as director,
        programs_with_maps(f"host{number}", taps, lambda action: action()) as host,
    ):
        yield director, host


@contextlib.contextmanager
def programs_with_maps(
    name: str, ports: tuple[HostPort, ...], do: Callable[[Callable[[], Any]], Any]
) -> Iterator[Programs]:
    """They go with their maps: those of all ways together would not find room."""
    pins = Path("/sys/fs/bpf", name)
    programs = Programs(do(partial(engine_at, pins)), ports, do)
    yield programs
    do(programs.engine.close)
    shutil.rmtree(pins)


@contextlib.contextmanager
def balancing(
    programs: tuple[Programs, Programs], mode: Mode, rig: Rig, version: int
) -> Iterator[None]:
    """Programs in the packets' way with a pool's planes; nothing of it is left afterwards."""
    director, host = programs
    rig.answers_through(version, director=mode is Mode.NAT)
    planes = {
        director: plane_of_director(mode, version),
        host: Plane(POOL, NETWORK, VIP[version], guests=_guests(mode, version)),
    }
    with _without_address(rig, version) if mode is Mode.FULL_NAT else contextlib.nullcontext():
        for each, plane in planes.items():
            each.put_on()
            each.do(partial(each.engine.guard, NETWORK, [VIP[version]]))
            each.do(partial(each.engine.apply, POOL, plane))
        yield
        for each in planes:
            look_at_events(each.engine)
            each.take_off()
            each.do(partial(each.engine.apply, POOL, None))
            each.do(each.engine.sweep)


@contextlib.contextmanager
def _without_address(rig: Rig, version: int) -> Iterator[None]:
    """Members do not hold the pool's address, which is the client's to them."""
    held = f"{VIP[version]}/{32 if version == 4 else 128} dev lo"
    for member in rig.members:
        member.ip(f"address del {held}\n")
    yield
    for member in rig.members:
        member.ip(f"address add {held}{'' if version == 4 else ' nodad'}\n")


_NUMBERS = itertools.count()


def engine_at(pins: Path) -> EbpfEngine:
    """An engine with tables that leave room for others."""
    objects = Path("/run/objects")
    objects.mkdir(exist_ok=True)
    return EbpfEngine(pins, objects, _SIZES)


def plane_of_director(mode: Mode, version: int) -> Plane:
    """All members in turn."""
    backends = tuple(
        Backend(id_, mode, mac(number), 1, address=own(number, version))
        for id_, number in zip(IDS, MEMBERS, strict=True)
    )
    frontend = Frontend(Algorithm.ROUND_ROBIN, PORTS, backends)
    return Plane(POOL, NETWORK, VIP[version], frontend)


def _guests(mode: Mode, version: int) -> tuple[Guest, ...]:
    return tuple(
        Guest(id_, mac(number), mode, own(number, version))
        for id_, number in zip(IDS, MEMBERS, strict=True)
    )


def look_at_events(engine: EbpfEngine) -> None:
    """Nothing was lost on a path that is not the one to be measured."""
    counted = engine.events()
    if lost := {name: counted[name] for name in _LOOK_AT_EVENTS if counted[name]}:
        raise RuntimeError(f"packets took another way: {lost}")


@dataclass(frozen=True)
class Contender:
    """A way, the families that it is measured in, and what it forwards."""

    way: Way
    versions: tuple[int, ...] = (4, 6)
    kinds: tuple[str, ...] = ("udp", "tcp")


MODES = {
    "cloudlb dr": Mode.DR,
    "cloudlb nat": Mode.EDGE_NAT,
    "cloudlb director nat": Mode.NAT,
    "cloudlb full nat": Mode.FULL_NAT,
    "cloudlb tun": Mode.TUN,
}
CONTENDERS = {
    "direct": Contender(nobody),
    "nft dnat": Contender(nft_dnat),
    "nft dr": Contender(nft_dr, (4,)),
    "haproxy": Contender(haproxy, (4,), ("tcp",)),
    "ipvs nat": Contender(ipvs(_MASQUERADE), (4,)),
    "ipvs dr": Contender(ipvs(_DIRECT_ROUTE), (4,)),
    **{name: Contender(cloudlb(mode)) for name, mode in MODES.items()},
    "ipvs tun": Contender(lvs_tunnel, (4,)),
}
"""LVS' tunnel last: it changes the members."""
