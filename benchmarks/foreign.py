# SPDX-License-Identifier: Apache-2.0
"""How much of the machine others used while something was measured.

Times in ms mean something only when others used less than `QUIET` CPU-seconds per second.
"""

import os
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

QUIET = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")
_KERNEL = 2
_PPID, _TIMES = 1, slice(11, 15)


class Foreign:
    """CPU time of processes that are neither ours nor in ``namespaces`` (names of netns pins).

    ``rate`` in CPU-seconds per second, once the block has ended. Of an ended process counts what
    its parent was told; kernel threads do not count.
    """

    def __init__(self, namespaces: Collection[str] = ()) -> None:
        self._inodes = {Path("/run/netns", name).stat().st_ino for name in namespaces}
        self.rate = 0.0

    def __enter__(self) -> Self:
        self._used, self._began = self._sum(), time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._began
        self.rate = max(0.0, self._sum() - self._used) / seconds

    def _sum(self) -> float:
        processes = _processes()
        return sum(
            used
            for pid, (_, used) in processes.items()
            if not _descends(pid, processes) and _network(pid) not in self._inodes
        )


def _processes() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds, with those of reaped children, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid, parent = int(path.parent.name), int(fields[_PPID])
        if _KERNEL not in (pid, parent):
            found[pid] = parent, sum(map(int, fields[_TIMES])) / _TICKS
    return found


def _descends(pid: int, processes: dict[int, tuple[int, float]]) -> bool:
    while pid in processes:
        if pid == os.getpid():
            return True
        pid = processes[pid][0]
    return False


def _network(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0
