# SPDX-License-Identifier: Apache-2.0
"""What clients and members exchange when every machine's link has the same, small rate.

    python -m benchmarks.growth [--seconds S] [mac] [ipip]

Prints samples as JSON: octets per second that arrive, by who directs and by direction, as shares
of what a link carries. It is the links that limit, and not this machine: two processors could not
show what more hosts add. To be run in namespaces of its own (`benchmarks.sandbox`).
"""

import argparse
import contextlib
import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import rig as rigs
from benchmarks.distributed import WAYS, Engines, directed, directing, engines_of, entering_by
from benchmarks.rig import HOSTS, TCP_PORT, VIP, Rig
from cloudlb.model.dataplane import Mode

LINK = 10_000_000 / 8
"""Octets per second that a link carries each way."""
CONNECTIONS = 64
"""So many that each host and each member has some, whatever the hash is."""
WARM_UP = 1.0
_BLOCK = b"x" * 16384
_SHAPE = f"qdisc add dev {{}} root tbf rate {LINK * 8:.0f} burst 16kb latency 100ms\n"


def limit_links(rig: Rig) -> None:
    """Both ends of the director's and of the hosts' links send at the rate, and no faster."""
    for machine in (rig.director, *rig.hosts):
        rigs.run("tc", "-batch", "-", text=_SHAPE.format(machine.name))
        machine.run("tc", "-batch", "-", text=_SHAPE.format("eth0"))


@dataclass
class Traffic:
    """Connections between client and members, all of them in one loop."""

    upload: bool
    received: int = 0
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def accept(self, listening: socket.socket) -> None:
        """Take a member's new connection."""
        connection, _ = listening.accept()
        self.add(connection, sends=not self.upload)

    def add(self, connection: socket.socket, *, sends: bool) -> None:
        """Let one end of a connection send, or receive, all the time."""
        connection.setblocking(False)
        act = self._send if sends else self._receive
        event = selectors.EVENT_WRITE if sends else selectors.EVENT_READ
        self.selector.register(connection, event, act)

    def run(self, seconds: float) -> int:
        """Octets that have come meanwhile."""
        before, end = self.received, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                act: Callable[[socket.socket], None] = key.data
                with contextlib.suppress(BlockingIOError):
                    act(key.fileobj)  # type: ignore[arg-type]
        return self.received - before

    def close(self) -> None:
        """End all connections."""
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()

    def _send(self, connection: socket.socket) -> None:
        connection.send(_BLOCK)

    def _receive(self, connection: socket.socket) -> None:
        self.received += len(connection.recv(1 << 18))


def carried(rig: Rig, version: int, seconds: float, *, upload: bool) -> float:
    """What arrives, as a share of what one link carries."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def listen() -> socket.socket:
        return socket.create_server(("", TCP_PORT), family=family, backlog=CONNECTIONS)

    def connect() -> socket.socket:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.connect_ex((str(VIP[version]), TCP_PORT))
        return connection

    traffic = Traffic(upload)
    with contextlib.closing(traffic):
        for member in rig.members:
            listening = member.do(listen)
            traffic.selector.register(listening, selectors.EVENT_READ, traffic.accept)
        for _ in range(CONNECTIONS):
            traffic.add(rig.client.do(connect), sends=upload)
        traffic.run(WARM_UP)
        return traffic.run(seconds) / seconds / LINK


@contextlib.contextmanager
def _distributed(
    rig: Rig, engines: Engines, version: int, passing: Mode, count: int
) -> Iterator[None]:
    with directing(rig, engines, version, passing, count), entering_by(rig, version, count):
        yield


def measure(seconds: float, ways: Sequence[str], version: int = 4) -> dict[str, float]:
    """Shares by who directs, with which number of hosts, and ``up`` or ``down``."""
    rig = rigs.build(behind_hosts=True)
    limit_links(rig)
    samples = {}
    with engines_of(rig) as engines:
        several = {
            f"dpr {name} {count}": _distributed(rig, engines, version, WAYS[name], count)
            for name in ways
            for count in range(1, len(HOSTS) + 1)
        }
        single = {
            f"director {mode}": directed(rig, engines, version, mode)
            for mode in (Mode.DR, Mode.NAT)
        }
        for name, way in (single | several).items():
            with way:
                for kind in ("up", "down"):
                    octets = carried(rig, version, seconds, upload=kind == "up")
                    samples[f"{name} {kind}"] = octets
    return samples


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("ways", nargs="*", default=tuple(WAYS), help="packets are passed on")
    options = parser.parse_args()
    print(json.dumps(measure(options.seconds, options.ways)))


if __name__ == "__main__":
    main()
