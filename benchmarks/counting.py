# SPDX-License-Identifier: Apache-2.0
"""Programs in a guest whose clocks count instructions, which no other work changes.

QEMU advances the guest's time by a nanosecond for each instruction (``-icount shift=0``), so that
whatever measures time there counts instructions. The guest runs Debian 12's kernel.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.context import Context
from cloudlb.lab.image import Cache
from tests.guest.machine import COUNTING, MODULES, PEERS, booted

ROOT = Path(__file__).parents[1]
SECONDS = 1200
WHERE = "; instructions in a guest with Linux 6.1"


def output(context: Context, module: str, *arguments: str) -> str:
    """What a module of this package prints there; it may write below /tmp and /run."""
    with (
        tempfile.TemporaryDirectory() as state,
        booted(
            Cache(context.cache).kernel_package(), ROOT, COUNTING, Path(state), MODULES + PEERS
        ) as machine,
    ):
        command = " ".join((sys.executable, "-m", f"benchmarks.{module}", *arguments))
        outcome = machine.run(command, SECONDS)
    if outcome.status:
        raise RuntimeError(f"{command}: {outcome}")
    return outcome.output
