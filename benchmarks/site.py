# SPDX-License-Identifier: Apache-2.0
"""The lab as rows use it: its API, addresses that guests hold, sockets in a host's network."""

import contextlib
import ctypes
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from cloudlb.lab.lab import Lab
from cloudlb.lab.process import wait_for
from cloudlb.lab.services import API_PORT

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def in_namespace(name: str, function: Callable[[], T]) -> T:
    """What a function returns that runs in a network namespace: its sockets stay there."""
    pin = os.open(Path("/run/netns", name), os.O_RDONLY)

    def enter_and_call() -> T:
        if ctypes.CDLL(None, use_errno=True).setns(pin, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        return function()

    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter_and_call).result()
    finally:
        os.close(pin)


class _Connection(http.client.HTTPConnection):
    """A connection out of a network namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__("127.0.0.1", API_PORT, timeout=30)
        self._namespace = namespace

    def connect(self) -> None:
        """Open the socket in the namespace."""
        address = self.host, self.port
        self.sock = in_namespace(
            self._namespace, lambda: socket.create_connection(address, self.timeout)
        )
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Site:
    """A lab through its API, on one connection that is kept."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.connection = _Connection(lab.host("control").namespace)
        self.network = lab.api.network()

    def send(self, method: str, path: str, body: Any = None) -> None:
        """Send a request, whose answer is read by `answer`."""
        octets = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"} if octets else {}
        self.connection.request(method, f"/v1{path}", octets, headers)

    def answer(self) -> tuple[int, Any]:
        """Status and body."""
        answer = self.connection.getresponse()
        octets = answer.read()
        return answer.status, json.loads(octets) if octets else None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be a success."""
        self.send(method, path, body)
        status, answer = self.answer()
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def pool_spec(self, address: IPv4Address, members: Sequence[str], **fields: Any) -> Any:
        """The body that creates a pool."""
        spec = {
            "network_id": self.network,
            "name": f"bench-{address}",
            "address": str(address),
            "ports": [{"protocol": p, "port": 7} for p in ("tcp", "udp")],
            "members": [{"server": name} for name in members],
        }
        return {"pool": spec | fields}

    def remove_pool(self, pool_id: str) -> None:
        """Delete a pool and wait until nothing is left of it."""
        self.ask("DELETE", f"/pools/{pool_id}")

        def gone() -> bool:
            self.send("GET", f"/pools/{pool_id}")
            return self.answer()[0] == 404

        wait_for("the pool is gone", gone, 30)

    @contextlib.contextmanager
    def held(self, addresses: Sequence[IPv4Address]) -> Iterator[None]:
        """All guests have the addresses, on their loopback device and silent about them:
        as long as there is no pool, there is no guard at their taps.
        """
        self._in_guests("add", addresses, 1)
        yield
        self._in_guests("del", addresses, 0)

    def introduce(self, pool_id: str) -> None:
        """All guests ask for a neighbour, as guests do sooner or later, and the hosts know their
        own addresses then, without which edge NAT sends them nothing.
        """
        client = self.lab.host("client").spec.lan4
        self._run_in_guests(f"ip neigh flush dev eth0; ping -c 1 -W 5 {client}")

        def are_known() -> bool:
            pool = self.ask("GET", f"/pools/{pool_id}")["pool"]
            known = all(member["addresses"] for member in pool["members"])
            return known and pool["status"]["realized"]["state"] == "yes"

        wait_for("the guests' addresses are known", are_known, 30)

    def _in_guests(self, verb: str, addresses: Sequence[IPv4Address], ignore: int) -> None:
        names = " ".join(map(str, addresses))
        self._run_in_guests(
            f"echo {ignore} >/proc/sys/net/ipv4/conf/all/arp_ignore; "
            f"for a in {names}; do ip address {verb} $a/32 dev lo; done"
        )

    def _run_in_guests(self, script: str) -> None:
        threads = [
            threading.Thread(target=guest.run, args=(["sh", "-c", script],))
            for guest in self.lab.guests
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
