# SPDX-License-Identifier: Apache-2.0
"""P1, P2, P3, P5: what a director costs beyond the way without one, beside nftables and LVS.

*Own* cost: (instructions with the director - without) ÷ (the same for nftables' DNAT): 0 is no
director at all, 1 is nftables' DNAT with conntrack.
"""

import json
import statistics
from collections.abc import Sequence

from benchmarks import counting
from benchmarks.context import Context
from benchmarks.result import Line, Result, at_most

ROUNDS = 2
_BASE, _NONE = "nft dnat", "direct"
_ROWS = (
    ("P1", "NAT (edge)", "cloudlb nat", ("ipvs nat", "haproxy"), (0.70, 0.60)),
    ("P1", "NAT (director)", "cloudlb director nat", ("ipvs nat", "haproxy"), (0.70, 0.60)),
    ("P1", "NAT (full)", "cloudlb full nat", ("ipvs nat", "haproxy"), (0.70, 0.60)),
    ("P2", "DR with flow table", "cloudlb dr", ("ipvs dr", "nft dr"), (0.56, 0.26)),
    ("P3", "TUN incl. unwrapping", "cloudlb tun", ("ipvs tun",), (0.75, 0.40)),
)
_P5 = (0.08, 0.05)

Samples = dict[str, list[float]]


def measure(context: Context) -> Result:
    """Run `benchmarks.forwarding` in a guest."""
    samples: Samples = json.loads(counting.output(context, "forwarding", "--rounds", str(ROUNDS)))
    return Result(lines(samples), samples, counting.WHERE)


def own(samples: Samples, name: str, version: int, kind: str) -> float:
    """The own cost of a director."""

    def cost(of: str) -> float:
        return statistics.median(samples[f"{of} {version} {kind}"])

    return (cost(name) - cost(_NONE)) / (cost(_BASE) - cost(_NONE))


def lines(samples: Samples) -> list[Line]:
    """Per datagram and per connection, IPv4 beside its peers and IPv6."""
    found = [
        line(samples, row, f"{what}, IPv{version}", name, version, kind, peers, target)
        for row, what, name, peers, targets in _ROWS
        for kind, target in zip(("udp", "tcp"), targets, strict=True)
        for version in (4, 6)
    ]
    what = "anycast MAC, IPv6, by a director on the link"
    return found + [
        line(samples, "P5", what, "cloudlb dr", 6, kind, (), target)
        for kind, target in zip(("udp", "tcp"), _P5, strict=True)
    ]


def line(
    samples: Samples,
    row: str,
    what: str,
    name: str,
    version: int,
    kind: str,
    peers: Sequence[str],
    target: float,
) -> Line:
    """A director's own cost, beside that of peers that are measured with IPv4."""
    value = own(samples, name, version, kind)
    unit = "UDP packet" if kind == "udp" else "TCP connection"
    counted = (f"{statistics.median(samples[f'{n} {version} {kind}']):.0f}" for n in (name, _NONE))
    measured = f"{value:.2f}; {' − '.join(counted)} instructions"
    beside = [p for p in peers if version == 4 and f"{p} 4 {kind}" in samples]
    theirs = [f"{p} {own(samples, p, 4, kind):.2f}" for p in beside]
    return Line(
        row,
        f"{what}, own cost per {unit}",
        ", ".join(["nft dnat 1", *theirs]),
        f"≤ {target}",
        measured,
        at_most(value, target),
    )
