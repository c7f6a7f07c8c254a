# SPDX-License-Identifier: Apache-2.0
"""A director's prober on a wire within this process, where tests answer in members' place."""

import itertools
import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Target, Verdict
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Monitor
from tests.planes import VIP4, mac, member_id
from tests.unit.agents.clock import Clock
from tests.views import pool, tcp_monitor

UPLINK_MAC = Mac("02:00:00:00:00:01")
RST = 0x04


class Wire:
    """What probes are sent on: keeps the frames, and brings back what a test answers."""

    opened: list["Wire"]
    is_cut = False

    def __init__(self, interface: str, first_port: int) -> None:
        self.interface, self.first_port, self.sent = interface, first_port, []
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self.is_closed = False
        self.opened.append(self)

    def fileno(self) -> int:
        return self.near.fileno()

    def send(self, frames: list[bytes]) -> int:
        if self.is_cut:
            raise OSError("No such device or address")
        self.sent += map(Ether, frames)
        return len(frames)

    def receive(self) -> list[bytes]:
        if self.is_cut:
            raise OSError("Network is down")
        frames = []
        while True:
            try:
                frames.append(self.near.recv(256))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        self.is_closed = True
        self.near.close()
        self.far.close()

    def answer(self, *frames: Packet) -> None:
        """Have frames arrive."""
        for frame in frames:
            self.far.send(bytes(frame))

    def asked(self) -> list[Packet]:
        """The probes sent since the last question, without what hung up."""
        frames, self.sent = self.sent, []
        return [f for f in frames if TCP not in f or not f[TCP].flags & RST]


def back(request: Packet) -> Packet:
    """The headers of an answer."""
    ip = request[IP] if IP in request else request[IPv6]
    ends = {"src": ip.dst, "dst": ip.src}
    return Ether(src=request.dst, dst=request.src) / type(ip)(**ends)


def reply(request: Packet, flags: str = "SA", source: Mac | None = None) -> Packet:
    """A member's answer to a connection attempt."""
    answer = back(request)
    if source:
        answer.src = str(source)
    return answer / TCP(
        sport=request[TCP].dport,
        dport=request[TCP].sport,
        flags=flags,
        seq=7,
        ack=(request[TCP].seq + 1) & 0xFFFFFFFF,
    )


CALM = tcp_monitor(interval=10.0, timeout=1.0, rise=2, fall=3)


def target(number: int = 1, monitor: Monitor = CALM, **change: Any) -> Target:
    """A member by number, probed on port 80 every ten seconds."""
    whole = Target(
        member_id(number),
        pool().id,
        monitor,
        80,
        "br0",
        UPLINK_MAC,
        mac(number),
        ip_address("192.0.2.1"),
        VIP4,
    )
    return replace(whole, **change)


class Director:
    """A prober on a clock that stands still."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.start, self.rounds = clock, clock(), 0
        tokens = itertools.count(0xFFFFFFF0)  # wraps around soon
        self.prober = Prober(
            lambda _verdict: None,
            clock,
            lambda: next(tokens) & 0xFFFFFFFF,
            spread=lambda: 0.0,
        )

    def probes(self, *targets: Target) -> "Director":
        """Probe exactly these members."""
        self.prober.set_targets({t.member_id: t for t in targets})
        return self

    def turn(self, seconds: float = 0.0) -> list[Verdict]:
        """Let time pass and have the prober send, receive and judge once."""
        self.clock.pass_seconds(seconds)
        return self.prober._turn()

    @property
    def wire(self) -> Wire:
        return Wire.opened[-1]

    def ask(self) -> Packet:
        """The next probe of the one target."""
        self.clock.now = self.start + 10 * self.rounds
        self.rounds += 1
        assert self.turn() == []
        (request,) = self.wire.asked()
        return request

    def answered(self, flags: str = "SA") -> list[Verdict]:
        """What a probe that the member answers changes."""
        request = self.ask()
        self.wire.answer(reply(request, flags))
        return self.turn()

    def missed(self) -> list[Verdict]:
        """What a probe that nobody answers changes."""
        self.ask()
        assert self.turn(0.9) == []
        return self.turn(0.1)

    def members(self) -> list[int]:
        """The numbers of the members that are probed now."""
        self.turn()
        return [int(request.dst[-2:], 16) for wire in Wire.opened for request in wire.asked()]
