# SPDX-License-Identifier: Apache-2.0
"""The table of benchmarks in a page: rows that were measured again replace their old ones."""

from pathlib import Path

import pytest

from benchmarks.result import BEGIN, END, Line, at_most, markdown, quantile, spread, write_into


def line(row: str, measured: str) -> Line:
    return Line(row, "what it is", "nft 1", "≤ 0.7", measured)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "README.md"
    page.write_text(f"# Head\n\n{BEGIN}\n{END}\n\ntail\n")
    return page


def test_a_row_that_is_measured_again_replaces_its_lines_and_circumstances(page: Path) -> None:
    first = [line("P2", "a"), line("P2", "b"), line("P10", "c")]
    write_into(page, markdown(first, {"P2": "monday", "P10": "monday"}))
    write_into(
        page, markdown([line("P2", "d"), line("P6", "e")], {"P2": "friday", "P6": "friday"})
    )
    text = page.read_text()
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| P")]
    assert [(row[0], row[4]) for row in rows] == [("| P2", "d"), ("| P6", "e"), ("| P10", "c")]
    items = [item for item in text.splitlines() if item.startswith("- ")]
    assert items == ["- P2: friday", "- P6: friday", "- P10: monday"]
    assert text.startswith(f"# Head\n\n{BEGIN}\n| row | ")
    assert text.endswith(f"{END}\n\ntail\n")


def test_rows_of_other_requirements_follow_those_of_speed(page: Path) -> None:
    first = [line("L20", "a"), line("D12", "b")]
    write_into(page, markdown(first, {"L20": "monday", "D12": "monday"}))
    write_into(page, markdown([line("P9", "c")], {"P9": "friday"}))
    lines = page.read_text().splitlines()
    rows = [row.split(" | ")[0] for row in lines if row.startswith("| ")]
    assert rows == ["| row", "| ---", "| P9", "| D12", "| L20"]
    items = [item for item in lines if item.startswith("- ")]
    assert items == ["- P9: friday", "- D12: monday", "- L20: monday"]


def test_writing_the_same_table_twice_changes_nothing(page: Path) -> None:
    table = markdown([line("P1", "a")], {"P1": "monday"})
    write_into(page, table)
    once = page.read_text()
    write_into(page, table)
    assert page.read_text() == once


def test_a_page_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("no table")
    with pytest.raises(SystemExit, match="has no"):
        write_into(page, markdown([line("P1", "a")], {"P1": "monday"}))
    assert page.read_text() == "no table"


def test_a_missed_target_says_by_how_much() -> None:
    assert at_most(0.5, 0.5) == "met"
    assert at_most(0.6, 0.5) == "**missed by 20%**"


def test_figures_are_medians_and_quantiles_of_what_was_measured() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00–3.00)"
    assert [quantile([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.99)] == [1, 2, 4]
