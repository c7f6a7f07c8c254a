# SPDX-License-Identifier: Apache-2.0
"""The process that elects for a host: keepalived's parent, and the herald of what it says.

It ends when it is told to, and takes keepalived with it. When it is killed, keepalived is ended
by the kernel (PR_SET_PDEATHSIG) and says goodbye to the others; when keepalived is killed, this
process stops announcing at once and starts another one.
"""

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cloudlb.agents import alone
from cloudlb.agents.herald import Addresses, Herald, tell
from cloudlb.agents.orders import Desk
from cloudlb.model.errors import CloudlbError

LOG = logging.getLogger(__name__)
_RESTART = 1.0
_LONGEST_REST = 30.0
_RENEWALS = 4  # in each interval


class Electing:
    """keepalived by the orders on a desk, and a herald beside it. ``pins``: an engine's maps."""

    def __init__(self, desk: Desk, pins: Path) -> None:
        orders = desk.read()
        if orders is None:
            raise CloudlbError(f"There are no orders in {desk.directory}.")
        self._desk, self._pause = desk, orders.interval / _RENEWALS
        self._herald = Herald(Addresses(pins), orders.interval, tell)
        self._child: subprocess.Popen[bytes] | None = None
        self._start_at, self._rest_for = 0.0, _RESTART / 2
        self._rest = b""
        self._signals: set[signal.Signals] = set()

    def run(self) -> None:
        """Elect until SIGTERM; SIGHUP has the orders read anew."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda n, _frame: self._signals.add(signal.Signals(n)))
        events = self._open_events()
        self._take_orders()
        while not self._signals & {signal.SIGTERM, signal.SIGINT}:
            if signal.SIGHUP in self._signals:
                self._signals.discard(signal.SIGHUP)
                self._take_orders()
                self._signal(signal.SIGHUP)
            self._look_after_keepalived()
            self._listen(events)
            self._herald.renew()
        self._herald.stop()
        self._end()

    def _open_events(self) -> int:
        """Opened for writing too, so that there is no end of file between two keepaliveds."""
        self._desk.events.unlink(missing_ok=True)
        os.mkfifo(self._desk.events, 0o600)
        return os.open(self._desk.events, os.O_RDWR | os.O_NONBLOCK)

    def _take_orders(self) -> None:
        orders = self._desk.read()
        if orders:
            self._herald.serve({duty.router: duty.link for duty in orders.duties})

    def _look_after_keepalived(self) -> None:
        """One that ends again and again is started less and less often."""
        now = time.monotonic()
        if self._child and self._child.poll() is not None:
            LOG.warning("keepalived=ended status=%d", self._child.returncode)
            self._herald.stop()
            lived = now - self._start_at
            self._rest_for = _RESTART if lived > _LONGEST_REST else self._rest_for * 2
            self._child, self._start_at = None, now + min(self._rest_for, _LONGEST_REST)
        if self._child is None and now >= self._start_at:
            self._child = subprocess.Popen(command(self._desk), stdin=subprocess.DEVNULL)
            self._start_at = now

    def _listen(self, events: int) -> None:
        ready, _, _ = select.select([events], [], [], self._pause)
        if not ready:
            return
        lines = (self._rest + os.read(events, 65536)).split(b"\n")
        self._rest = lines.pop()
        if self._child and self._child.poll() is None:  # else it is what a dead one has said
            for line in lines:
                self._herald.hear(line.decode(errors="replace"))

    def _signal(self, number: signal.Signals) -> None:
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            if self._child:
                self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)


def command(desk: Desk) -> Sequence[str]:
    """keepalived in the foreground, without anything of its usual places."""
    return (
        "setpriv",
        "--pdeathsig=TERM",
        "keepalived",
        "--dont-fork",
        "--vrrp",
        "--log-console",
        f"--use-file={desk.configuration}",
        f"--pid={desk.directory / 'keepalived.pid'}",
        f"--vrrp_pid={desk.directory / 'vrrp.pid'}",
    )


def elect(directory: Path, pins: Path) -> None:
    """Be the one process that elects by the orders in ``directory``, until SIGTERM.

    Raises Conflict when there is another one.
    """
    alone.hold(directory)
    desk = Desk(directory)
    desk.pid.write_text(str(os.getpid()))
    Electing(desk, pins).run()
