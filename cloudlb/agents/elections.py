# SPDX-License-Identifier: Apache-2.0
"""The elections of a host as its agent sees them: it gives orders and looks at the leases.

The electing process outlives the agent. The next agent finds it by the lock that it holds, gives
it new orders where they differ, and exchanges it where it works on the maps of another version.

All directors of a pool hear of an election at about the same time. Those that are not the first
stand in it some seconds later: whoever is master when the first one comes up announces for a
while, beside a director that was the only one until then.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloudlb.agents import keepalived
from cloudlb.agents.candidacy import VirtualRouter
from cloudlb.agents.orders import Desk, Duty, Orders

LOG = logging.getLogger(__name__)
_LOOK = 0.5
_START = 2.0
_END = 10.0
_HEAD_START = 2.0, 4  # seconds to start in, and heartbeats until nobody else is master


class Elections:
    """Keeps an electing process at work on what ``wanted()`` says, which is None while that is
    not known, on the maps below ``pins``. ``looked()`` is called after every look.
    """

    def __init__(
        self,
        directory: Path,
        interval: float,
        pins: Path | None,
        wanted: Callable[[], tuple[VirtualRouter, ...] | None],
        looked: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk, self._interval, self._pins = Desk(directory), interval, pins
        self._clock = clock
        self._since: dict[int, float] | None = None
        self._wanted, self._looked = wanted, looked
        self._orders: Orders | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._start_at, self._failure = 0.0, ""

    def run(self, stopping: threading.Event) -> None:
        """Look twice a second until ``stopping``; the electing process stays."""
        while not stopping.wait(_LOOK):
            self.look()

    def look(self) -> None:
        """Bring the electing process in line with what is wanted."""
        wanted = self._wanted()
        if wanted is not None and self._pins is not None:
            try:
                self._bring_about(wanted, self._pins)
            except OSError as error:
                if str(error) != self._failure:
                    LOG.warning("elections=failing: %s", error)
                self._failure = str(error)
        self._looked()

    def _bring_about(self, wanted: tuple[VirtualRouter, ...], pins: Path) -> None:
        if self._child:
            self._child.poll()
        process = find(self._desk)
        wanted = self._due(wanted, process)
        if process is not None and (not wanted or not _works_on(process, pins)):
            end(self._desk)
            process = None
        if wanted:
            self._order(wanted, process)
        if wanted and process is None and self._clock() >= self._start_at:
            self._start(pins)

    def _due(
        self, wanted: tuple[VirtualRouter, ...], process: int | None
    ) -> tuple[VirtualRouter, ...]:
        """Those to stand in now: others have had their head start."""
        now, (seconds, heartbeats) = self._clock(), _HEAD_START
        if self._since is None:
            orders = self._desk.read() if process is not None else None
            duties = orders.duties if orders else ()
            self._since = {duty.router: float("-inf") for duty in duties}
        self._since = {r.number: self._since.get(r.number, now) for r in wanted}
        due = now - seconds - heartbeats * self._interval
        return tuple(r for r in wanted if r.is_first or self._since[r.number] <= due)

    def _order(self, wanted: tuple[VirtualRouter, ...], process: int | None) -> None:
        events = self._desk.events
        orders = Orders(
            interval=self._interval,
            duties=tuple(Duty(router.number, router.link) for router in wanted),
            configuration=keepalived.configuration(wanted, self._interval, events),
        )
        if orders == self._orders or orders == self._desk.read():
            self._orders = orders
            return
        self._desk.write(orders)
        self._orders = orders
        LOG.info("elections=%s", ",".join(str(duty.router) for duty in orders.duties))
        if process is not None:
            os.kill(process, signal.SIGHUP)

    def _start(self, pins: Path) -> None:
        self._start_at = self._clock() + _START
        self._child = subprocess.Popen(
            [*_command(self._desk), f"--pins={pins}"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        LOG.info("elections=started pid=%d", self._child.pid)


def _command(desk: Desk) -> tuple[str, ...]:
    return (sys.executable, "-m", "cloudlb.cmd.election", f"--directory={desk.directory}")


def find(desk: Desk) -> int | None:
    """The number of the process that elects by a desk's orders; None if there is none."""
    if not _is_held(desk.directory):
        return None
    with suppress(OSError, ValueError):
        pid = int(desk.pid.read_text())
        if f"--directory={desk.directory}" in _arguments(pid):
            return pid
    return None


def end(desk: Desk) -> bool:
    """End that process, with all that it announces; whether there was one."""
    pid = find(desk)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END
    while find(desk) == pid and time.monotonic() < deadline:
        time.sleep(0.02)
    if find(desk) == pid:
        os.kill(pid, signal.SIGKILL)
    return True


def _works_on(pid: int, pins: Path) -> bool:
    return f"--pins={pins}" in _arguments(pid)


def _arguments(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def _is_held(directory: Path) -> bool:
    """Whether some process has the lock of `alone.hold`."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
