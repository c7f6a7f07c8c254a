# SPDX-License-Identifier: Apache-2.0
"""Programs in network and mount namespaces of their own: what they make goes with them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_SCRIPT = 'mount -t tmpfs tmpfs /run && mount -t bpf bpf /sys/fs/bpf && exec "$@"'
_ALONE = ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh")


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of this package alone, as root; a rig fits in there."""
    return [*_ALONE, sys.executable, "-m", f"benchmarks.{module}", *arguments]


def output(module: str, *arguments: str) -> Any:
    """The JSON that it prints on this machine's own kernel."""
    done = subprocess.run(
        command(module, *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr or done.stdout}")
    return json.loads(done.stdout)
