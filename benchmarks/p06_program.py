# SPDX-License-Identifier: Apache-2.0
"""P6: ns per packet of the programs by test run, beside a program that only parses."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.context import Context
from benchmarks.result import NO_TARGET, Line, Result, at_most, spread

ROUNDS = 15
HIT_TC, V6_TO_V4 = 3.0, 1.25
_WHAT = {
    "director hit": "director, packet of a known connection",
    "director pass": "director, packet to no pool",
    "from_guest": "at the tap, answer of a member",
    "to_guest": "at the tap, packet to a member",
}
_PEERS = "bare DR without a table 2.4 (154 ÷ 64, another run)"

Samples = dict[str, list[float]]


def measure(context: Context) -> Result:
    """Run `benchmarks.testrun` in namespaces of its own."""
    directory = context.directory / "bench"
    directory.mkdir(exist_ok=True)
    inner = [sys.executable, "-m", "benchmarks.testrun", str(directory), "--rounds", str(ROUNDS)]
    done = subprocess.run(
        ["unshare", "--net", "--mount", *inner],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    samples: Samples = json.loads(done.stdout)
    return Result(lines(samples), samples)


def lines(samples: Samples) -> list[Line]:
    """One line for each path; only a known connection has a target."""
    found = [
        _line(samples, f"{name} {version}", f"{what}, IPv{version}", f"parser {version}")
        for name, what in _WHAT.items()
        for version in (4, 6)
    ]
    found += [
        _line(
            samples,
            f"new {version}",
            f"director, new connection, IPv{version}, one run each",
            f"one {version}",
        )
        for version in (4, 6)
    ]
    ratio = _ratios(samples, "director hit 6", "director hit 4")
    found.append(
        Line(
            "P6",
            "IPv6 ÷ IPv4, packet of a known connection",
            "–",
            f"≤ {V6_TO_V4}",
            spread(ratio),
            at_most(statistics.median(ratio), V6_TO_V4),
        )
    )
    found.append(Line("P6", "XDP", "bare DR 74, its parser 55", "≤ 2.0 × parser", "no XDP yet"))
    return found


def _line(samples: Samples, name: str, what: str, floor: str) -> Line:
    ratio = _ratios(samples, name, floor)
    is_hit = name.startswith("director hit")
    return Line(
        "P6",
        f"{what}: ns ÷ parser's",
        _PEERS if is_hit else "–",
        f"≤ {HIT_TC:g} on tc" if is_hit else NO_TARGET,
        f"{spread(ratio)}; {statistics.median(samples[name]):.0f} ÷ "
        f"{statistics.median(samples[floor]):.0f} ns",
        at_most(statistics.median(ratio), HIT_TC) if is_hit else NO_TARGET,
    )


def _ratios(samples: Samples, name: str, floor: str) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(samples[name], samples[floor], strict=True)]
