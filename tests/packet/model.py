# SPDX-License-Identifier: Apache-2.0
"""What a director with round robin shall do, said a second time and without a kernel.

Sources: the requirements L4, L9 and L24, and RFC 9293 for what opens and closes a connection. The
only thing shared with the programs is the hash, which has vectors of its own.
"""

from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw

from cloudlb.model import schedule
from cloudlb.model.network import Address
from tests.packet.conftest import SEED, UPLINK_MAC
from tests.packet.frames import client_of, ether


@dataclass(frozen=True)
class Sent:
    """A client's packet, by what matters to a director."""

    protocol: str
    vip: Address
    client: int
    sport: int
    dport: int
    flags: str
    to_host: bool = True
    vlan: bool = False
    fragment: bool = False
    elsewhere: bool = False
    payload: bytes = b""

    @property
    def source(self) -> Address:
        return client_of(self.vip, self.client)

    @property
    def destination(self) -> Address:
        return self.vip + 1 if self.elsewhere else self.vip

    def frame(self) -> bytes:
        """The packet as scapy encodes it."""
        header = ether(UPLINK_MAC if self.to_host else "02:00:00:00:00:77")
        if self.vlan:
            header /= Dot1Q(vlan=5)
        return bytes(header / self._network() / self._transport() / self.payload)

    def _network(self) -> Packet:
        source, destination = str(self.source), str(self.destination)
        if self.vip.version == 4:
            return IP(src=source, dst=destination, flags="MF" if self.fragment else "")
        packet = IPv6(src=source, dst=destination)
        return packet / IPv6ExtHdrFragment(m=1) if self.fragment else packet

    def _transport(self) -> Packet:
        six = self.vip.version == 6
        if self.protocol == "tcp":
            return TCP(sport=self.sport, dport=self.dport, flags=self.flags)
        if self.protocol == "udp":
            return UDP(sport=self.sport, dport=self.dport)
        if self.protocol == "echo":
            return ICMPv6EchoRequest() if six else ICMP()
        if self.protocol == "icmp":
            return (ICMPv6PacketTooBig() if six else ICMP(type=3)) / Raw(bytes(40))
        return Raw(b"\0" * 40)


class Key(NamedTuple):
    """What tells connections apart."""

    protocol: str
    client: Address
    sport: int
    address: Address
    dport: int


@dataclass
class Flow:
    """A connection and how far it is."""

    member: int
    state: str


@dataclass
class Director:
    """Pools by address, each with members (number → whether it takes new connections)."""

    pools: dict[Address, dict[int, bool]]
    services: frozenset[tuple[str, int]]
    turns: dict[Address, int] = field(default_factory=dict)
    flows: dict[Key, Flow] = field(default_factory=dict)

    def change(self, vip: Address, members: dict[int, bool]) -> None:
        """Other members; connections of those that are gone are forgotten."""
        gone = self.pools[vip].keys() - members.keys()
        self.pools[vip] = members
        self.flows = {
            key: flow
            for key, flow in self.flows.items()
            if not (key.address == vip and flow.member in gone)
        }

    def verdict(self, p: Sent) -> int | str:
        """A member's number, "pass", "drop" or "answer"."""
        if not p.to_host or p.vlan:
            return "pass"
        if p.protocol in ("tcp", "udp") and not (p.fragment and p.elsewhere):
            return self._connection(p)
        if p.elsewhere:
            return "pass"
        return "answer" if p.protocol == "echo" and not p.fragment else "drop"

    def _connection(self, p: Sent) -> int | str:
        key = Key(p.protocol, p.source, p.sport, p.destination, p.dport)
        flow = self.flows.get(key)
        opening = p.protocol == "tcp" and "S" in p.flags and "A" not in p.flags
        if flow and not (opening and self._is_another(p, flow)):
            flow.state = _next(flow.state, p)
            return flow.member
        if p.elsewhere:
            return "pass"
        if (p.protocol, p.dport) not in self.services:
            return "drop"
        rotation = [number for number, takes in self.pools[p.vip].items() if takes]
        if not rotation:
            return "drop"
        member = self._choose(p, rotation, fresh=opening or p.protocol == "udp")
        self.flows[key] = Flow(member, "opening")
        return member

    def _is_another(self, p: Sent, flow: Flow) -> bool:
        takes_new = self.pools[p.vip][flow.member]
        return flow.state == "closing" or (flow.state == "opening" and not takes_new)

    def _choose(self, p: Sent, rotation: list[int], *, fresh: bool) -> int:
        if not fresh:
            return rotation[_connection_hash(p) % len(rotation)]
        turn = self.turns.get(p.vip, 0)
        self.turns[p.vip] = turn + 1
        return rotation[turn % len(rotation)]


def _next(state: str, p: Sent) -> str:
    if p.protocol == "udp":
        return state
    if "F" in p.flags or "R" in p.flags:
        return "closing"
    return "established" if state == "opening" and "A" in p.flags else state


def _connection_hash(p: Sent) -> int:
    source = p.source
    octets = (source if source.version == 6 else IPv6Address(f"::ffff:{source}")).packed
    octets += p.dport.to_bytes(2) + p.sport.to_bytes(2)
    words = [int.from_bytes(octets[i : i + 4], "little") for i in range(0, 20, 4)]
    return schedule.hash_words(words, SEED)
