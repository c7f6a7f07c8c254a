# SPDX-License-Identifier: Apache-2.0
"""Health from the run of answers and misses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.health import ProbeRecord
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
