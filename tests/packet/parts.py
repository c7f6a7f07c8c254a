# SPDX-License-Identifier: Apache-2.0
"""Datagrams in parts, and the wires on which they travel."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from scapy.layers.inet import IP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether

_ETH_P_ALL = 3
SECONDS = 5


def parts_of(frame: bytes, identity: int = 7, size: int = 400) -> list[bytes]:
    """The frame's datagram in fragments, by scapy."""
    whole = Ether(frame)
    link = Ether(dst=whole.dst, src=whole.src)
    if IP in whole:
        whole[IP].id = identity
        return [bytes(link / part) for part in fragment(whole[IP], fragsize=size)]
    head = IPv6(src=whole[IPv6].src, dst=whole[IPv6].dst)
    head /= IPv6ExtHdrFragment(id=identity, nh=whole[IPv6].nh)
    parts = fragment6(head / bytes(whole[IPv6].payload), size)
    return [bytes(link / part) for part in parts]


class Wire:
    """An end of a link: ``send`` frames, and what has come when ``take`` has seen ``last``."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.settimeout(SECONDS)

    def send(self, frames: Iterable[bytes]) -> None:
        """One after the other; that a filter drops one is nothing to its sender."""
        for frame in frames:
            with suppress(OSError):
                self._socket.send(frame)

    def take(self, count: int, of: bytes) -> list[bytes]:
        """The next frames with these octets in them that have come over the link."""
        found: list[bytes] = []
        while len(found) < count:
            frame, (_, _, kind, _, _) = self._socket.recvfrom(4096)
            if kind != socket.PACKET_OUTGOING and of in frame:
                found.append(frame)
        return found

    def close(self) -> None:
        """Let go of the link."""
        self._socket.close()


@contextmanager
def wire(interface: str) -> Iterator[Wire]:
    """A wire for the time of a block."""
    end = Wire(interface)
    try:
        yield end
    finally:
        end.close()
