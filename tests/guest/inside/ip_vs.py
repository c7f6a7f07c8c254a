# SPDX-License-Identifier: Apache-2.0
"""Run inside the guest: ip_vs as an oracle of LVS's schedulers.

The same story of connections that are opened and closed is told to ip_vs, with real TCP through
its NAT to servers in network namespaces, and to the director's program as frames. Both must
choose the same member each time.
"""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

import pytest
from pyroute2 import IPVS, IPVSDest, IPVSService

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Algorithm, Backend, TableSizes
from cloudlb.model.ether import Mac
from cloudlb.model.pool import RotationOrder
from cloudlb.model.rotation import rotation
from tests.guest.inside.direct_routing import Namespace, index, run
from tests.packet.conftest import FLOWS, UPLINK_MAC, Bench
from tests.packet.frames import tcp
from tests.planes import NETWORK, backend, director, mac

MEMBERS = (17, 18, 19)
ORACLE = "192.0.2.200"
_PORT = 80
_MASQUERADE = 0  # linux/ip_vs.h, IP_VS_CONN_F_MASQ
_LINKS = f"""link add br0 type bridge
address add 192.0.2.1/24 dev br0
link set br0 up
address add {ORACLE}/32 dev lo
link add up0 address {UPLINK_MAC} type veth peer name up1
link set up1 up
link set up0 up
"""


def serve(namespace: Namespace, number: int) -> socket.socket:
    """A server that tells its number to whoever connects, and ends when the client does."""
    listening = namespace.do(lambda: socket.create_server(("", _PORT)))

    def attend(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"%d" % number)
            connection.recv(1)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The director's program on an interface, and servers that ip_vs can reach."""
    with ExitStack() as stack:
        run("ip", "-batch", "-", text=_LINKS)
        links = "link del up0\nlink del br0\n"
        stack.callback(run, "ip", "-batch", "-", text=links)
        stack.callback(run, "ip", "address", "del", f"{ORACLE}/32", "dev", "lo")
        for number in MEMBERS:
            port = Mac.unpack(b"\xfe" + mac(number).packed[1:])
            namespace = Namespace(f"rs{number}", number, mac(number), port)
            stack.callback(namespace.close)
            stack.callback(serve(namespace, number).close)
        engine = EbpfEngine(
            Path("/sys/fs/bpf/oracle"), tmp_path_factory.mktemp("objects"), TableSizes(FLOWS)
        )
        stack.callback(engine.close)
        uplink = index("up0")
        engine.attach(HostPort(uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC))
        yield Bench(engine, engine._programs, uplink, 0, lambda: engine)


@contextmanager
def virtual_server(
    scheduler: str, port: int, weights: dict[int, int]
) -> Iterator[Callable[[int, int], None]]:
    """A service of ip_vs; what is yielded changes a member's weight.

    It puts new destinations first, so they are added in reverse, and before the scheduler is
    chosen, which then begins at the largest weight. Destinations of a port that was used before
    would come back with their counts.
    """
    service = IPVSService(addr=ORACLE, port=port, protocol=socket.IPPROTO_TCP, sched_name="rr")
    chosen = IPVSService(addr=ORACLE, port=port, protocol=socket.IPPROTO_TCP, sched_name=scheduler)
    with IPVS() as ipvs:
        ipvs.service("add", service)
        try:
            for number, weight in reversed(weights.items()):
                ipvs.dest("add", service, destination(number, weight))
            ipvs.service("set", chosen)
            yield lambda number, weight: ipvs.dest("set", service, destination(number, weight))
        finally:
            ipvs.service("del", service)


def destination(number: int, weight: int) -> IPVSDest:
    """A server as ip_vs knows it."""
    address = f"192.0.2.{number}"
    return IPVSDest(addr=address, port=_PORT, weight=weight, fwd_method=_MASQUERADE)


