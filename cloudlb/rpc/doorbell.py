# SPDX-License-Identifier: Apache-2.0
"""Ringing hosts' doorbells from a thread of its own: who changed something never waits for it.

A bus that is down holds a sender up for as long as it is down (oslo.messaging 18 retries its
connection without end, whatever it is told); meanwhile only the newest generation of each host is
kept. An agent that hears nothing pulls by itself.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from cloudlb.model.errors import Unavailable
from cloudlb.rpc.client import AgentClient

LOG = logging.getLogger(__name__)


class Doorbell:
    """Call it with host names and generations: it returns at once and never raises.

    A bus that refuses is logged when it goes and when it is back.
    """

    def __init__(self, changed: Callable[[str, int], None]) -> None:
        self._changed = changed
        self._pending: dict[str, int] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_down = False

    def __call__(self, hosts: Mapping[str, int]) -> None:
        """Ring, soon."""
        with self._wake:
            for host, generation in hosts.items():
                self._pending[host] = max(generation, self._pending.get(host, 0))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._pending:
                    self._wake.wait()
                host, generation = self._pending.popitem()
            self._ring(host, generation)

    def _ring(self, host: str, generation: int) -> None:
        try:
            self._changed(host, generation)
        except Unavailable as error:
            if not self._is_down:
                LOG.warning("bus=down cause=%s; agents pull by themselves", error.detail)
            self._is_down = True
            return
        if self._is_down:
            LOG.info("bus=up")
        self._is_down = False


def doorbell(client: AgentClient) -> Doorbell:
    """The doorbells of all hosts with an agent."""
    return Doorbell(client.changed)
