# SPDX-License-Identifier: Apache-2.0
"""Processes by identity: a pid together with its start time is never another process."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cloudlb.lab.errors import DeadlineError

_STATE_FIELD = 0
_THREADS_FIELD = 17
_START_FIELD = 19


@dataclass(frozen=True)
class ProcessId:
    """A process; `started` is its start time in clock ticks since the machine's boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Identify a process that runs now; ProcessLookupError when there is none."""
        fields = _stat(pid)
        if fields is None:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[_START_FIELD]))

    def alive(self) -> bool:
        """Whether the process still runs; a zombie does not, unless threads of it do."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        fields = _stat(self.pid)
        return (
            fields is not None
            and int(fields[_START_FIELD]) == self.started
            and (fields[_STATE_FIELD] not in "ZX" or int(fields[_THREADS_FIELD]) > 1)
        )

    def send(self, number: signal.Signals) -> bool:
        """Send a signal through a pidfd, so that a recycled pid cannot get it."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def in_network_namespace(pin: Path) -> list[ProcessId]:
    """Return the processes whose network namespace is the one pinned at a path."""
    try:
        wanted = pin.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.path.samestat((entry / "ns/net").stat(), wanted):
                found.append(ProcessId.of(int(entry.name)))
    return [process for process in found if process.alive()]


def wait_gone(processes: Iterable[ProcessId], seconds: float) -> list[ProcessId]:
    """Wait for processes to end; return those that still run after `seconds`."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if process.alive()]
    return left


def wait_for(
    what: str,
    ready: Callable[[], bool],
    seconds: float,
    hint: str = "",
    interval: float = 0.05,
) -> None:
    """Wait for a condition; raise a DeadlineError that names `what`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise DeadlineError(what, seconds, hint)
        time.sleep(interval)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command's name, the state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
