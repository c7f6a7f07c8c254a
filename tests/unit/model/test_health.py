# SPDX-License-Identifier: Apache-2.0
"""Health from the run of answers and misses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.health import ProbeRecord, Word, is_expected, paces
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


class TestTwoSources:
    """What a member's host says counts beside the director's own misses, and never alone."""

    monitor = Monitor(MonitorType.TCP)

    @given(st.integers(0, 255))
    def test_a_word_alone_changes_nothing(self, witnessed: int) -> None:
        for record in (ProbeRecord(), ProbeRecord(Health.ONLINE, hits=2)):
            assert record.confirmed(self.monitor, witnessed) is record
            answered = record.after(True, self.monitor)
            assert record.after(True, self.monitor, witnessed) == answered

    @given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 4))
    def test_one_own_miss_and_as_many_of_the_host_as_take_it_out_do(
        self, witnessed: int, fall: int, misses: int
    ) -> None:
        monitor = Monitor(MonitorType.TCP, fall=fall)
        record = ProbeRecord(Health.ONLINE, hits=2)
        for _ in range(misses):
            record = record.after(False, monitor, witnessed)
        is_out = record.health is Health.OFFLINE
        assert is_out == (misses >= fall or witnessed >= fall)

    def test_it_does_not_matter_which_comes_first(self) -> None:
        online = ProbeRecord(Health.ONLINE, hits=2)
        missed = online.after(False, self.monitor)
        assert missed.confirmed(self.monitor, 3) == online.after(False, self.monitor, 3)

    @given(st.lists(st.integers(0, 9), min_size=1), st.integers(0, 9))
    def test_only_misses_after_the_last_answer_are_witnessed(
        self, before: list[int], later: int
    ) -> None:
        said = Word()
        for misses in before:
            said = said.heard(misses)
        said = said.contradicted()
        assert said.witnessed == 0
        assert said.heard(later).witnessed == max(0, later - before[-1])


@given(st.integers(1, 100), st.sampled_from((0.1, 1.0, 60.0)))
def test_the_longest_pause_makes_nobody_stay_in_for_longer(fall: int, interval: float) -> None:
    monitor = Monitor(MonitorType.TCP, interval=interval, fall=fall)
    found = paces(monitor)
    assert found.usual == interval
    assert interval <= found.calm <= 5 * interval
    assert found.calm + (fall - 1) * found.doubted <= fall * interval * 1.000001


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
