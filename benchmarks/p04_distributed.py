# SPDX-License-Identifier: Apache-2.0
"""P4: what it costs that four hosts direct for each other, and by how many a client comes."""

import json
import statistics

from benchmarks import counting
from benchmarks.context import Context
from benchmarks.p01_own_cost import Samples, line
from benchmarks.result import NO_TARGET, Line, Result, at_most
from benchmarks.rig import HOSTS

ROUNDS = 2
_TARGETS = {"ipip": (0.60, 0.32), "mac": (0.45, 0.21)}
_NAMES = {"ipip": "IPIP", "mac": "MAC"}
_FLAT = 5.0
"""Per cent around the mean."""


def measure(context: Context) -> Result:
    """Run `benchmarks.distributed` in a guest."""
    samples: Samples = json.loads(counting.output(context, "distributed", "--rounds", str(ROUNDS)))
    return Result(lines(samples), samples, counting.WHERE)


def lines(samples: Samples) -> list[Line]:
    """With clients at all four hosts; then how costs change with the number of entry hosts."""
    own = [
        line(
            samples,
            "P4",
            f"DPR, 4 hosts, by {_NAMES[way]}, IPv{version}",
            f"dpr {way} {len(HOSTS)}",
            version,
            kind,
            (),
            target,
        )
        for way, targets in _TARGETS.items()
        for kind, target in zip(("udp", "tcp"), targets, strict=True)
        for version in (4, 6)
    ]
    return own + [_flatness(samples, way, version) for way in _TARGETS for version in (4, 6)]


def _flatness(samples: Samples, way: str, version: int) -> Line:
    costs = [
        statistics.median(samples[f"dpr {way} {count} {version} tcp"])
        for count in range(1, len(HOSTS) + 1)
    ]
    value = deviation(costs)
    counted = ", ".join(f"{cost:.0f}" for cost in costs)
    return Line(
        "P4",
        f"DPR by {_NAMES[way]}, IPv{version}, cost per TCP "
        "connection with 1, 2, 3, 4 entry hosts, largest deviation from the mean",
        NO_TARGET,
        f"≤ {_FLAT:g} %",
        f"{value:.1f} %; {counted} instructions",
        at_most(value, _FLAT),
    )


def deviation(values: list[float]) -> float:
    """The largest distance from the mean, in per cent of it."""
    mean = statistics.mean(values)
    return max(abs(value / mean - 1) for value in values) * 100
