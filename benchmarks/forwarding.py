# SPDX-License-Identifier: Apache-2.0
"""Datagrams and connections through every director, on a machine that counts instructions.

    python -m benchmarks.forwarding [--rounds N]

Prints samples as JSON: instructions per datagram (18 octets, 64 flows) and per TCP connection
(handshake, an octet, end), of everything between the client's system call and the member. Changes
this machine's network: meant for a guest of its own, see `benchmarks.counting`.
"""

import argparse
import json
import os
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks import rig as rigs
from benchmarks.directors import CONTENDERS
from benchmarks.rig import TCP_PORT, UDP_PORT, VIP, Rig

DATAGRAMS, FLOWS, CONNECTIONS = 4096, 64, 256
LEAST, ATTEMPTS = 0.98, 4
YIELDS = 1000
"""Enough for ksoftirqd to deliver what waits behind a tunnel device."""
PAYLOAD = b"x" * 18
PAUSE, LONGEST = 0.05, 10.0
"""Between attempts to find a way, and until there should be one; seconds."""


def udp(rig: Rig, version: int, device: str) -> float:
    """Instructions per datagram that arrives; a backlog may overflow now and then, no more."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    senders = [
        rig.client.do(lambda: socket.socket(family, socket.SOCK_DGRAM)) for _ in range(FLOWS)
    ]
    for sender in senders:
        sender.connect((str(VIP[version]), UDP_PORT))
    _open_way(rig, senders, device)
    before = rig.delivered(device)
    started = time.monotonic_ns()
    for _ in range(DATAGRAMS // FLOWS):
        for sender in senders:
            sender.send(PAYLOAD)
    for _ in range(YIELDS):
        os.sched_yield()
    spent = time.monotonic_ns() - started
    arrived = rig.delivered(device) - before
    for sender in senders:
        sender.close()
    if not LEAST * DATAGRAMS <= arrived <= DATAGRAMS:
        raise RuntimeError(f"{arrived} of {DATAGRAMS} datagrams arrived")
    return spent / arrived


def _open_way(rig: Rig, senders: list[socket.socket], device: str) -> None:
    """Send until neighbours are known and flows are remembered, and nothing is on its way."""
    before, deadline = rig.delivered(device), time.monotonic() + LONGEST
    while rig.delivered(device) - before < len(senders):
        if time.monotonic() > deadline:
            raise RuntimeError("datagrams do not arrive")
        for sender in senders:
            sender.send(PAYLOAD)
        time.sleep(PAUSE)


def tcp(rig: Rig, version: int, _device: str) -> float:
    """Instructions per connection, one after the other."""

    def connect() -> None:
        with socket.create_connection((str(VIP[version]), TCP_PORT), timeout=30) as connection:
            if connection.recv(1) != b"x":
                raise RuntimeError("the member did not answer")

    def connect_all() -> float:
        started = time.monotonic_ns()
        for _ in range(CONNECTIONS):
            connect()
        return (time.monotonic_ns() - started) / CONNECTIONS

    return rig.client.do(connect_all)


MEASURES: dict[str, Callable[[Rig, int, str], float]] = {"udp": udp, "tcp": tcp}


def measure(rounds: int) -> dict[str, list[float]]:
    """Samples by director, family and what was sent; the first round warms up."""
    rig = prepared(behind_hosts=False)
    samples: dict[str, list[float]] = {}
    for name, contender in CONTENDERS.items():
        device = "tunl0" if name == "ipvs tun" else "eth0"
        for version in contender.versions:
            rig.client.ip("neigh flush dev eth0\n")
            with contender.way(rig, version):
                found = sample(rig, version, rounds, name, contender.kinds, device)
                samples |= {f"{name} {version} {kind}": values for kind, values in found.items()}
    return samples


def prepared(*, behind_hosts: bool) -> Rig:
    """A rig with servers."""
    rig = rigs.build(behind_hosts=behind_hosts)
    for member in rig.members:
        rigs.serve(member)
    return rig


def take_much_at_once() -> None:
    """One processor both sends and delivers: what it sends ahead must find room in the backlog."""
    rigs.run("sysctl", "-q", "-w", "net.core.netdev_max_backlog=65536")


def sample(
    rig: Rig,
    version: int,
    rounds: int,
    name: str,
    kinds: Sequence[str] = tuple(MEASURES),
    device: str = "eth0",
) -> dict[str, list[float]]:
    """Samples by what was sent, through the director that is there."""
    found = [_ask_all(rig, version, device, name, kinds) for _ in range(rounds + 1)]
    return {kind: [each[kind] for each in found[1:]] for kind in kinds}


def _ask_all(
    rig: Rig, version: int, device: str, name: str, kinds: Sequence[str]
) -> dict[str, float]:
    """A round in which something was lost is no sample, and begins anew."""
    for left in reversed(range(ATTEMPTS)):
        try:
            return {kind: MEASURES[kind](rig, version, device) for kind in kinds}
        except (OSError, RuntimeError) as error:
            if not left:
                raise RuntimeError(f"{name}, IPv{version}: {error}") from error
    raise AssertionError("unreachable")


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    take_much_at_once()
    print(json.dumps(measure(options.rounds)))


if __name__ == "__main__":
    main()
