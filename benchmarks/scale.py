# SPDX-License-Identifier: Apache-2.0
"""An agent's work on many pools, in namespaces of its own: prints samples as JSON.

    unshare --net --mount python -m benchmarks.scale change|resync DIRECTORY [--rounds N]

The pools have 100 members each; of ten, nine take turns and one is a table of hashes. Times are
those of this thread's CPU: a change is compiled, compared and written here, nothing waits.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from uuid import UUID

from benchmarks.testrun import BPFFS, CLIENT, CLIENT_MAC, NETWORK, UPLINK_MAC, make_veth
from cloudlb.agents.pools import Pools
from cloudlb.agents.setup import load_drivers
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import TableSizes
from cloudlb.model.ether import Mac
from cloudlb.model.network import Network
from cloudlb.model.pool import Member, Placement, Pool, Port, Protocol, Scheduler
from cloudlb.model.snapshot import MemberView, PoolView, Snapshot
from cloudlb.net import frame
from cloudlb.net.bpf.libbpf import Libbpf

HOST = "director"
PINS = BPFFS / "cloudlb"
MANY, MEMBERS = 1000, 100
Samples = dict[str, list[float]]

_LAN = Network(
    UUID(int=1), "p", "lan", NETWORK, (ip_network("10.0.0.0/8"),), (ip_network("10.0.0.0/8"),)
)
_TABLE_EVERY = 10
_SYN = 0x02
_REDIRECT = 7  # TC_ACT_REDIRECT


class Host:
    """An agent's pools on an engine, with an uplink on which nothing comes."""

    def __init__(self, directory: Path) -> None:
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)
        self._directory, self._uplink = directory, make_veth("up0", UPLINK_MAC)
        self._drivers = load_drivers()
        self.restart()
        self.start()

    def restart(self) -> None:
        """Another process's engine, on what there is in the kernel."""
        self._engine = EbpfEngine(PINS, self._directory, TableSizes(members=1 << 17))
        self._engine.attach(HostPort(self._uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC))
        self.libbpf = Libbpf()
        programs = next(PINS.glob("programs-*"))
        self._director = self.libbpf.get(programs / "director")

    def start(self) -> None:
        """Read what there is in the kernel, as an agent that begins."""

        def ignore(*_: object) -> None:
            pass

        lock = threading.RLock()
        self.pools = Pools(HOST, self._drivers, self._engine, lock, ignore, ignore, ignore)

    def want(self, views: Sequence[PoolView]) -> frozenset[UUID]:
        """Take a snapshot of pools; those to reconcile."""
        return self.pools.want(Snapshot(HOST, 1, tuple(views), (_LAN,)))

    def reconcile(self, pools: frozenset[UUID]) -> None:
        """One pool after the other."""
        for pool_id in pools:
            self.pools.reconcile(pool_id)

    def connect(self, view: PoolView, client_port: int) -> bytes:
        """The Ethernet address that a new connection's first packet leaves for."""
        path = frame.Path(CLIENT_MAC, UPLINK_MAC, CLIENT[4], view.pool.address)
        syn = frame.segment(path, client_port, 80, 1, 0, _SYN)
        context = bytearray(192)
        context[40:44] = self._uplink.to_bytes(4, sys.byteorder)  # __sk_buff.ifindex
        result, out, _ = self.libbpf.test_run(self._director, syn, bytes(context))
        if result != _REDIRECT:
            raise RuntimeError(f"the director answered {result} to a new connection")
        return out[:6]

    def map_memory(self) -> float:
        """MiB that the kernel accounts for the maps."""
        seen = {}
        for entry in Path("/proc/self/fdinfo").iterdir():
            with suppress(OSError):
                told = dict(line.split(":", 1) for line in entry.read_text().splitlines())
                if "map_type" in told:
                    seen[told["map_id"]] = int(told["memlock"])
        return sum(seen.values()) / 2**20


def views(pools: int) -> list[PoolView]:
    """So many pools, each with its members."""
    return [_view(number) for number in range(pools)]


