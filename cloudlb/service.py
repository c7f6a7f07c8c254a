# SPDX-License-Identifier: Apache-2.0
"""What every service process does: threads that end the process when they fail, signals, systemd.

One process per service with native threads; something above (systemd, the lab) restarts it.
"""

import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec

from oslo_config import cfg
from oslo_log import log

from cloudlb.model.errors import CloudlbError

LOG = logging.getLogger(__name__)
P = ParamSpec("P")


def explained(name: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Have a program ``name`` that cannot start say why in one line; its exit status is 1 then."""

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except (CloudlbError, cfg.Error) as error:
                sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
                return 1

        return run

    return decorate


def prepare(conf: cfg.ConfigOpts, name: str) -> None:
    """Start logging as the configuration says, in the name of a service."""
    log.setup(conf, name)


class Service:
    """The threads of a process, a stop event for them, and the exit status.

    ``stopping`` is set when the process shall end. A thread that ends with an exception ends the
    process with status 1, so that what is above can restart it.
    """

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._name = name
        self._threads: list[threading.Thread] = []
        self._status = 0

    def thread(self, name: str, run: Callable[[threading.Event], None]) -> None:
        """Start a thread that runs ``run(stopping)``."""
        thread = threading.Thread(target=self._guard, args=(name, run), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def run(self, drain: float = 5.0) -> int:
        """Wait for SIGTERM or SIGINT, then for the threads; the exit status of the process.

        ``drain`` is the number of seconds that all threads together get to end.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        notify("READY=1")
        LOG.info("service=%s state=running", self._name)
        self.stopping.wait()
        notify("STOPPING=1")
        for thread in self._threads:
            thread.join(drain / max(1, len(self._threads)))
        LOG.info("service=%s state=stopped status=%d", self._name, self._status)
        return self._status

    def _guard(self, name: str, run: Callable[[threading.Event], None]) -> None:
        try:
            run(self.stopping)
        except Exception:
            LOG.exception("service=%s thread=%s failed, the process ends", self._name, name)
            self._status = 1
            self.stopping.set()


def notify(state: str) -> None:
    """Tell systemd a state (sd_notify(3)); does nothing where nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + path[1:] if path.startswith("@") else path)
        channel.sendall(state.encode())
