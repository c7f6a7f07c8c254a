# SPDX-License-Identifier: Apache-2.0
"""Health from the run of answers and misses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.health import ProbeRecord, is_expected
from cloudlb.model.pool import Health, Monitor, MonitorType

pytestmark = pytest.mark.requirement("L13")


def _after(answers: str, rise: int = 2, fall: int = 3) -> Health:
    """The health after probes that were answered (+) or missed (-)."""
    record = ProbeRecord()
    for answer in answers:
        record = record.after(answer == "+", Monitor(MonitorType.TCP, rise=rise, fall=fall))
    return record.health


@pytest.mark.parametrize(
    ("answers", "health"),
    [
        ("", Health.UNKNOWN),
        ("+", Health.ONLINE),
        ("-", Health.UNKNOWN),
        ("--+", Health.ONLINE),
        ("---", Health.OFFLINE),
        ("+--", Health.ONLINE),
        ("+---", Health.OFFLINE),
        ("+--+--", Health.ONLINE),
        ("---+", Health.OFFLINE),
        ("---+-+", Health.OFFLINE),
        ("---++", Health.ONLINE),
        ("---++---", Health.OFFLINE),
    ],
)
def test_misses_in_a_row_take_out_and_answers_in_a_row_bring_back(
    answers: str, health: Health
) -> None:
    assert _after(answers) is health


@given(st.text("+-", max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_the_last_run_decides_when_it_is_long_enough(answers: str, rise: int, fall: int) -> None:
    assert _after(answers + "-" * fall, rise, fall) is Health.OFFLINE
    assert _after(answers + "+" * rise, rise, fall) is Health.ONLINE


@pytest.mark.parametrize(
    ("codes", "status", "expected"),
    [
        ("200", 200, True),
        ("200", 201, False),
        ("200,202", 202, True),
        ("200,202", 201, False),
        ("200-204", 204, True),
        ("200-204", 205, False),
        ("301,200-204", 301, True),
        ("301,200-204", 302, False),
    ],
)
def test_a_status_is_among_codes_and_ranges(codes: str, status: int, expected: bool) -> None:
    assert is_expected(codes, status) is expected
