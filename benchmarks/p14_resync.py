# SPDX-License-Identifier: Apache-2.0
"""P14: an agent brings 1000 pools of 100 members about, and finds them unchanged."""

import statistics
from collections.abc import Sequence

from benchmarks.context import Context
from benchmarks.p09_one_change import Samples, scaled
from benchmarks.result import NO_TARGET, Line, Result, at_most, spread

ROUNDS = 3
_PEERS = "kube-proxy nft 1.4 (another run)"


def measure(context: Context) -> Result:
    """Every round is a kernel without maps and two agents."""
    samples: Samples = {}
    for _ in range(ROUNDS):
        for name, values in scaled(context, "resync").items():
            samples.setdefault(name, []).extend(values)
    return Result(lines(samples), samples)


def lines(samples: Samples) -> Sequence[Line]:
    """Times, writes, memory."""
    pools = "1000 pools × 100 members"
    return [
        _line(samples, "from nothing", f"{pools} into an empty kernel, s of CPU", _PEERS, 1.5),
        _line(samples, "unchanged", f"{pools} found unchanged, s of CPU", NO_TARGET, 0.5),
        _line(samples, "writes", "writes to maps by the latter", NO_TARGET, 0),
        _line(samples, "memory", "memory of the process, MiB", NO_TARGET, 200),
        Line("P14", "memory of the maps, MiB", NO_TARGET, NO_TARGET, spread(samples["maps"])),
    ]


def _line(samples: Samples, name: str, what: str, peers: str, target: float) -> Line:
    median = statistics.median(samples[name])
    verdict = at_most(median, target) if target or not median else "**missed**"
    return Line("P14", what, peers, f"≤ {target:g}", spread(samples[name]), verdict)
