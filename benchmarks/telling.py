# SPDX-License-Identifier: Apache-2.0
"""Hosts that tell a director once a second that their guests answer, and the director's ear."""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from uuid import UUID

from cloudlb.agents.circle import Circle
from cloudlb.agents.eastwest import EastWest
from cloudlb.agents.probe import Prober
from cloudlb.engines.base import Sharer
from cloudlb.model.eastwest import FlowEntry, Kind, Message, Sign, run_bodies, seal
from cloudlb.model.ether import Mac
from cloudlb.model.snapshot import Key

HOSTS = 100
PORT = 9893
_FIRST = IPv4Address("10.128.200.0")
_SECRET = "5a" * 32


def home(member: int) -> str:
    """The host of a member, by its number."""
    return f"c{member % HOSTS}"


def speak(director: IPv4Address, members: int) -> None:
    """Tell for ever, one host after the other, evenly over each second."""
    channels = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(HOSTS)]
    for number, channel in enumerate(channels):
        channel.bind((str(_FIRST + number), 0))
    guests = [range(n or HOSTS, members + 1, HOSTS) for n in range(HOSTS)]
    words = [list(run_bodies((UUID(int=m).bytes, 0) for m in own)) for own in guests]
    started, sequence = time.time_ns(), 0
    began = time.monotonic()
    while True:
        round_, number = divmod(sequence, HOSTS)
        sequence += 1
        for part, body in enumerate(words[number], 1):
            place = round_ * len(words[number]) + part
            message = Message(Kind.HEALTH, home(number), started, place, body)
            sealed = seal(message, 1, bytes.fromhex(_SECRET))
            channels[number].sendto(sealed, (str(director), PORT))
        time.sleep(max(0.0, began + sequence / HOSTS - time.monotonic()))


class _Nobody(Sharer):
    """No connections to share."""

    def __init__(self) -> None:
        self._never, _ = os.pipe()

    def filenos(self) -> tuple[int, int]:
        return self._never, self._never

    def signs(self) -> Iterator[Sign]:
        return iter(())

    def conclude(self, signs: Iterable[Sign]) -> None:
        """Nothing has ended."""

    def news(self) -> Iterator[FlowEntry]:
        return iter(())

    def all(self, newer_than: float) -> Iterator[FlowEntry]:
        return iter(())

    def adopt(self, entries: Iterable[FlowEntry]) -> None:
        """Nothing is told."""

    def befriend(
        self, router: int, mac: Mac, others: Sequence[Mac], silent: float, seconds: float
    ) -> None:
        """Nobody directs with this one."""


def listen(own: IPv4Address, prober: Prober, stopping: threading.Event) -> threading.Thread:
    """The director's thread that hears the hosts, started."""
    lock = threading.RLock()
    ear = EastWest("d1", own, PORT, _Nobody(), lock, prober.hurry, heard=prober.hear)
    hosts = {f"c{n}": _FIRST + n for n in range(HOSTS)}
    ear.want(Circle(peers=hosts, keys=(Key(1, _SECRET, 400.0),)))
    thread = threading.Thread(target=ear.run, args=(stopping,))
    thread.start()
    return thread
