# SPDX-License-Identifier: Apache-2.0
"""P17: the CPU that 10,000 members probed each second take, beside connections of asyncio.

By a director alone, and by one that hears the members' hosts.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.context import Context
from benchmarks.result import Line, Result, at_most, spread

ROUNDS = 3
DATAGRAM, CONNECTION = 5.0, 40.0
_WHAT = {
    "icmp": ("10,000 members probed each second by ICMP echo", DATAGRAM),
    "udp": ("10,000 members probed each second by UDP", DATAGRAM),
    "tcp": ("10,000 members probed each second by TCP", CONNECTION),
    "heard": (
        "10,000 members that 100 hosts probe, by ICMP echo as a director confirms",
        DATAGRAM,
    ),
}

Samples = dict[str, list[float]]


def measure(context: Context) -> Result:
    """Run `benchmarks.probing` in namespaces of its own."""
    context.say(f"  {ROUNDS} rounds of about 55 s")
    inner = [sys.executable, "-m", "benchmarks.probing", "--rounds", str(ROUNDS)]
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
    """One line for each kind of probe; asyncio is the peer of all."""
    peer = f"asyncio open_connection {_percent(samples['asyncio'])}"
    found = []
    for name, (words, target) in _WHAT.items():
        median = 100 * statistics.median(samples[name])
        found.append(
            Line(
                "P17",
                f"{words}, % of a core",
                peer,
                f"≤ {target:g}",
                _percent(samples[name]),
                at_most(median, target),
            )
        )
    return found


def _percent(cores: list[float]) -> str:
    return spread([100 * value for value in cores], digits=0)
