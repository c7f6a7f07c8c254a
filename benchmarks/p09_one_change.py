# SPDX-License-Identifier: Apache-2.0
"""P9: one change of a pool among many, on the agent's side, beside a transaction of nftables."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.context import Context
from benchmarks.result import NO_TARGET, Line, Result, at_most, spread

TARGET, OBEYED = 1.0, 2.0
_PEERS = "haproxy 0.05, libnftables 8.4, nft -f 28 (another run)"
_KINDS = {"turns": "round robin", "table": "source hash"}

Samples = dict[str, list[float]]


def measure(context: Context) -> Result:
    """Run `benchmarks.scale` in namespaces of its own."""
    samples = scaled(context, "change")
    return Result(lines(samples), samples)


def scaled(context: Context, *what: str) -> Samples:
    """The samples of a run of `benchmarks.scale`."""
    directory = context.directory / "bench"
    directory.mkdir(exist_ok=True)
    inner = [sys.executable, "-m", "benchmarks.scale", *what, str(directory)]
    done = subprocess.run(
        ["unshare", "--net", "--mount", *inner],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Samples = json.loads(done.stdout)
    return found


def lines(samples: Samples) -> Sequence[Line]:
    """Two lines for each kind of pool."""
    found = []
    for kind, words in _KINDS.items():
        alone, among = samples[f"{kind} 1"], samples[f"{kind} 1000"]
        what = f"a member of 100 leaves or comes back, {words}"
        measured = f"{spread(among)}; alone {spread(alone)}"
        verdict = at_most(statistics.median(among), TARGET)
        found.append(
            Line("P9", f"{what}, among 1000 pools: ms of CPU", _PEERS, "≤ 1", measured, verdict)
        )
        obeyed = samples[f"{kind} 1000 obeyed"]
        verdict = at_most(statistics.median(obeyed), OBEYED)
        found.append(
            Line(
                "P9",
                f"{what}: ms until a new one obeys",
                NO_TARGET,
                "≤ 2",
                spread(obeyed),
                verdict,
            )
        )
    return found
