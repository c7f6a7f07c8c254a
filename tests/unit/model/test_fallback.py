# SPDX-License-Identifier: Apache-2.0
"""Who takes new connections when members are dead."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.fallback import Candidate, Stance, dead_share, decide

pytestmark = pytest.mark.requirement("L13")


def members(text: str) -> list[Candidate]:
    """``2+`` is a living member of weight 2, ``1-`` a dead one, ``b1+`` a backup; by number."""
    words = enumerate(text.split(), 1)
    return [
        Candidate(UUID(int=number), int(word.strip("b+-")), word[0] == "b", word[-1] == "+")
        for number, word in words
    ]


def numbers(taking: frozenset[UUID]) -> set[int]:
    return {member.int for member in taking}


@pytest.mark.parametrize(
    ("text", "threshold", "stance", "taking"),
    [
        ("1+ 1+ 1-", 0, Stance.NORMAL, {1, 2}),
        ("1- 1-", 0, Stance.NORMAL, set()),
        ("1+ 1-", 50, Stance.NORMAL, {1}),
        ("1+ 1- 1-", 50, Stance.PANIC, {1, 2, 3}),
        ("1- 1-", 99, Stance.PANIC, {1, 2}),
        ("1+ 1- 1-", 99, Stance.NORMAL, {1}),
        ("3+ 1- 1-", 50, Stance.NORMAL, {1}),
        ("1+ 1+ 3-", 50, Stance.PANIC, {1, 2, 3}),
        ("1+ 0- 0-", 50, Stance.NORMAL, {1}),
        ("1+ b1+", 0, Stance.NORMAL, {1}),
        ("1+ 1- b1+", 0, Stance.NORMAL, {1}),
        ("1- b1+ b1-", 0, Stance.BACKUP, {2}),
        ("0+ b1+", 0, Stance.BACKUP, {2}),
        ("b1+ b1-", 0, Stance.BACKUP, {1}),
        ("1- b1-", 0, Stance.NORMAL, set()),
        ("1- b1+", 99, Stance.BACKUP, {2}),
        ("1- b1-", 99, Stance.PANIC, {1}),
        ("b1-", 99, Stance.PANIC, {1}),
        ("1+ 1- 1- b1+", 50, Stance.PANIC, {1, 2, 3}),
        ("1+ 1+ b1- b1- b1-", 50, Stance.NORMAL, {1, 2}),
        ("", 99, Stance.NORMAL, set()),
    ],
)
def test_decides(text: str, threshold: int, stance: Stance, taking: set[int]) -> None:
    decided, who = decide(members(text), threshold)
    assert (decided, numbers(who)) == (stance, taking)


candidates = st.lists(
    st.builds(Candidate, st.uuids(), st.integers(0, 3), st.booleans(), st.booleans()),
    unique_by=lambda candidate: candidate.id,
    max_size=6,
)


@given(candidates, st.integers(0, 99))
def test_whoever_lives_keeps_somebody_taking_connections(
    some: list[Candidate], threshold: int
) -> None:
    _, taking = decide(some, threshold)
    alive = {c.id for c in some if c.alive and c.weight}
    assert taking <= {c.id for c in some if c.weight}
    if alive:
        assert taking & alive


@given(candidates, st.integers(0, 99))
def test_the_dead_take_connections_in_panic_only(some: list[Candidate], threshold: int) -> None:
    stance, taking = decide(some, threshold)
    dead = {c.id for c in some if not c.alive}
    assert stance is Stance.PANIC or not taking & dead


@given(candidates)
def test_the_share_of_the_dead_is_by_weight(some: list[Candidate]) -> None:
    copies = [c for c in some for _ in range(c.weight)]
    counted = 100 * sum(not c.alive for c in copies) / len(copies) if copies else 0
    assert dead_share(some) == pytest.approx(counted)
