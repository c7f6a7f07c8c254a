# SPDX-License-Identifier: Apache-2.0
"""Pools whose members are reached through tunnels, and what goes through them by scapy."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.model.schedule import flow_hash
from cloudlb.net.bpf.layout import Number
from tests.packet.conftest import TAP_MAC, UPLINK_MAC, Bench
from tests.planes import NETWORK, VIP4, VIP6, backend, both, director, guest

DIRECTOR4, DIRECTOR6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
OWN4, OWN6 = IPv4Address("192.0.2.17"), IPv6Address("2001:db8::17")
MTU = 1500
GUEST = 17


@dataclass(frozen=True)
class Way:
    """A pool's address and the own address of its one member, which is behind the tap."""

    pool: int
    vip: Address
    own: Address

    def __str__(self) -> str:
        return f"{self.vip.version}in{self.own.version}"

    @property
    def overhead(self) -> int:
        return 20 if self.own.version == 4 else 40

    @property
    def plane(self) -> Plane:
        """On a host that directs the pool and has its member."""
        member = replace(backend(GUEST), mode=Mode.TUN, address=self.own)
        whole = both(director([member], address=self.vip, pool=self.pool), GUEST)
        return replace(whole, guests=(replace(guest(GUEST), mode=Mode.TUN, address=self.own),))


WAYS = (
    Way(1, VIP4, OWN4),
    Way(2, VIP4 + 1, OWN6),
    Way(3, VIP6, OWN6),
    Way(4, VIP6 + 1, OWN4),
)


def attach(bench: Bench, addresses: tuple[Address, ...] = (DIRECTOR4, DIRECTOR6)) -> None:
    """Tell the programs the director's addresses and the links' MTU."""
    bench.engine.attach(
        HostPort(bench.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC, addresses, MTU)
    )
    bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK, TAP_MAC, mtu=MTU))


def number(interface: int) -> Number:
    """The key of an interface's port."""
    return Number(interface)


def prepare(bench: Bench) -> Bench:
    """A bench with a pool for each combination of families."""
    attach(bench)
    bench.apply(*(way.plane for way in WAYS))
    return bench


def label(bench: Bench, way: Way, client: Address, sport: int, port: Port) -> int:
    """The flow label of a connection's tunnel."""
    pool_id = UUID(int=way.pool).bytes
    (number,) = (key.value for key, record in bench.maps.pools.items() if record.id == pool_id)
    return flow_hash(client, sport, port.port, number) & 0xFFFFF


def wrapped(
    frame: bytes,
    own: Address,
    *,
    source: Address | None = None,
    tos: int = 0,
    dont_fragment: bool = True,
    flow_label: int = 0,
    length: int | None = None,
) -> bytes:
    """The frame with its packet inside another; ``length`` is the packet's, without padding."""
    packet = frame[14:]
    inside = {4: 4, 6: 41}[packet[0] >> 4]
    size = len(packet) if length is None else length
    if own.version == 4:
        outer = IP(
            src=str(source or DIRECTOR4),
            dst=str(own),
            ttl=64,
            tos=tos,
            id=0,
            flags="DF" if dont_fragment else 0,
            proto=inside,
            len=size + 20,
        )
        kind = b"\x08\x00"
    else:
        outer = IPv6(
            src=str(source or DIRECTOR6),
            dst=str(own),
            hlim=64,
            tc=tos,
            fl=flow_label,
            nh=inside,
            plen=size,
        )
        kind = b"\x86\xdd"
    return frame[:12] + kind + bytes(outer / Raw(packet))


TCP80 = Port(Protocol.TCP, 80)
UDP53 = Port(Protocol.UDP, 53)
