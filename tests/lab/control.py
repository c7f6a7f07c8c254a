# SPDX-License-Identifier: Apache-2.0
"""The lab's API, guests' addresses and the client's view, in the words of tests."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cloudlb.lab.lab import Lab

PORTS = [
    {"protocol": "tcp", "port": 80},
    {"protocol": "tcp", "port": 7},
    {"protocol": "udp", "port": 7},
]
TCP_MONITOR = {"type": "tcp", "interval": 1, "timeout": 1, "rise": 2, "fall": 3}
METRICS_PORT = 9891
_SNIFFER = Path(__file__).with_name("sniff.py")


def wait_until(what: str, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of ``holds()``; fails naming what was waited for.

    A test that shows a bound gives it as ``seconds``; others give up on what never comes: on a
    busy machine an agent takes ten seconds to start.
    """
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.1)
    return value


class Cloud:
    """A lab seen through its API; ``pool`` makes pools that ``clean`` removes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._pools: list[str] = []
        self._held: list[tuple[str, str]] = []
        self.network = lab.api.network()

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer of the API."""
        return self.lab.api.request(method, path, body)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be a success."""
        status, answer = self.request(method, path, body)
        assert status < 300, answer
        return answer

    def pool(self, holders: list[str], version: int = 4, **fields: Any) -> dict[str, Any]:
        """A realized pool; its members, unless others are named, hold its address."""
        spec = {
            "network_id": self.network,
            "name": f"p{len(self._pools)}",
            "ip_version": version,
            "ports": PORTS,
            "members": [{"server": name} for name in holders],
        }
        answer = self.ok("POST", "/pools?wait=20", {"pool": spec | fields})["pool"]
        self._pools.append(answer["id"])
        self.lab.host("client").run(["ip", "neigh", "flush", "all"])
        assert answer["status"]["realized"]["state"] == "yes", answer["status"]
        for name in holders:
            self.hold(name, answer["address"])
        return answer  # type: ignore[no-any-return]

    def show(self, pool: dict[str, Any]) -> dict[str, Any]:
        """A pool as it is now."""
        return self.ok("GET", f"/pools/{pool['id']}")["pool"]  # type: ignore[no-any-return]

    def members(self, pool: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """A pool's members by their servers' names."""
        return {m["server_name"]: m for m in self.show(pool)["members"]}

    def change(self, pool: dict[str, Any], method: str, path: str, body: Any = None) -> Any:
        """A write below a pool, realized."""
        answer = self.ok(method, f"/pools/{pool['id']}{path}", body)
        wait_until("the change is realized", lambda: self.realized(pool))
        return answer

    def realized(self, pool: dict[str, Any]) -> bool:
        """Whether every host has the pool's current generation."""
        return bool(self.show(pool)["status"]["realized"]["state"] == "yes")

    def host(self, name: str) -> dict[str, Any]:
        """A host as the control plane knows it."""
        return self.ok("GET", f"/hosts/{name}")["host"]  # type: ignore[no-any-return]

    def stats(self, pool: dict[str, Any]) -> dict[str, Any]:
        """Counters of a pool."""
        return self.ok("GET", f"/pools/{pool['id']}/stats")  # type: ignore[no-any-return]

    def hold(self, guest: str, address: str, device: str = "eth0") -> None:
        """Give a guest a pool's address, as its owner would."""
        length = 128 if ":" in address else 32
        self.lab.guest(guest).run(
            ["ip", "address", "replace", f"{address}/{length}", "dev", device]
        )
        self._held.append((guest, f"{address}/{length}"))
        shown = ["ip", "address", "show", "dev", device]
        wait_until(
            f"{address} in {guest} is not tentative",
            lambda: "tentative" not in self.lab.guest(guest).run(shown).stdout,
        )

    def clean(self) -> None:
        """Take the addresses from the guests, then remove all pools of this object."""
        for guest, address in dict.fromkeys(self._held):
            if self.lab.guest(guest).host is not None:
                self.lab.guest(guest).run(
                    ["ip", "address", "del", address, "dev", "eth0"], check=False
                )
        for pool in self._pools:
            self.request("DELETE", f"/pools/{pool}")
        for pool in self._pools:
            wait_until(
                f"pool {pool} is gone",
                lambda pool=pool: self.request("GET", f"/pools/{pool}")[0] == 404,
            )


