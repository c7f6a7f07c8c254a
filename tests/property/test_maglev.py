# SPDX-License-Identifier: Apache-2.0
"""Maglev tables: fair, the same everywhere, and little moves."""

import random
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model import maglev
from tests.soak import count

pytestmark = pytest.mark.requirement("L8")
members = st.lists(st.uuids(), min_size=1, max_size=12, unique=True)
ENTRIES = 2039


def table(weights: dict[UUID, int]) -> list[UUID]:
    """A table of members by their ids."""
    return maglev.table(weights, {m: m for m in weights}, ENTRIES)


@given(members, st.randoms())
def test_the_order_of_members_does_not_matter(ids: list[UUID], rng: random.Random) -> None:
    shuffled = sorted(ids, key=lambda _: rng.random())
    assert table(dict.fromkeys(ids, 1)) == table(dict.fromkeys(shuffled, 1))


@given(members)
def test_equal_members_have_equal_shares(ids: list[UUID]) -> None:
    counts = Counter(table(dict.fromkeys(ids, 3)))
    assert sum(counts.values()) == ENTRIES
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.dictionaries(st.uuids(), st.integers(0, 256), min_size=1, max_size=12))
def test_shares_follow_the_weights(weights: dict[UUID, int]) -> None:
    counts = Counter(table(weights))
    total = sum(weights.values())
    assert set(counts) == {m for m, weight in weights.items() if weight}
    for member in counts:
        assert abs(counts[member] - ENTRIES * weights[member] / total) <= len(weights) + 1


@pytest.mark.parametrize("members", [3, 12])
def test_a_member_that_leaves_moves_little_more_than_its_share(members: int) -> None:
    """On average: the sequences of two members may run in step, and then a quarter moves."""
    rng, moved = random.Random(1), 0
    for _ in range(count(50, 1000)):
        ids = [UUID(int=rng.getrandbits(128)) for _ in range(members)]
        before, after = table(dict.fromkeys(ids, 1)), table(dict.fromkeys(ids[1:], 1))
        assert ids[0] not in after
        moved += sum(was not in (now, ids[0]) for was, now in zip(before, after, strict=True))
    assert moved <= count(50, 1000) * ENTRIES * 0.03


def test_sizes_are_primes_below_powers_of_two_of_a_hundred_for_each_member() -> None:
    assert all(n % d for n in maglev.SIZES for d in range(2, int(n**0.5) + 1))
    assert maglev.size(1) == 251
    assert maglev.size(100) == 16381
    assert maglev.size(5000) == 65521
