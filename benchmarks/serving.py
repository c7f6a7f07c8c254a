# SPDX-License-Identifier: Apache-2.0
"""Requests and uploads over TCP: the server that runs for each member, and what a client does.

    python -m benchmarks.serving

A connection's first octet says what it is. ``r``: this octet and every further one is a request
that is answered with one. ``u``: an upload, whose length is the answer at its end.
"""

import contextlib
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.rig import TCP_PORT, Machine
from cloudlb.lab.process import wait_for

REQUEST, UPLOAD = b"r", b"u"
_BLOCK = b"u" * (1 << 18)
_MORTAL = ("setpriv", "--pdeathsig", "KILL")  # ends with a killed run
_START, _PATIENCE = 60.0, 60.0


class Server:
    """All connections of a member in one loop."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._uploaded: dict[socket.socket, int] = {}
        self._room = bytearray(len(_BLOCK))

    def run(self, listening: socket.socket) -> None:
        """Until the process is ended."""
        self._selector.register(listening, selectors.EVENT_READ, self._accept)
        while True:
            for key, _ in self._selector.select():
                with contextlib.suppress(ConnectionError):
                    key.data(key.fileobj)

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, self._receive)

    def _receive(self, connection: socket.socket) -> None:
        count = connection.recv_into(self._room)
        if count and connection not in self._uploaded and self._room[:1] == REQUEST:
            connection.sendall(b"a" * count)
        elif count:
            self._uploaded[connection] = self._uploaded.get(connection, 0) + count
        else:
            if connection in self._uploaded:
                connection.sendall(b"%d\n" % self._uploaded.pop(connection))
            self._selector.unregister(connection)
            connection.close()


@contextlib.contextmanager
def served(members: Sequence[Machine]) -> Iterator[None]:
    """A server at each member, a process of its own."""
    command = (sys.executable, "-m", "benchmarks.serving")
    processes = [
        subprocess.Popen([*_MORTAL, "nsenter", f"--net=/run/netns/{member.name}", *command])
        for member in members
    ]
    try:
        for member in members:
            answers = partial(member.do, partial(_listens, "127.0.0.1"))
            wait_for(f"the server of {member.name}", answers, _START)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, TCP_PORT), 1).close()
    except OSError:
        return False
    return True


def connect(address: str) -> socket.socket:
    """A connection that sends at once what there is to send."""
    connection = socket.create_connection((address, TCP_PORT), _PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def on_one_connection(address: str, count: int) -> list[int]:
    """How long requests take, in ns."""
    with connect(address) as connection:
        return [_request(connection) for _ in range(count)]


def on_new_connections(address: str, count: int) -> list[int]:
    """How long it takes to connect and to have a request answered, in ns."""
    found = []
    for _ in range(count):
        started = time.monotonic_ns()
        with connect(address) as connection:
            _request(connection)
            found.append(time.monotonic_ns() - started)
    return found


def _request(connection: socket.socket) -> int:
    started = time.monotonic_ns()
    connection.sendall(REQUEST)
    if connection.recv(1) != b"a":
        raise ConnectionError("a request was not answered")
    return time.monotonic_ns() - started


def many_connections(address: str, count: int, at_once: int) -> int:
    """Connections with a request each, several open at any time; ns for all of them."""
    selector, begun = selectors.DefaultSelector(), min(count, at_once)
    started = time.monotonic_ns()
    for _ in range(begun):
        _begin(selector, address)
    while selector.get_map():
        ready = selector.select(_PATIENCE)
        if not ready:
            raise TimeoutError(f"{len(selector.get_map())} connections have no answer")
        for key, _ in ready:
            if key.data(selector, key.fileobj) and begun < count:
                _begin(selector, address)
                begun += 1
    return time.monotonic_ns() - started


def _begin(selector: selectors.BaseSelector, address: str) -> None:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((address, TCP_PORT))
    selector.register(connection, selectors.EVENT_WRITE, _ask)


def _ask(selector: selectors.BaseSelector, connection: socket.socket) -> bool:
    connection.send(REQUEST)
    selector.modify(connection, selectors.EVENT_READ, _end)
    return False


def _end(selector: selectors.BaseSelector, connection: socket.socket) -> bool:
    if connection.recv(1) != b"a":
        raise ConnectionError("a request was not answered")
    selector.unregister(connection)
    connection.close()
    return True


def upload(address: str, octets: int) -> int:
    """Until the member has said that it has all of them, in ns; whole blocks are sent."""
    started = time.monotonic_ns()
    with connect(address) as connection:
        for _ in range(octets // len(_BLOCK)):
            connection.sendall(_BLOCK)
        connection.shutdown(socket.SHUT_WR)
        got = int(connection.makefile().readline())
    if got != octets:
        raise ConnectionError(f"{got} of {octets} octets arrived")
    return time.monotonic_ns() - started


def main() -> None:
    """Serve both families."""
    family = socket.AF_INET6
    Server().run(
        socket.create_server(("", TCP_PORT), family=family, backlog=1024, dualstack_ipv6=True)
    )


if __name__ == "__main__":
    main()
