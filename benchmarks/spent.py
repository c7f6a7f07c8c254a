# SPDX-License-Identifier: Apache-2.0
"""CPU time of a run that has a mount namespace of its own, with what its packets cost.

A packet on a veth pair is received in the sender's time, or in that of ``ksoftirqd``.
"""

import os
from pathlib import Path


def spent() -> int:
    """ns that processes which see this process' mounts, and ``ksoftirqd``, have run so far."""
    mine = os.readlink("/proc/self/ns/mnt")
    return sum(_ran(process) for process in Path("/proc").glob("[0-9]*") if _counts(process, mine))


def _counts(process: Path, mounts: str) -> bool:
    try:
        if (process / "comm").read_text().startswith("ksoftirqd/"):
            return True
        return os.readlink(process / "ns/mnt") == mounts
    except OSError:
        return False


def _ran(process: Path) -> int:
    """Of all threads that it has now."""
    total = 0
    for path in process.glob("task/*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except OSError:
            continue
    return total
