# SPDX-License-Identifier: Apache-2.0
"""Rotations: the sequences that round robin and weighted round robin walk.

Weights are divided by their greatest common divisor, so a rotation is as short as it can be. Where
it would have more than `LONGEST` turns the shares are rounded to fit, every member keeping one.
"""

import math
from collections.abc import Mapping
from typing import TypeVar

from cloudlb.model import schedule
from cloudlb.model.pool import RotationOrder

M = TypeVar("M")
LONGEST = 16384


def rotation(weights: Mapping[M, int], order: RotationOrder) -> list[M]:
    """The turns of members by weight; weights of 0 have none. Ties go to the earlier member."""
    turns = _turns(weights)
    if order is RotationOrder.LVS:
        return _by_threshold(turns)
    return _smooth(turns) if order is RotationOrder.SMOOTH else _interleaved(turns)


def _turns(weights: Mapping[M, int]) -> dict[M, int]:
    divisor = math.gcd(*weights.values()) or 1
    turns = {member: weight // divisor for member, weight in weights.items() if weight}
    return turns if sum(turns.values()) <= LONGEST else schedule.shares(turns, LONGEST)


def _interleaved(turns: Mapping[M, int]) -> list[M]:
    """Round after round of all that have turns left: A4 B3 C2 gives ABCABCABA (thesis, ch. 3)."""
    rounds = max(turns.values(), default=0)
    return [m for done in range(rounds) for m, left in turns.items() if left > done]


def _by_threshold(turns: Mapping[M, int]) -> list[M]:
    """As Linux' ip_vs_wrr: a threshold falls from the largest weight: A4 B3 C2 gives AABABCABC."""
    largest = max(turns.values(), default=0)
    return [m for level in range(largest, 0, -1) for m, turn in turns.items() if turn >= level]


def _smooth(turns: Mapping[M, int]) -> list[M]:
    """As nginx: each gains its weight, the richest goes and pays the sum: A5 B1 C1: AABACAA."""
    total = sum(turns.values())
    credit = dict.fromkeys(turns, 0)
    sequence: list[M] = []
    for _ in range(total):
        for member, turn in turns.items():
            credit[member] += turn
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= total
        sequence.append(chosen)
    return sequence
