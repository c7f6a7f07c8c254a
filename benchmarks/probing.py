# SPDX-License-Identifier: Apache-2.0
"""CPU of 10,000 probes a second, by the prober and by asyncio, in namespaces of this run.

    unshare --net --mount python -m benchmarks.probing [--rounds N]

Members are addresses behind one Ethernet address in a second namespace, whose part of the work is
on another CPU. As ``heard``, hosts of theirs say that they answer. Prints JSON: for each kind the
cores that 10,000 members with an interval of a second need, by round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

from benchmarks import telling
from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Target, Verdict
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Health, Monitor, MonitorType

MEMBERS = 10_000
ENOUGH = 9_900
"""Members that must be online and stay so: on a loaded machine the kernel's queues overflow."""
WARM_UP, SECONDS = 3.0, 5.0
UNTIL_CALM = 8.0
"""Until a director has heard of all members, and probes them seldom."""
HERE, THERE = Mac("02:00:00:00:17:01"), Mac("52:54:00:00:17:02")
OWN, FIRST = IPv4Address("10.9.0.1"), IPv4Address("10.128.0.0")
PORT = 80
IP_PKTINFO = 8  # linux/in.h; Python has no name for it
KINDS = {"icmp": MonitorType.ICMP, "udp": MonitorType.UDP, "tcp": MonitorType.TCP}


def _ip(*commands: str) -> None:
    batch = "".join(f"{command}\n" for command in commands)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def _members() -> None:
    """The second namespace: every address of 10.128.0.0/16 answers echo, UDP and TCP."""
    sys.stdin.readline()
    _ip(
        "link set lo up",
        "link set far0 up",
        "address add 10.9.0.2/24 dev far0",
        "route add local 10.128.0.0/16 dev lo",
        f"neighbour add {OWN} lladdr {HERE} dev far0",
    )
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    Path("/sys/class/net/far0/queues/rx-0/rps_cpus").write_text("2")
    os.sched_setaffinity(0, {1})
    threading.Thread(target=_echo_datagrams, daemon=True).start()
    threading.Thread(target=telling.speak, args=(OWN, MEMBERS), daemon=True).start()
    listener = socket.create_server(("", PORT), backlog=4096)
    print("ready", flush=True)
    while True:
        with contextlib.suppress(OSError):
            listener.accept()[0].close()


def _echo_datagrams() -> None:
    """Each from the address that was asked."""
    channel = socket.socket(type=socket.SOCK_DGRAM)
    channel.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    channel.bind(("", PORT))
    while True:
        data, ancillary, _, sender = channel.recvmsg(64, 64)
        (_, _, info) = ancillary[0]
        reply = bytes(4) + info[8:12] + bytes(4)
        channel.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, reply)], 0, sender)


@contextlib.contextmanager
def site() -> Iterator[None]:
    """A link to the members' namespace; this process works on the first CPU."""
    inner = [sys.executable, "-m", "benchmarks.probing", "--members"]
    members = subprocess.Popen(
        ["unshare", "--net", "--mount", *inner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert members.stdin
    assert members.stdout
    try:
        _ip(
            "link set lo up",
            f"link add near0 address {HERE} type veth peer name far0 address {THERE}",
            f"link set far0 netns {members.pid}",
            "link set near0 up",
            f"address add {OWN}/24 dev near0",
            "route add 10.128.0.0/16 via 10.9.0.2",
            f"neighbour add 10.9.0.2 lladdr {THERE} dev near0",
        )
        members.stdin.write("go\n")
        members.stdin.flush()
        assert members.stdout.readline() == "ready\n"
        ping = ["ping", "-q", "-c", "1", "-w", "10", str(FIRST + 1)]
        subprocess.run(ping, stdout=subprocess.DEVNULL, check=True)
        os.sched_setaffinity(0, {0})
        yield
    finally:
        members.kill()
        members.wait()


def _cpu_of(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def by_prober(kind: MonitorType, *, hears: bool = False) -> float:
    """Cores that the prober's thread uses, whether a member answers or not.

    If it ``hears`` the members' hosts, with the thread that does so.
    """
    online, lost = set(), []

    def changed(verdict: Verdict) -> None:
        if verdict.health is Health.ONLINE:
            online.add(verdict.member_id)
        else:
            lost.append(verdict)

    monitor = Monitor(kind)
    targets = {
        UUID(int=n): Target(
            UUID(int=n),
            UUID(int=1),
            monitor,
            PORT,
            "near0",
            HERE,
            THERE,
            OWN,
            FIRST + n,
            home=telling.home(n) if hears else "",
        )
        for n in range(1, MEMBERS + 1)
    }
    prober, stopping = Prober(changed), threading.Event()
    threads = [threading.Thread(target=prober.run, args=(stopping,))]
    prober.set_targets(targets)
    threads[0].start()
    if hears:
        threads.append(telling.listen(OWN, prober, stopping))
    try:
        time.sleep(UNTIL_CALM if hears else WARM_UP)
        before = _sent()
        used = _used(threads)
        assert not hears or _sent() - before < 0.6 * MEMBERS * SECONDS, "not seldom"
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert len(online) >= ENOUGH, f"{len(online)} of {MEMBERS} members answered"
    assert len(lost) <= MEMBERS - ENOUGH, f"{len(lost)} were lost, as {lost[0]}"
    return used / SECONDS


def _sent() -> int:
    """Frames that have left the director."""
    (line,) = (x for x in Path("/proc/self/net/dev").read_text().splitlines() if "near0" in x)
    return int(line.split(":")[1].split()[9])


def _used(threads: Sequence[threading.Thread]) -> float:
    before = sum(map(_cpu_of, threads))
    time.sleep(SECONDS)
    return sum(map(_cpu_of, threads)) - before


async def _connect(address: str) -> None:
    _, writer = await asyncio.open_connection(address, PORT)
    writer.transport.abort()


async def _connections(count: int) -> None:
    """Connections in groups of a hundred, as fast as they come."""
    for begin in range(0, count, 100):
        await asyncio.gather(*(_connect(str(FIRST + 1 + n)) for n in range(begin, begin + 100)))


def by_asyncio() -> float:
    """Cores that asyncio would use, from its time for as many connections."""
    before = time.thread_time()
    asyncio.run(_connections(MEMBERS))
    return time.thread_time() - before


def main() -> None:
    """Measure, alternating."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.members:
        _members()
    ways: dict[str, Callable[[], float]] = {
        name: lambda kind=kind: by_prober(kind)  # type: ignore[misc]
        for name, kind in KINDS.items()
    }
    ways["heard"] = lambda: by_prober(MonitorType.ICMP, hears=True)
    ways["asyncio"] = by_asyncio
    samples: dict[str, list[float]] = {name: [] for name in ways}
    with site():
        for _ in range(options.rounds):
            for name, way in ways.items():
                samples[name].append(way())
    print(json.dumps(samples))


if __name__ == "__main__":
    main()
