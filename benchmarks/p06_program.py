# SPDX-License-Identifier: Apache-2.0
"""P6: instructions per packet of the programs by test run, beside a program that only parses.

Instructions are counted in a guest (`benchmarks.counting`); ns on this machine stand beside.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import counting
from benchmarks.context import Context
from benchmarks.result import NO_TARGET, Line, Result, at_most, spread

ROUNDS, COUNTED_ROUNDS, COUNTED_REPEAT = 15, 3, 500
HIT_TC, V6_TO_V4 = 3.0, 1.25
_WHAT = {
    "director hit": "director, packet of a known connection",
    "director pass": "director, packet to no pool",
    "from_guest": "at the tap, answer of a member",
    "to_guest": "at the tap, packet to a member",
}
_PEERS = "bare DR without a table 2.4 (154 ÷ 64 ns, another run)"

Samples = dict[str, list[float]]


def measure(context: Context) -> Result:
    """Run `benchmarks.testrun` in a guest, and in namespaces of its own."""
    counted, timed = _counted(context), _timed(context)
    samples = {"instructions": counted, "ns": timed}
    return Result(lines(counted, timed), samples, counting.WHERE)


def _counted(context: Context) -> Samples:
    options = f"--rounds {COUNTED_ROUNDS} --repeat {COUNTED_REPEAT}".split()
    found: Samples = json.loads(counting.output(context, "testrun", "/tmp", *options))  # noqa: S108
    return found


def _timed(context: Context) -> Samples:
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
    found: Samples = json.loads(done.stdout)
    return found


def lines(counted: Samples, timed: Samples) -> list[Line]:
    """One line for each path; only a known connection has a target."""
    found = [
        _line(counted, timed, f"{name} {version}", f"{what}, IPv{version}", f"parser {version}")
        for name, what in _WHAT.items()
        for version in (4, 6)
    ]
    found += [
        _line(
            counted,
            timed,
            f"new {version}",
            f"director, new connection, IPv{version}, one run each",
            f"one {version}",
        )
        for version in (4, 6)
    ]
    ratio = _ratios(counted, "director hit 6", "director hit 4")
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


def _line(counted: Samples, timed: Samples, name: str, what: str, floor: str) -> Line:
    ratio, by_time = _ratios(counted, name, floor), _ratios(timed, name, floor)
    is_hit = name.startswith("director hit")
    return Line(
        "P6",
        f"{what}: instructions ÷ parser's",
        _PEERS if is_hit else "–",
        f"≤ {HIT_TC:g} on tc" if is_hit else NO_TARGET,
        f"{spread(ratio)}; {statistics.median(counted[name]):.0f} ÷ "
        f"{statistics.median(counted[floor]):.0f}; by time {spread(by_time)}",
        at_most(statistics.median(ratio), HIT_TC) if is_hit else NO_TARGET,
    )


def _ratios(samples: Samples, name: str, floor: str) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(samples[name], samples[floor], strict=True)]
