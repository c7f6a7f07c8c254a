# SPDX-License-Identifier: Apache-2.0
"""D12: what members' hosts that direct for each other carry, against a single director."""

import itertools
import statistics
from collections.abc import Sequence

from benchmarks import sandbox
from benchmarks.context import Context
from benchmarks.distributed import WAYS
from benchmarks.growth import LINK
from benchmarks.result import Line, Result
from benchmarks.rig import HOSTS

ROUNDS = 3
_MORE = 1.05
"""What a further host adds at the least, as a factor."""
_KINDS = {"down": "answers", "up": "uploads"}
_NAMES = {"mac": "MAC", "ipip": "IPIP"}

Samples = dict[str, list[float]]


def measure(_context: Context) -> Result:
    """Run `benchmarks.growth` several times: each time other ports have other members."""
    rounds = [sandbox.output("growth") for _ in range(ROUNDS)]
    samples = {name: [each[name] for each in rounds] for name in rounds[0]}
    return Result(lines(samples), samples)


def lines(samples: Samples) -> list[Line]:
    """By how packets are passed on, and by direction."""
    return [_line(samples, way, kind) for way in WAYS for kind in _KINDS]


def _line(samples: Samples, way: str, kind: str) -> Line:
    def median(name: str) -> float:
        return statistics.median(samples[f"{name} {kind}"])

    values = [median(f"dpr {way} {count}") for count in range(1, len(HOSTS) + 1)]
    return Line(
        "D12",
        f"DPR by {_NAMES[way]}, {_KINDS[kind]} over TCP with 1, 2, 3, 4 hosts, in links of "
        f"{LINK * 8 / 1e6:g} Mbit/s",
        f"one director and 4 members, NAT {median('director nat'):.2f}, DR "
        f"{median('director dr'):.2f}",
        f"each host adds ≥ {_MORE - 1:.0%}",
        ", ".join(f"{value:.2f}" for value in values),
        "met" if grows(values, _MORE) else "**missed**",
    )


def grows(values: Sequence[float], factor: float) -> bool:
    """Whether each value is so much larger than the one before."""
    return all(after >= factor * before for before, after in itertools.pairwise(values))
