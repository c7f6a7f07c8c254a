# SPDX-License-Identifier: Apache-2.0
"""The lab's links in the words of tests: what passes on them, and what devices do there."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloudlb.lab.host import Host
from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from tests.lab.control import Cloud, wait_until

_HERE = Path(__file__).parent
COMPUTE = ("compute1", "compute2")


def ports_of_bridge(host: Host) -> list[str]:
    """The uplink and the taps of a compute host."""
    return host.run(["ls", "/sys/class/net/br0/brif"]).stdout.split()


def taps(host: Host) -> list[str]:
    """The taps of a compute host."""
    return [port for port in ports_of_bridge(host) if port != "eth0"]


def tap(host: Host, guest: str) -> str:
    """The tap of a guest on its compute host."""
    return virsh(host, "domiflist", guest).stdout.split()[0]


@contextmanager
def without_offloads(lab: Lab) -> Iterator[None]:
    """No device cuts or joins packets, or computes checksums; it would hide a wrong length."""
    places = {"client": ["eth0"], "director": ["eth0"]}
    places |= {name: ports_of_bridge(lab.host(name)) for name in COMPUTE}

    def turn(state: str) -> None:
        for name, interfaces in places.items():
            script = str(_HERE / "offload.py")
            lab.host(name).run([sys.executable, script, state, *interfaces])

    turn("off")
    try:
        yield
    finally:
        turn("on")


class Repeats:
    """What guests are sent that they have already: it came late, and is no loss. Under emulation,
    beside other work, guests are late for 200 ms now and then, and the client sends again.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = self._had()

    def lost(self, result: dict[str, Any]) -> dict[str, int]:
        """Of what the client of a load sent again, what no guest had; by the load's result."""
        syns = result["resent"].get("TCPSynRetrans", 0)
        others = result["resent"].get("RetransSegs", 0) - syns - (self._had() - self._before)
        return {name: n for name, n in (("SYNs", syns), ("segments", others)) if n > 0}

    def _had(self) -> int:
        """Guests tell their clients so (DSACK, RFC 2883), and count it."""
        command = ["grep", "^TcpExt:", "/proc/net/netstat"]
        tables = [guest.run(command).stdout.splitlines() for guest in self._lab.guests]
        counters = [dict(zip(a.split(), b.split(), strict=True)) for a, b in tables]
        names = "TCPDSACKOldSent", "TCPDSACKOfoSent"
        return sum(int(counted[name]) for counted in counters for name in names)


@contextmanager
def given_client_ports(lab: Lab, first: int, last: int) -> Iterator[None]:
    """The client's next connections have these ports; its own TCP may use them again at once."""
    client = lab.host("client")
    settings = "net.ipv4.ip_local_port_range", "net.ipv4.tcp_tw_reuse"
    before = [client.run(["sysctl", "-n", name]).stdout.strip() for name in settings]

    def write(values: Iterable[str]) -> None:
        pairs = zip(settings, values, strict=True)
        client.run(["sysctl", "-qw", *(f"{name}={value}" for name, value in pairs)])

    write((f"{first} {last}", "1"))
    try:
        yield
    finally:
        write(before)


class Capture:
    """The frames with an address in them on some of a host's interfaces, while the block runs."""

    def __init__(self, host: Host, address: str, *interfaces: str) -> None:
        self.frames: list[bytes] = []
        command = [sys.executable, str(_HERE / "capture.py"), address, *interfaces]
        self._process = host.popen(command, stdin=subprocess.PIPE)

    def __enter__(self) -> "Capture":
        assert self._process.stdout
        assert self._process.stdout.readline() == b"listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate(timeout=20)
        self.frames = [bytes.fromhex(frame) for frame in json.loads(out)]


class Asking:
    """The client asks which Ethernet address an address has while the block runs, but itself does
    not listen: what it knows of its neighbours stays. ``asked`` is how often it did.
    """

    def __init__(self, lab: Lab, address: str) -> None:
        self.asked = 0
        command = [sys.executable, str(_HERE / "questions.py"), address]
        self._process = lab.host("client").popen(command, stdin=subprocess.PIPE)

    def __enter__(self) -> "Asking":
        assert self._process.stdout
        assert self._process.stdout.readline() == b"asking\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.asked = int(self._process.communicate(timeout=20)[0])


def make_known(lab: Lab, cloud: Cloud) -> None:
    """Have every guest speak from its own addresses, until the control plane has heard of them."""
    pool = cloud.pool([])
    for guest in lab.guests:
        cloud.ok("POST", f"/pools/{pool['id']}/members", {"member": {"server": guest.name}})
    own = {g.name: {str(g.spec.ipv4), str(g.spec.ipv6)} for g in lab.guests}

    def heard() -> bool:
        return all(own[n] <= set(m["addresses"]) for n, m in cloud.members(pool).items())

    if not heard():
        # Before the taps of a network that is new carry programs, nobody listens.
        wait_until("every host has the pool", lambda: cloud.realized(pool))
        _speak(lab)
        wait_until("the guests' own addresses are known", heard)


def _speak(lab: Lab) -> None:
    client = lab.host("client")
    client.run(["ip", "neigh", "flush", "all"])
    for guest in lab.guests:
        for address in (guest.spec.ipv4, guest.spec.ipv6):
            client.run(["ping", "-c", "1", "-W", "5", str(address)])
