# SPDX-License-Identifier: Apache-2.0
"""What a row gives: lines for people, samples for machines."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NO_TARGET = "–"
LOADED = "loaded, does not count"
_HEAD = ("row", "what", "peers", "target", "measured", "met?")
_NOTE = (
    "Medians, in brackets the smallest and the largest value. Below: when a row was measured, and "
    "how many CPU-seconds per second other work used meanwhile; instructions do not depend on it."
)
_OF_ROW = re.compile(r"^(\| |- )([A-Z]\d+)(?: \||:).*$", re.MULTILINE)


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
    """What one row's module has measured; samples are raw, ``where`` is said if not here."""

    lines: Sequence[Line]
    samples: dict[str, Any] = field(default_factory=dict)
    where: str = ""


def at_most(value: float, target: float) -> str:
    """Whether a target was met, or by how much it was missed."""
    return "met" if value <= target else f"**missed by {value / target - 1:.0%}**"


def at_least(value: float, target: float) -> str:
    """Whether a target was met, or by how much it was missed."""
    return "met" if value >= target else f"**missed by {1 - value / target:.0%}**"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and in brackets the smallest and the largest value."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not less than ``share`` of the values."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def markdown(lines: Sequence[Line], circumstances: Mapping[str, str]) -> str:
    """The table, and below it under which circumstances each row was measured."""
    rows = [_HEAD, ("---",) * len(_HEAD), *(line.cells() for line in lines)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    items = "".join(f"- {row}: {text}\n" for row, text in circumstances.items())
    return f"{table}\n{_NOTE}\n\n{items}"


def write_into(page: Path, table: str) -> None:
    """Replace the rows between the marks that a table has; the others stay as they are."""
    before, begin, rest = page.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{before}{begin}\n{_merged(old, table)}{end}{after}")


def _merged(old: str, new: str) -> str:
    fresh = {found[2] for found in _OF_ROW.finditer(new)}
    kept = [found for found in _OF_ROW.finditer(old) if found[2] not in fresh]
    rows = sorted([*kept, *_OF_ROW.finditer(new)], key=lambda found: place(found[2]))
    lines = [found[0] for found in rows]
    head = _OF_ROW.split(new, maxsplit=1)[0]
    table = "".join(f"{line}\n" for line in lines if line.startswith("|"))
    items = "".join(f"{line}\n" for line in lines if line.startswith("-"))
    return f"{head}{table}\n{_NOTE}\n\n{items}"


def place(row: str) -> tuple[bool, str, int]:
    """Where a row stands: the targets of speed (P) first, then those of other requirements."""
    return not row.startswith("P"), row[0], int(row[1:])
