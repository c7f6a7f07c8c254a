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
HIT = {"director hit": 3.0, "express": 2.0}
V6_TO_V4 = 1.25
_WHAT = {
    "director hit": "director, packet of a known connection",
    "express": "director on XDP, packet of a known connection",
    "director pass": "director, packet to no pool",
    "from_guest": "at the tap, answer of a member",
    "to_guest": "at the tap, packet to a member",
}
_FLOORS = {"express": "frame_parser"}
_PEERS = {
    "director hit": "bare DR without a table 2.4 (154 ÷ 64 ns, another run)",
    "express": "bare DR without a table 1.3 (74 ÷ 55 ns, another run)",
}

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
        _line(counted, timed, name, version, what, _FLOORS.get(name, "parser"))
        for name, what in _WHAT.items()
        for version in (4, 6)
    ]
    found += [
        _line(counted, timed, "new", version, "director, new connection, one run each", "one")
        for version in (4, 6)
    ]
    found.append(_between_families(counted, "director hit", "packet of a known connection"))
    found.append(_between_families(counted, "express", "packet of a known connection on XDP"))
    return found


def _line(
    counted: Samples, timed: Samples, name: str, version: int, what: str, floor: str
) -> Line:
    over, under = f"{name} {version}", f"{floor} {version}"
    ratio, by_time = _ratios(counted, over, under), _ratios(timed, over, under)
    target = HIT.get(name)
    return Line(
        "P6",
        f"{what}, IPv{version}: instructions ÷ parser's",
        _PEERS.get(name, "–"),
        f"≤ {target:g}" if target else NO_TARGET,
        f"{spread(ratio)}; {statistics.median(counted[over]):.0f} ÷ "
        f"{statistics.median(counted[under]):.0f}; by time {spread(by_time)}",
        at_most(statistics.median(ratio), target) if target else NO_TARGET,
    )


def _between_families(counted: Samples, name: str, what: str) -> Line:
    ratio = _ratios(counted, f"{name} 6", f"{name} 4")
    return Line(
        "P6",
        f"IPv6 ÷ IPv4, {what}",
        "–",
        f"≤ {V6_TO_V4}",
        spread(ratio),
        at_most(statistics.median(ratio), V6_TO_V4),
    )


def _ratios(samples: Samples, name: str, floor: str) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(samples[name], samples[floor], strict=True)]
