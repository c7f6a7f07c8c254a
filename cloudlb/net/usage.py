# SPDX-License-Identifier: Apache-2.0
"""How busy this host is, by procfs (proc(5))."""

from pathlib import Path
from typing import NamedTuple

_STAT = Path("/proc/stat")
_SOCKETS = Path("/proc/net/sockstat"), Path("/proc/net/sockstat6")


class CpuTime(NamedTuple):
    """Ticks of all processors since boot: those with work, and all."""

    busy: int
    total: int

    def percent_since(self, before: "CpuTime") -> float:
        """How busy the processors were between two readings."""
        total = self.total - before.total
        return 100 * (self.busy - before.busy) / total if total > 0 else 0.0


def cpu_time(stat: Path = _STAT) -> CpuTime:
    """Of the first line: user, nice, system, idle, iowait, irq, softirq, steal."""
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    return CpuTime(sum(ticks) - ticks[3] - ticks[4], sum(ticks))


def tcp_sockets(*tables: Path) -> int:
    """TCP sockets in use in this network namespace, of both families."""
    found = 0
    for table in tables or _SOCKETS:
        for line in table.read_text().splitlines():
            words = line.split()
            if words[0] in ("TCP:", "TCP6:"):
                found += int(words[2])
    return found
