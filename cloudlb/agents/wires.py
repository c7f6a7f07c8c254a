# SPDX-License-Identifier: Apache-2.0
"""The packet sockets of a prober, one for each interface, opened when they are needed."""

import logging
import selectors
import time
from collections.abc import Sequence

from cloudlb.net.packet import ProbeSocket

LOG = logging.getLogger(__name__)
_MOST_QUEUED = 4096


class Wires:
    """Frames out of and into interfaces. ``first_port`` is the first source port of probes."""

    def __init__(self, first_port: int) -> None:
        self._first_port = first_port
        self._sockets: dict[str, ProbeSocket] = {}
        self._queued: dict[str, list[bytes]] = {}
        self._selector = selectors.DefaultSelector()

    def send(self, interface: str, frames: Sequence[bytes]) -> None:
        """Send frames at the next `flush`. Of more than the kernel has room for the newest are
        lost, as they would be on a link.
        """
        queued = self._queued.setdefault(interface, [])
        if len(queued) < _MOST_QUEUED:
            queued += frames

    def flush(self) -> None:
        """Send what waits."""
        for interface, frames in list(self._queued.items()):
            try:
                sent = self._socket(interface).send(frames)
            except OSError as error:
                self._drop(interface, error)
                continue
            del frames[:sent]
            if not frames:
                del self._queued[interface]

    def receive(self, wait: float) -> list[tuple[str, bytes]]:
        """What has arrived, with the interface; waits so many seconds for the first frame."""
        if not self._selector.get_map():
            time.sleep(wait)
            return []
        received: list[tuple[str, bytes]] = []
        for key, _ in self._selector.select(wait):
            try:
                received += [(key.data, frame) for frame in self._sockets[key.data].receive()]
            except OSError as error:
                self._drop(key.data, error)
        return received

    def close(self) -> None:
        """Close all sockets."""
        for probe_socket in self._sockets.values():
            probe_socket.close()
        self._selector.close()

    def _socket(self, interface: str) -> ProbeSocket:
        if interface not in self._sockets:
            opened = self._sockets[interface] = ProbeSocket(interface, self._first_port)
            self._selector.register(opened, selectors.EVENT_READ, interface)
        return self._sockets[interface]

    def _drop(self, interface: str, error: OSError) -> None:
        """An interface that is down may come back as another one: then with another socket."""
        LOG.debug("interface=%s probe failed: %s", interface, error)
        self._queued.pop(interface, None)
        if probe_socket := self._sockets.pop(interface, None):
            self._selector.unregister(probe_socket)
            probe_socket.close()
