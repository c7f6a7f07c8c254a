# SPDX-License-Identifier: Apache-2.0
"""Load on a pool, and what became of it: requests that fail, connections that break.

    python -m cloudlb.lab.load requests URL [--count N] [--seconds S] [--at-once N]
    python -m cloudlb.lab.load flows ADDRESS [--flows N] [--seconds S] [--interval S]

``requests`` opens a new connection for each request. ``flows`` keeps connections open and has
checksummed lines echoed on them; a flow is broken as well when a line is not echoed by the end,
which waits for those on their way. Both end after their count or seconds, or at SIGTERM, and print
one line of JSON, with what the client's TCP sent again meanwhile, whoever sent it: ``resent`` is
empty when no packet was lost. They speak to the guests of a lab: see guest/responder.c.
"""

import argparse
import collections
import http.client
import json
import random
import selectors
import signal
import socket
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0
ECHO_PORT = 7
_RESENT = {"/proc/net/snmp": "RetransSegs", "/proc/net/netstat": "TCPSynRetrans"}


@dataclass
class Requests:
    """Requests, each on a connection of its own; ``longest`` is the slowest, in seconds."""

    count: int = 0
    failed: int = 0
    longest: float = 0.0
    servers: collections.Counter[str] = field(default_factory=collections.Counter)
    order: list[str] = field(default_factory=list)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(self, url: str) -> None:
        """Send one request and note who answered, or why nobody did."""
        began = time.monotonic()
        try:
            server, error = _get(url), ""
        except (OSError, http.client.HTTPException) as failure:
            server, error = "", repr(failure)
        with self.lock:
            self.count += 1
            self.longest = max(self.longest, time.monotonic() - began)
            if error:
                self.failed += 1
                self.errors[error] += 1
            else:
                self.servers[server] += 1
                self.order.append(server)

    def summary(self) -> dict[str, Any]:
        """For the one line of JSON."""
        return {
            "requests": self.count,
            "failed": self.failed,
            "longest": round(self.longest, 3),
            "servers": dict(sorted(self.servers.items())),
            "order": self.order[:1000],
            "errors": dict(self.errors),
        }


def _get(url: str) -> str:
    parts = urlsplit(url)
    assert parts.hostname  # noqa: S101  (given by our own callers)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return answer.getheader("X-Server") or "?"
    finally:
        connection.close()


class Flow:
    """A connection to the echo port: one line on its way at a time, each with its checksum."""

    def __init__(self, address: str, port: int, rng: random.Random) -> None:
        self._rng = rng
        self._expected = b""
        self._received = b""
        self.server = ""
        self.exchanges = 0
        self.sent_at = 0.0
        self.socket = socket.create_connection((address, port), TIMEOUT)
        self.socket.settimeout(TIMEOUT)
        while not self._received.endswith(b"\n"):
            octets = self.socket.recv(64)
            if not octets:
                raise ConnectionResetError("closed before the greeting")
            self._received += octets
        self.server, self._received = self._received.decode().strip(), b""
        self.socket.setblocking(False)

    @property
    def waits(self) -> bool:
        """Whether a line is on its way."""
        return bool(self._expected) and self.is_open

    @property
    def is_open(self) -> bool:
        """Whether it is not broken."""
        return self.socket.fileno() >= 0

    def send(self) -> None:
        """Send a line."""
        body = self._rng.randbytes(self._rng.randrange(8, 400)).hex().encode()
        self._expected = body + b" %08x\n" % zlib.crc32(body)
        self.sent_at = time.monotonic()
        self.socket.sendall(self._expected)

    def receive(self) -> None:
        """Take what came back; ValueError when it is not what was sent."""
        octets = self.socket.recv(4096)
        if not octets:
            raise ConnectionResetError("closed by the other side")
        self._received += octets
        if not self._expected.startswith(self._received):
            raise ValueError("corrupt echo")
        if self._received == self._expected:
            self.exchanges += 1
            self._expected = self._received = b""


