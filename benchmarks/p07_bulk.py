# SPDX-License-Identifier: Apache-2.0
"""P7: bulk TCP through DR and TUN, against a machine in the director's place that forwards."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks import sandbox
from benchmarks.bulk import MODES, Pair
from benchmarks.context import Context
from benchmarks.result import NO_TARGET, Line, Result, at_least, spread

ROUNDS = 25

Samples = Mapping[str, Sequence[tuple[Pair, Pair]]]


def measure(_context: Context) -> Result:
    """Run `benchmarks.bulk` in namespaces of its own."""
    samples = sandbox.output("bulk", "--rounds", str(ROUNDS))
    return Result(lines(samples), samples)


def lines(samples: Samples) -> list[Line]:
    """Throughput, and the CPU time of everything for an octet."""
    return [line for name in MODES for line in _lines(samples[name], name)]


def _lines(rounds: Sequence[tuple[Pair, Pair]], name: str) -> list[Line]:
    faster = [plain[0] / through[0] for plain, through in rounds]
    dearer = [through[1] / plain[1] for plain, through in rounds]
    rate = statistics.median(8 / through[0] for _, through in rounds)
    median = statistics.median(faster)
    return [
        Line(
            "P7",
            f"bulk TCP through {name}, IPv4, throughput ÷ that of a plain hop",
            "ip_forward 1",
            "≥ 1",
            f"{spread(faster)}; {rate:.1f} Gbit/s",
            at_least(median, 1.0),
        ),
        Line(
            "P7",
            f"bulk TCP through {name}, IPv4, CPU per octet ÷ that of a plain hop",
            "ip_forward 1",
            NO_TARGET,
            spread(dearer),
        ),
    ]
