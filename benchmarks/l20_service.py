# SPDX-License-Identifier: Apache-2.0
"""L20: throughput, connection rate, latency, CPU per packet, beside LVS, nftables and HAProxy."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import counting, sandbox
from benchmarks.context import Context
from benchmarks.result import Line, Result, quantile
from benchmarks.service import AT_ONCE, NAMES, SEGMENT

ROUNDS = 7
_BASE = "nft dnat"
_OWN = "cloudlb "
HERE = tuple(name for name in NAMES if not name.startswith("ipvs"))
"""This machine's kernel may have no LVS."""

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
Figure = Callable[[Mapping[str, Any]], float]

_FIGURES: dict[str, tuple[Figure, ...]] = {
    "throughput of an upload": (lambda s: 1 / s["per_octet"],),
    f"connections per second, {AT_ONCE} at once": (lambda s: 1 / s["per_connection"],),
    "latency of a request on a kept connection, p50/p99": (
        lambda s: quantile(s["kept"], 0.5),
        lambda s: quantile(s["kept"], 0.99),
    ),
    "latency of a request on a new connection, p50/p99": (
        lambda s: quantile(s["new"], 0.5),
        lambda s: quantile(s["new"], 0.99),
    ),
    f"CPU per packet with {SEGMENT} octets": (lambda s: SEGMENT * s["cpu_per_octet"],),
    "CPU per connection with a request": (lambda s: s["cpu_per_connection"],),
}


def measure(context: Context) -> Result:
    """Run `benchmarks.service` in a guest that counts instructions, and on this machine."""
    counted = json.loads(counting.output(context, "service"))
    timed = sandbox.output("service", "--rounds", str(ROUNDS), *HERE)
    found = lines(counted, "instructions") + lines(timed, "time, this machine's kernel")
    where = f"{counting.WHERE} where these are named"
    return Result(found, {"instructions": counted, "time": timed}, where)


def lines(samples: Samples, unit: str) -> list[Line]:
    """A line for each figure, with all directors."""
    return [_line(samples, f"{what} ({unit})", figures) for what, figures in _FIGURES.items()]


def _line(samples: Samples, what: str, figures: Sequence[Figure]) -> Line:
    ratios = {
        name: "/".join(f"{ratio(samples, name, figure):.2f}" for figure in figures)
        for name in samples
    }
    own = [f"{n.removeprefix(_OWN)} {of}" for n, of in ratios.items() if n.startswith(_OWN)]
    peers = [f"{n} {of}" for n, of in ratios.items() if not n.startswith(_OWN)]
    return Line("L20", f"{what} ÷ that of nft dnat", ", ".join(peers), "–", ", ".join(own))


def ratio(samples: Samples, name: str, figure: Figure) -> float:
    """The median of a director's figure as a share of nftables' in the same round."""
    rounds = zip(samples[name], samples[_BASE], strict=True)
    return statistics.median(figure(its) / figure(base) for its, base in rounds)