class Flows:
    """Many flows in one thread, each with a line every ``interval`` seconds.

    At the end a line has ``patience`` seconds to come back, before that twice as many.
    """

    def __init__(
        self,
        address: str,
        count: int,
        interval: float,
        seed: int,
        port: int = ECHO_PORT,
        patience: float = TIMEOUT,
    ) -> None:
        rng = random.Random(seed)  # noqa: S311  (payload, not secrets)
        self._interval, self._patience = interval, patience
        self._selector = selectors.DefaultSelector()
        self._broken: collections.Counter[str] = collections.Counter()
        self._broken_on: collections.Counter[str] = collections.Counter()
        self._flows = [Flow(address, port, rng) for _ in range(count)]
        self._due = [(rng.random() * interval, flow) for flow in self._flows]
        for flow in self._flows:
            self._selector.register(flow.socket, selectors.EVENT_READ, flow)

    def run(self, stopping: threading.Event, seconds: float) -> None:
        """Exchange lines until the time is over, then wait for those on their way."""
        began = time.monotonic()
        due = collections.deque((began + at, flow) for at, flow in sorted(self._due, key=_first))
        while not stopping.is_set() and time.monotonic() - began < seconds:
            now = time.monotonic()
            while due and due[0][0] <= now:
                _, flow = due.popleft()
                if self._send(flow, now):
                    due.append((now + self._interval, flow))
            self._receive()
        self._end()

    def summary(self) -> dict[str, Any]:
        """For the one line of JSON."""
        return {
            "flows": len(self._flows),
            "broken": sum(self._broken.values()),
            "exchanges": sum(flow.exchanges for flow in self._flows),
            "least": min(flow.exchanges for flow in self._flows),
            "servers": dict(sorted(collections.Counter(f.server for f in self._flows).items())),
            "errors": dict(self._broken),
            "broken_on": dict(self._broken_on),
        }

    def _send(self, flow: Flow, now: float) -> bool:
        """Whether the flow lives on."""
        if flow.waits:
            if now - flow.sent_at > self._patience * 2:
                self._break(flow, f"no echo within {self._patience * 2:g} s")
                return False
            return True
        return flow.is_open and self._try(flow, flow.send)

    def _receive(self) -> None:
        for key, _ in self._selector.select(0.02):
            self._try(key.data, key.data.receive)

    def _end(self) -> None:
        deadline = time.monotonic() + self._patience
        while (late := [flow for flow in self._flows if flow.waits]) and (
            time.monotonic() < deadline
        ):
            self._receive()
        for flow in late:
            self._break(flow, f"no echo within {self._patience:g} s of the end")

    def _try(self, flow: Flow, action: Any) -> bool:
        try:
            action()
        except BlockingIOError:
            return True
        except (OSError, ValueError) as error:
            self._break(flow, repr(error))
            return False
        return True

    def _break(self, flow: Flow, reason: str) -> None:
        if not flow.is_open:
            return
        self._broken[reason] += 1
        self._broken_on[flow.server] += 1
        self._selector.unregister(flow.socket)
        flow.socket.close()


def resent() -> collections.Counter[str]:
    """How many segments, and SYNs among them, TCP of this network namespace has sent again."""
    return collections.Counter({name: _counter(Path(at), name) for at, name in _RESENT.items()})


def _counter(table: Path, name: str) -> int:
    lines = table.read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        columns = dict(zip(names.split(), values.split(), strict=True))
        if name in columns:
            return int(columns[name])
    raise KeyError(name)


def harm(result: dict[str, Any]) -> str:
    """What a load suffered, by its result; empty when all was served and every flow went on."""
    if "flows" in result:
        if result["broken"]:
            return f"{result['broken']} of {result['flows']} connections broke"
        return "" if result["least"] else "there is a connection on which no line was exchanged"
    if result["failed"]:
        return f"{result['failed']} of {result['requests']} requests failed"
    return "" if result["requests"] else "no request was made"


def _first(pair: tuple[float, Flow]) -> float:
    return pair[0]


def _requests(options: argparse.Namespace, stopping: threading.Event) -> dict[str, Any]:
    results = Requests()
    began = time.monotonic()
    left = iter(range(options.count))
    lock = threading.Lock()

    def work() -> None:
        while not stopping.is_set() and time.monotonic() - began < options.seconds:
            with lock:
                if next(left, None) is None:
                    return
            results.ask(options.url)

    threads = [threading.Thread(target=work) for _ in range(options.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results.summary()


def _flows(options: argparse.Namespace, stopping: threading.Event) -> dict[str, Any]:
    flows = Flows(options.address, options.flows, options.interval, options.seed)
    sys.stderr.write("open\n")
    sys.stderr.flush()
    flows.run(stopping, options.seconds)
    return flows.summary()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(required=True)
    requests = kinds.add_parser("requests")
    requests.add_argument("url")
    requests.add_argument("--count", type=int, default=10**9)
    requests.add_argument("--seconds", type=float, default=3600)
    requests.add_argument("--at-once", type=int, default=1)
    requests.set_defaults(run=_requests)
    flows = kinds.add_parser("flows")
    flows.add_argument("address")
    flows.add_argument("--flows", type=int, default=10)
    flows.add_argument("--seconds", type=float, default=3600)
    flows.add_argument("--interval", type=float, default=0.5)
    flows.add_argument("--seed", type=int, default=1)
    flows.set_defaults(run=_flows)
    return parser


def main() -> int:
    """Run one load; the exit status is 0 whatever became of it."""
    options = _parser().parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    before = resent()
    result = options.run(options, stopping)
    result["resent"] = dict(resent() - before)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
