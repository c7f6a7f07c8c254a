# SPDX-License-Identifier: Apache-2.0
"""Tables of source hashing: fair by weight, and no entry moves without need."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.schedule import ENTRIES_PER_MEMBER, refill, resize, shares, table_size

weights = st.dictionaries(st.integers(0, 20), st.integers(0, 256), max_size=12)
some_weight = weights.filter(lambda w: any(w.values()))
sizes = st.sampled_from((16, 32, 64, 256))

pytestmark = pytest.mark.requirement("L8")


@given(some_weight, sizes)
def test_shares_use_every_entry_and_are_as_exact_as_one_for_each_allows(
    w: dict[int, int], size: int
) -> None:
    given_shares = shares(w, size)
    assert sum(given_shares.values()) == size
    exact = {m: Fraction(weight * size, sum(w.values())) for m, weight in w.items() if weight}
    assert set(given_shares) == set(exact)
    small = [m for m in exact if exact[m] < 1]
    for member, share in given_shares.items():
        assert share >= 1
        assert share - exact[member] < 1
        assert exact[member] - share < 1 + len(small)
        if not small:
            assert abs(share - exact[member]) < 1


@given(some_weight, sizes)
def test_a_heavier_member_has_no_smaller_share(w: dict[int, int], size: int) -> None:
    given_shares = shares(w, size)
    by_weight = sorted(given_shares, key=lambda m: w[m])
    for lighter, heavier in pairwise(by_weight):
        if w[lighter] < w[heavier]:
            assert given_shares[lighter] <= given_shares[heavier]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=True), sizes)
def test_what_cannot_be_shared_goes_to_the_earlier_members(members: list[int], size: int) -> None:
    counts = list(shares(dict.fromkeys(members, 1), size).values())
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


@given(st.lists(some_weight, min_size=1, max_size=6), sizes)
def test_a_table_has_exactly_the_shares_after_any_changes(
    changes: list[dict[int, int]], size: int
) -> None:
    table: list[int | None] = [None] * size
    for change in changes:
        table = refill(table, change)
        assert Counter(table) == Counter(shares(change, size))


@given(some_weight, some_weight, sizes)
def test_no_table_with_the_new_shares_is_nearer(
    before: dict[int, int], after: dict[int, int], size: int
) -> None:
    old = refill([None] * size, before)
    new = refill(old, after)
    had, has = Counter(old), Counter(new)
    least = sum(max(0, has[m] - had[m]) for m in has)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == least


@given(st.integers(2, 12))
def test_a_member_that_comes_or_goes_moves_its_share_alone(members: int) -> None:
    size = table_size(members)
    all_of_them = dict.fromkeys(range(members), 1)
    with_it = refill([None] * size, all_of_them)
    without = refill(with_it, all_of_them | {0: 0})
    moved = [a for a, b in zip(with_it, without, strict=True) if a != b]
    assert set(moved) == {0}
    back = refill(without, all_of_them)
    assert {b for a, b in zip(without, back, strict=True) if a != b} == {0}
    assert len(moved) <= -(-size // members)


@given(some_weight, sizes)
def test_the_same_weights_move_nothing(w: dict[int, int], size: int) -> None:
    table = refill([None] * size, w)
    assert refill(table, w) == table


@given(some_weight, sizes, st.integers(0, 2**32 - 1))
def test_a_table_that_grows_keeps_every_client(w: dict[int, int], size: int, client: int) -> None:
    table = refill([None] * size, w)
    larger = resize(table, size * 4)
    assert larger[client % len(larger)] == table[client % len(table)]


@given(st.integers(0, 5000))
def test_a_table_is_a_power_of_two_and_large_enough(members: int) -> None:
    size = table_size(members)
    assert size & (size - 1) == 0
    wanted = max(1, members) * ENTRIES_PER_MEMBER
    assert wanted <= size < 2 * wanted
