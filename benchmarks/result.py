# SPDX-License-Identifier: Apache-2.0
"""What a row gives: lines for people, samples for machines."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NO_TARGET = "–"
LOADED = "loaded, does not count"
_HEAD = ("row", "what", "peers", "target", "measured", "met?")


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    row: str
    what: str
    peers: str
    target: str
    measured: str
    verdict: str = NO_TARGET

    def cells(self) -> tuple[str, ...]:
        """In the order of the table's columns."""
        return self.row, self.what, self.peers, self.target, self.measured, self.verdict


@dataclass(frozen=True)
class Result:
    """What one row's module has measured; samples are raw."""

    lines: Sequence[Line]
    samples: dict[str, Any] = field(default_factory=dict)


def at_most(value: float, target: float) -> str:
    """Whether a target was met, or by how much it was missed."""
    return "met" if value <= target else f"**missed by {value / target - 1:.0%}**"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and in brackets the smallest and the largest value."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not less than ``share`` of the values."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def markdown(lines: Sequence[Line], note: str) -> str:
    """The table and a line below it."""
    rows = [_HEAD, ("---",) * len(_HEAD), *(line.cells() for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + f"\n{note}\n"


def write_into(page: Path, table: str) -> None:
    """Replace what stands between the marks."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{before}{begin}\n{table}{end}{after}")
