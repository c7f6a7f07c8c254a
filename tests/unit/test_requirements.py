# SPDX-License-Identifier: Apache-2.0
"""The table of requirements: every one is in it, and a part of the tests changes only its own."""

from pathlib import Path

import pytest

from tests.requirements import Run, Shown, documented, gone, load, save, table

SLOW = "tests/lab/test_slow.py::test_a"
QUICK = "tests/unit/test_quick.py::test_b"


def _shown(**found: dict[str, list[str]]) -> Shown:
    empty: dict[str, list[str]] = {"passed": [], "skipped": [], "failed": []}
    return {name: empty | by_outcome for name, by_outcome in found.items()}


def _run(*found: tuple[str, str, str]) -> Run:
    run = Run()
    for test, outcome, requirement in found:
        run.note(test, outcome, [requirement])
    return run


def test_every_documented_requirement_is_there() -> None:
    shown = _run((QUICK, "passed", "L2")).merge({}, ["L10", "L2", "A1"])
    assert shown == _shown(A1={}, L2={"passed": [QUICK]}, L10={})
    assert list(shown) == ["A1", "L2", "L10"]


def test_the_documentations_terms_are_the_requirements(tmp_path: Path) -> None:
    (tmp_path / "a.rst").write_text(
        ".. glossary::\n\n   A1\n      It does A2.\n\n   A12\n      x\n"
    )
    assert documented(tmp_path) == ["A1", "A12"]


def test_tests_that_did_not_run_keep_their_results() -> None:
    earlier = _shown(L1={"passed": [SLOW], "failed": [QUICK]})
    shown = _run((QUICK, "passed", "L1")).merge(earlier, ["L1"])
    assert shown == _shown(L1={"passed": [SLOW, QUICK]})


def test_a_test_that_shows_another_requirement_now_shows_the_old_one_no_more() -> None:
    earlier = _shown(L1={"passed": [QUICK]})
    assert _run((QUICK, "passed", "L2")).merge(earlier, ["L1"]) == _shown(
        L1={}, L2={"passed": [QUICK]}
    )


def test_a_test_that_shows_nothing_any_more_is_left_out() -> None:
    run = Run()
    run.note(QUICK, "passed", [])
    assert run.merge(_shown(L1={"passed": [QUICK]}), ["L1"]) == _shown(L1={})


def test_a_requirement_that_nobody_knows_any_more_is_left_out() -> None:
    assert Run().merge(_shown(L1={"passed": [QUICK]}), ["L2"]) == _shown(L2={})


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        (["passed", "failed"], "failed"),
        (["failed", "passed"], "failed"),
        (["skipped"], "skipped"),
        (["passed"], "passed"),
    ],
)
def test_a_test_is_as_good_as_its_worst_phase(phases: list[str], outcome: str) -> None:
    shown = _run(*((QUICK, phase, "L1") for phase in phases)).merge({}, ["L1"])
    assert shown == _shown(L1={outcome: [QUICK]})


class TestGone:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Where the files of both tests are."""
        for test in (SLOW, QUICK):
            file = tmp_path / test.split("::")[0]
            file.parent.mkdir(parents=True)
            file.touch()
        return tmp_path

    EARLIER = _shown(L1={"passed": [SLOW]}, L2={"failed": [QUICK]})

    def test_a_test_whose_file_is_gone(self, root: Path) -> None:
        (root / SLOW.split("::")[0]).unlink()
        assert gone(self.EARLIER, (), (), root) == {SLOW}

    def test_a_test_that_a_whole_files_run_did_not_meet(self, root: Path) -> None:
        assert gone(self.EARLIER, (), {QUICK.split("::")[0]}, root) == {QUICK}
        assert gone(self.EARLIER, {QUICK}, {QUICK.split("::")[0]}, root) == set()

    def test_it_is_left_out(self) -> None:
        assert Run().merge(self.EARLIER, ["L1", "L2"], {QUICK}) == _shown(
            L1={"passed": [SLOW]}, L2={}
        )


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    shown = _shown(L1={"passed": [QUICK]})
    save(tmp_path / "found.json", shown)
    assert load(tmp_path / "found.json") == shown


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_file_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "found.json").write_text(content)
    assert load(tmp_path / "found.json") == {}


def test_the_table_has_a_line_for_what_is_tested_and_a_paragraph_for_what_is_not() -> None:
    shown = _shown(
        A1={},
        A2={"passed": [QUICK, SLOW]},
        A3={},
        A4={},
        A5={},
        B1={"passed": [QUICK], "failed": [SLOW]},
        B2={"passed": [QUICK], "skipped": [SLOW]},
        C7={},
    )
    assert table(shown, 80) == [
        "   A2    2 tests  passed",
        "   B1    2 tests  1 FAILED",
        "   B2    2 tests  1 SKIPPED",
        "missing: A1, A3-A5",
        "missing: C7",
    ]


def test_long_paragraphs_are_wrapped() -> None:
    shown = _shown(**{f"A{n}": {} for n in range(1, 40, 2)})
    lines = table(shown, 40)
    assert len(lines) > 1
    assert all(len(line) <= 40 for line in lines)
