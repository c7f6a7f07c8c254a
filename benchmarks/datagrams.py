# SPDX-License-Identifier: Apache-2.0
"""Datagrams to an address until one is answered."""

import collections
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

_INTERVAL = 0.002
_OPEN_PORTS = 400
_TIMEOUT = 30.0
_ECHO_PORT = 7


@dataclass(frozen=True)
class Moments:
    """Seconds after the start: the first datagram's answer, and the API's if that came first."""

    answered: float
    accepted: float | None


class Datagrams:
    """One every 2 ms, each from a port of its own; the newest ports stay open for answers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._open: collections.deque[socket.socket] = collections.deque()

    def run(self, lead: float, start: Callable[[], socket.socket]) -> Moments:
        """Call ``start`` after ``lead`` seconds; what it returns is watched for the API's answer.

        RuntimeError when somebody answers before the start, or nobody within 30 s.
        """
        due = time.monotonic()
        start_at, started = due + lead, 0.0
        accepted: float | None = None
        while not started or time.monotonic() < started + _TIMEOUT:
            if not started and time.monotonic() >= start_at:
                started = time.monotonic()
                api = start()
                self._selector.register(api, selectors.EVENT_READ)
            if time.monotonic() >= due:
                self._send()
                due = max(due + _INTERVAL, time.monotonic())
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                if started and key.fileobj is api:
                    accepted = time.monotonic() - started
                    self._selector.unregister(api)
                elif self._answered(key.data):
                    if not started:
                        raise RuntimeError(f"{self._address} answers before it was asked for")
                    return Moments(time.monotonic() - started, accepted)
        raise RuntimeError(f"{self._address} does not answer within {_TIMEOUT:g} s")

    def close(self) -> None:
        """Close all ports."""
        for each in self._open:
            each.close()
        self._selector.close()

    def _send(self) -> None:
        if len(self._open) >= _OPEN_PORTS:
            self._forget(self._open[0])
        port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._open.append(port)
        self._selector.register(port, selectors.EVENT_READ, port)
        try:
            port.connect((self._address, _ECHO_PORT))
            port.send(b"bench")
        except OSError:  # no neighbour at that address yet
            self._forget(port)

    def _answered(self, port: socket.socket) -> bool:
        try:
            return bool(port.recv(64))
        except OSError:
            self._forget(port)
            return False

    def _forget(self, port: socket.socket) -> None:
        self._selector.unregister(port)
        self._open.remove(port)
        port.close()
