# SPDX-License-Identifier: Apache-2.0
"""Which tests show which requirement: what a run found, on top of what earlier ones did."""

import fcntl
import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OUTCOMES = ("passed", "skipped", "failed")
"""From the best to the worst; a test has the worst that any of its phases had."""

Shown = dict[str, dict[str, list[str]]]
"""The node ids of tests, by requirement and outcome."""


def documented(pages: Path) -> list[str]:
    """The ids that the documentation defines as terms."""
    text = "\n".join(page.read_text() for page in sorted(pages.glob("*.rst")))
    return re.findall(r"^   ([A-Z]\d+)$", text, re.MULTILINE)


class Run:
    """What a run has found so far."""

    def __init__(self) -> None:
        self._outcomes: dict[str, str] = {}
        self._marks: dict[str, frozenset[str]] = {}

    def note(self, test: str, outcome: str, requirements: Iterable[str]) -> None:
        """Take note of a test's outcome, which a later phase may make worse."""
        known = self._outcomes.get(test, OUTCOMES[0])
        self._outcomes[test] = max(known, outcome, key=OUTCOMES.index)
        self._marks[test] = frozenset(requirements)

    @property
    def tests(self) -> frozenset[str]:
        """The tests that ran."""
        return frozenset(self._outcomes)

    def merge(self, earlier: Shown, names: Iterable[str], gone: Collection[str] = ()) -> Shown:
        """All requirements with their tests.

        What is known of tests that did not run stays, unless they are ``gone``.
        """
        every = {*names, *(name for marks in self._marks.values() for name in marks)}
        shown = {name: self._kept(earlier.get(name, {}), gone) for name in sorted(every, key=_key)}
        for test, outcome in self._outcomes.items():
            for name in self._marks[test]:
                shown[name][outcome].append(test)
        return {
            name: {outcome: sorted(tests) for outcome, tests in by_outcome.items()}
            for name, by_outcome in shown.items()
        }

    def _kept(
        self, earlier: Mapping[str, list[str]], gone: Collection[str]
    ) -> dict[str, list[str]]:
        replaced = {*self._outcomes, *gone}
        return {o: [t for t in earlier.get(o, ()) if t not in replaced] for o in OUTCOMES}


def gone(earlier: Shown, ran: Collection[str], whole: Collection[str], root: Path) -> set[str]:
    """Tests of earlier runs that there are no more.

    Their file is gone, or is one of the ``whole`` ones, all of whose tests have run just now.
    """
    known = {test for by in earlier.values() for tests in by.values() for test in tests}
    return {
        test
        for test in known.difference(ran)
        if (file := test.split("::")[0]) in whole or not (root / file).is_file()
    }


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """No other run reads or writes the file meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load(path: Path) -> Shown:
    """What earlier runs wrote; nothing, if that cannot be read."""
    try:
        found: Shown = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def save(path: Path, shown: Shown) -> None:
    """Write the file as a whole."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(shown, indent=1) + "\n")
    draft.replace(path)


def table(shown: Shown, width: int) -> list[str]:
    """A line for each requirement with tests, a paragraph of those without for each subject."""
    lines: list[str] = []
    missing: dict[str, list[int]] = {}
    for name, by_outcome in shown.items():
        if count := sum(map(len, by_outcome.values())):
            lines.append(f"{name:>5}  {count:3d} tests  {_state(by_outcome)}")
        else:
            missing.setdefault(name[0], []).append(int(name[1:]))
    for subject, numbers in missing.items():
        lines += textwrap.wrap(
            "missing: " + ", ".join(_ranges(subject, numbers)), width, subsequent_indent=" " * 9
        )
    return lines


def _state(by_outcome: Mapping[str, list[str]]) -> str:
    bad = [f"{len(by_outcome[o])} {o.upper()}" for o in ("failed", "skipped") if by_outcome[o]]
    return ", ".join(bad) or "passed"


def _ranges(subject: str, numbers: Iterable[int]) -> Iterator[str]:
    """``A1, A3-A5`` of 1, 3, 4, 5."""
    first = last = 0
    for number in [*sorted(numbers), 0]:
        if number == last + 1 and first:
            last = number
            continue
        if first:
            yield f"{subject}{first}" + (f"-{subject}{last}" if last > first else "")
        first = last = number


def _key(name: str) -> tuple[str, int]:
    return name[0], int(name[1:])