class Story:
    """Connections that are open on both sides, by their number."""

    def __init__(self, bench: Bench, port: int) -> None:
        self._bench, self._port = bench, port
        self._open: dict[int, socket.socket] = {}
        self._next = 1

    def connect(self) -> tuple[int, int | None]:
        """Open one more connection: the member that ip_vs chose, and the one that we chose."""
        connection = socket.create_connection((ORACLE, self._port), timeout=10)
        theirs = int(connection.recv(16))
        ours = self._bench.direct(tcp("S", self._next))
        self._bench.direct(tcp("A", self._next))
        self._open[self._next] = connection
        self._next += 1
        return theirs, ours

    def close(self, rng: random.Random) -> None:
        """Close one of the open connections."""
        if self._open:
            number = rng.choice(sorted(self._open))
            self._open.pop(number).close()
            self._bench.direct(tcp("FA", number))

    def end(self) -> None:
        """Close all that are open."""
        for connection in self._open.values():
            connection.close()


@contextmanager
def told(bench: Bench, port: int) -> Iterator[Story]:
    """A story that begins without any connection."""
    for key, _ in list(bench.maps.flows.items()):
        del bench.maps.flows[key]
    story = Story(bench, port)
    try:
        yield story
    finally:
        story.end()


def members(weights: dict[int, int]) -> tuple[Backend, ...]:
    """Backends of these weights."""
    return tuple(backend(number, weight) for number, weight in weights.items())


@pytest.mark.requirement("L4")
@pytest.mark.requirement("L5")
@pytest.mark.parametrize(
    ("scheduler", "port", "algorithm", "weights"),
    [
        ("rr", 81, Algorithm.ROUND_ROBIN, (1, 1, 1)),
        ("wrr", 82, Algorithm.WRR_LVS, (4, 3, 2)),
        ("wrr", 83, Algorithm.WRR_LVS, (1, 6, 3)),
        ("wrr", 84, Algorithm.WRR_LVS, (5, 0, 2)),
    ],
)
def test_turns_are_those_of_ip_vs(
    bench: Bench, scheduler: str, port: int, algorithm: Algorithm, weights: tuple[int, ...]
) -> None:
    by_number = dict(zip(MEMBERS, weights, strict=True))
    plane = director(members(by_number), algorithm)
    bench.engine.apply(plane.pool_id, None)
    bench.apply(plane)
    with virtual_server(scheduler, port, by_number), told(bench, port) as story:
        chosen = [story.connect() for _ in range(2 * sum(weights))]
    turns = rotation(by_number, RotationOrder.LVS)
    expected = list(islice(cycle(turns), len(chosen)))
    assert [theirs for theirs, _ in chosen] == expected
    assert [ours for _, ours in chosen] == expected


@pytest.mark.requirement("L6")
@pytest.mark.requirement("L7")
@pytest.mark.requirement("L24")
@pytest.mark.parametrize(
    ("scheduler", "port", "algorithm", "weights"),
    [
        ("lc", 85, Algorithm.LC_LVS, (1, 1, 1)),
        ("wlc", 86, Algorithm.WLC_LVS, (3, 2, 1)),
        ("wlc", 87, Algorithm.WLC_LVS, (1, 0, 5)),
    ],
)
def test_choices_are_those_of_ip_vs(
    bench: Bench, scheduler: str, port: int, algorithm: Algorithm, weights: tuple[int, ...]
) -> None:
    by_number = dict(zip(MEMBERS, weights, strict=True))
    plane = director(members(by_number), algorithm)
    bench.engine.apply(plane.pool_id, None)
    bench.engine.sweep()
    bench.apply(plane)
    rng = random.Random(7)
    with virtual_server(scheduler, port, by_number) as change, told(bench, port) as story:
        for step in range(80):
            theirs, ours = story.connect()
            assert ours == theirs, step
            if rng.random() < 0.45:
                story.close(rng)
            if scheduler == "wlc" and step % 20 == 19:
                by_number[MEMBERS[0]] = rng.randint(0, 4)
                change(MEMBERS[0], by_number[MEMBERS[0]])
                bench.apply(director(members(by_number), algorithm))