def url(pool: dict[str, Any]) -> str:
    """Where a pool serves HTTP."""
    address = pool["address"]
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def get(lab: Lab, pool: dict[str, Any], source: str = "") -> str:
    """The server that answers one request of the client; empty when none does."""
    command = ["curl", "-s", "-m", "5", "-D", "-", "-o", "/dev/null"]
    if source:
        command += ["--interface", source]
    done = lab.host("client").run([*command, url(pool)], check=False)
    lines = [line for line in done.stdout.splitlines() if line.lower().startswith("x-server:")]
    return lines[0].split(":")[1].strip() if lines else ""


def ask_udp(lab: Lab, pool: dict[str, Any], count: int) -> list[str]:
    """The servers that answer datagrams from ``count`` different ports.

    All sockets stay open: the kernel gives the port of a closed one at random, and soon again.
    """
    program = (
        "import socket,sys\n"
        "f=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "sockets=[socket.socket(f,socket.SOCK_DGRAM) for _ in range(int(sys.argv[2]))]\n"
        "for i,s in enumerate(sockets):\n"
        "    s.settimeout(5); s.connect((sys.argv[1],7))\n"
        "    s.send(b'x%d'%i); print(s.recv(99).decode().split()[0])\n"
    )
    done = lab.host("client").run([sys.executable, "-c", program, pool["address"], str(count)])
    return done.stdout.split()


def ask_udp_from(lab: Lab, pool: dict[str, Any], sources: list[str]) -> list[str]:
    """The servers that answer a datagram from each of these addresses of the client."""
    program = (
        "import socket,sys\n"
        "f=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "for source in sys.argv[2:]:\n"
        "    s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(5); s.bind((source,0))\n"
        "    s.connect((sys.argv[1],7))\n"
        "    s.send(b'x'); print(s.recv(99).decode().split()[0])\n"
    )
    command = [sys.executable, "-c", program, pool["address"], *sources]
    return lab.host("client").run(command).stdout.split()


def exchange_bodies(lab: Lab, pool: dict[str, Any]) -> None:
    """Have megabytes go to a pool's guest and come from it, and see that they arrive as sent."""
    program = (
        "import json,sys,urllib.request,zlib\n"
        "ask=lambda path,body=None: urllib.request.urlopen(sys.argv[1]+path,body,40).read()\n"
        "got=ask('bytes/5000000'); sent=bytes(n%249 for n in range(3000000))\n"
        "assert got==(bytes(range(251))*19921)[:5000000], 'GET'\n"
        "assert json.loads(ask('',sent))['crc32']==zlib.crc32(sent), 'POST'\n"
    )
    lab.host("client").run([sys.executable, "-c", program, url(pool)], timeout=90)


def is_refused(lab: Lab, pool: dict[str, Any], port: int) -> bool:
    """Whether the socket of a datagram to a port is told that nobody is there."""
    program = (
        "import socket,sys\n"
        "f=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(5)\n"
        "s.connect((sys.argv[1],int(sys.argv[2])))\n"
        "s.send(b'x')\n"
        "try: s.recv(9)\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    done = lab.host("client").run([sys.executable, "-c", program, pool["address"], str(port)])
    return done.stdout == "refused\n"


def scrape(lab: Lab, host: str, name: str, **labels: str) -> float:
    """The sum of the samples of an agent's metric with these labels."""
    page = lab.host(host).run(["curl", "-s", f"http://127.0.0.1:{METRICS_PORT}/metrics"]).stdout
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def wait_agent_without_conductor(lab: Lab, host: str) -> None:
    """Wait until an agent that was started works by what it had kept on disk."""
    server = lab.host(host)
    wait_until("it serves metrics", lambda: server.listens(METRICS_PORT))
    wait_until("it has a snapshot", lambda: scrape(lab, host, "cloudlb_generation") > 0)
    assert scrape(lab, host, "cloudlb_conductor_answered_timestamp_seconds") == 0
    assert server.service("agent").alive()


class Sniffer:
    """Who says on a link, the client's by default, that it has an address, while the block runs.

    ``claims`` counts (Ethernet source, what was said) of ARP and neighbour discovery. At a tap
    they are what the guest has said, before any program has seen it.
    """

    def __init__(
        self, lab: Lab, address: str, host: str = "client", interface: str = "eth0"
    ) -> None:
        self.claims: Counter[tuple[str, str]] = Counter()
        self._process = lab.host(host).popen(
            [sys.executable, str(_SNIFFER), interface, address], stdin=subprocess.PIPE
        )

    def __enter__(self) -> "Sniffer":
        assert self._process.stdout
        assert self._process.stdout.readline() == b"listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate(timeout=20)
        self.claims = Counter({tuple(claim): count for claim, count in json.loads(out)})
