# SPDX-License-Identifier: Apache-2.0
"""A message bus inside this process whose readers sleep until there is a message.

kombu has such a transport, ``memory``, but its readers ask again and again; with oslo.messaging,
which takes the pause between two questions away, each of them takes what a CPU can give.
"""

import threading
import time
from queue import Empty
from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, memory

NAME = "inprocess"
URL = f"kombu+{NAME}://"
_LONGEST_WAIT = 0.1  # a reader that shall stop is not woken


class _Arrivals:
    """Counts the messages of all queues, and wakes who waits for one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Until there were more than ``seen``; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count != seen, seconds)


class Channel(memory.Channel):  # type: ignore[misc]
    """kombu's, which wakes the readers."""

    arrivals = _Arrivals()

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        self.arrivals.add()

    def _put_fanout(self, exchange: str, message: Any, routing_key: Any = None, **kw: Any) -> None:
        super()._put_fanout(exchange, message, routing_key, **kw)
        self.arrivals.add()


class Transport(memory.Transport):  # type: ignore[misc]
    """All connections of a process are to the same broker, which is in it."""

    Channel = Channel
    default_connection_params: ClassVar[dict[str, Any]] = {}  # no host, and no warning about one

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver a message; TimeoutError when none comes within ``timeout`` seconds, of which a
        tenth of one is waited at most: who reads asks again.
        """
        longest = _LONGEST_WAIT if timeout is None else min(timeout, _LONGEST_WAIT)
        deadline = time.monotonic() + longest
        while True:
            seen = Channel.arrivals.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                if not Channel.arrivals.wait(seen, max(0.0, deadline - time.monotonic())):
                    raise TimeoutError from None


def register() -> None:
    """Make it known to kombu."""
    TRANSPORT_ALIASES[NAME] = f"{__name__}:Transport"