def _view(number: int) -> PoolView:
    pool = Pool(
        UUID(int=number + 1),
        "p",
        _LAN.id,
        f"pool{number}",
        ip_address(0x0A000000 + number),
        (Port(Protocol.TCP, 80),),
        "dr",
        Scheduler.ROUND_ROBIN if number % _TABLE_EVERY else Scheduler.SOURCE_HASH,
        (HOST,),
    )
    return PoolView(pool, _LAN, tuple(_member(number, place) for place in range(MEMBERS)))


def _member(pool: int, place: int) -> MemberView:
    number = pool * MEMBERS + place + 1
    wanted = Member(UUID(int=number), "p", UUID(int=pool + 1), UUID(int=number))
    return MemberView(
        wanted, Placement("compute", Mac.unpack((2 << 40 | number).to_bytes(6)), "t")
    )


def changes(host: Host, rounds: int) -> Samples:
    """ms of CPU for a member that leaves or comes back, among one pool and among many; and ms
    until a new connection obeys.
    """
    samples: Samples = {}
    for pools in (1, MANY):
        others = [_view(MANY + 1 + number) for number in range(pools - 1)]
        for kind, number in (("turns", 1), ("table", 0)):
            whole = _view(number)
            host.reconcile(host.want([*others, whole]))
            took = [_change(host, others, whole, turn) for turn in range(rounds)]
            samples[f"{kind} {pools}"] = [cpu for cpu, _ in took]
            samples[f"{kind} {pools} obeyed"] = [waited for _, waited in took]
    return samples


def _change(
    host: Host, others: Sequence[PoolView], whole: PoolView, turn: int
) -> tuple[float, float]:
    place = turn // 2 % MEMBERS
    view = whole if turn % 2 else replace(whole, members=_without(whole.members, place))
    host.want([*others, view])
    began, cpu = time.perf_counter(), time.process_time()
    host.pools.reconcile(view.pool.id)
    spent = time.process_time() - cpu
    member = host.connect(view, 10000 + turn)
    waited = time.perf_counter() - began
    macs = {m.placement.mac for m in view.members if m.placement}
    if Mac.unpack(member) not in macs:
        raise RuntimeError("a new connection went to a member that has left")
    return 1e3 * spent, 1e3 * waited


def _without(members: tuple[MemberView, ...], place: int) -> tuple[MemberView, ...]:
    return members[:place] + members[place + 1 :]


def resync(host: Host) -> Samples:
    """Seconds of an agent's first work: in an empty kernel, and after a restart."""
    wanted = views(MANY)
    gc.collect()
    samples = {"from nothing": [_seconds(lambda: host.reconcile(host.want(wanted)))]}
    host.restart()
    with _writes(host) as written:
        samples["unchanged"] = [
            _seconds(host.start) + _seconds(lambda: host.reconcile(host.want(wanted)))
        ]
    samples["writes"] = [float(len(written))]
    samples["memory"] = [_resident()]
    samples["maps"] = [host.map_memory()]
    return samples


def _seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


@contextmanager
def _writes(host: Host) -> Iterator[list[int]]:
    """The maps that are written to meanwhile, once for each call."""
    libbpf, written = host.libbpf, list[int]()
    real: tuple[Callable[..., None], ...] = (libbpf.update, libbpf.update_batch, libbpf.delete)

    def counted(call: Callable[..., None]) -> Callable[..., None]:
        def count(fd: int, *arguments: object) -> None:
            written.append(fd)
            call(fd, *arguments)

        return count

    libbpf.update, libbpf.update_batch, libbpf.delete = map(counted, real)  # type: ignore[method-assign]
    try:
        yield written
    finally:
        libbpf.update, libbpf.update_batch, libbpf.delete = real  # type: ignore[method-assign]


def _resident() -> float:
    """MiB of this process's memory, the snapshot's among them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("change", "resync"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    host = Host(options.directory)
    samples = changes(host, options.rounds) if options.what == "change" else resync(host)
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    main()
