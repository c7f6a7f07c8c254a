# SPDX-License-Identifier: Apache-2.0
"""The orders of weighted round robin."""

import pytest

from cloudlb.model.pool import RotationOrder
from cloudlb.model.rotation import LONGEST, rotation

WEIGHTS = {"A": 4, "B": 3, "C": 2}


@pytest.mark.requirement("L5")
@pytest.mark.parametrize(
    ("order", "turns"),
    [
        (RotationOrder.INTERLEAVED, "ABCABCABA"),
        (RotationOrder.LVS, "AABABCABC"),
        (RotationOrder.SMOOTH, "ABCABACBA"),
    ],
)
def test_weights_4_3_2_give_the_turns_of_the_order(order: RotationOrder, turns: str) -> None:
    assert "".join(rotation(WEIGHTS, order)) == turns


def test_smooth_turns_are_those_of_nginx() -> None:
    assert "".join(rotation({"A": 5, "B": 1, "C": 1}, RotationOrder.SMOOTH)) == "AABACAA"


@pytest.mark.parametrize("order", RotationOrder)
def test_equal_weights_are_plain_round_robin(order: RotationOrder) -> None:
    assert rotation({"A": 7, "B": 7, "C": 7}, order) == ["A", "B", "C"]


@pytest.mark.requirement("L7")
@pytest.mark.parametrize("order", RotationOrder)
def test_a_weight_of_zero_has_no_turn(order: RotationOrder) -> None:
    assert rotation({"A": 2, "B": 0}, order) == ["A"]
    assert rotation({"A": 0}, order) == []
    assert rotation({}, order) == []


@pytest.mark.parametrize("order", RotationOrder)
def test_many_uneven_weights_are_rounded_to_the_longest_rotation(order: RotationOrder) -> None:
    turns = rotation({n: 256 - n % 2 for n in range(200)}, order)
    assert len(turns) == LONGEST
    assert set(turns) == set(range(200))
