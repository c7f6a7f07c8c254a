# SPDX-License-Identifier: Apache-2.0
"""Regions never overlap, and what is given back joins again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloudlb.engines.regions import Regions
from tests.soak import count

SIZE = 64


class Allocations(RuleBasedStateMachine):
    """Takes, claims and gives regions, beside a plain list of the entries in use."""

    def __init__(self) -> None:
        super().__init__()
        self.regions = Regions(SIZE)
        self.held: list[tuple[int, int]] = []

    @rule(order=st.integers(0, 6))
    def take(self, order: int) -> None:
        try:
            base = self.regions.take(order)
        except MemoryError:
            assert not self._fits(order)
        else:
            assert base % (1 << order) == 0
            assert base + (1 << order) <= SIZE
            assert self._is_free(base, order)
            self.held.append((base, order))

    @rule(order=st.integers(0, 6), place=st.integers(0, SIZE - 1))
    def claim(self, order: int, place: int) -> None:
        base = place >> order << order
        if self._is_free(base, order):
            self.regions.claim(base, order)
            self.held.append((base, order))
        else:
            with pytest.raises(ValueError):
                self.regions.claim(base, order)

    @rule(which=st.integers(0, SIZE))
    def give(self, which: int) -> None:
        if self.held:
            self.regions.give(*self.held.pop(which % len(self.held)))

    @invariant()
    def an_empty_allocator_is_as_new(self) -> None:
        if not self.held:
            assert self.regions._free == Regions(SIZE)._free

    def _is_free(self, base: int, order: int) -> bool:
        used = {entry for b, o in self.held for entry in range(b, b + (1 << o))}
        return used.isdisjoint(range(base, base + (1 << order)))

    def _fits(self, order: int) -> bool:
        return any(self._is_free(base, order) for base in range(0, SIZE, 1 << order))


TestAllocations = Allocations.TestCase
TestAllocations.settings = settings(
    max_examples=count(60, 2000), stateful_step_count=40, deadline=None
)


@given(st.lists(st.integers(0, 4), max_size=20), st.randoms())
def test_all_that_is_given_back_in_any_order_joins_to_one(orders: list[int], random) -> None:
    regions = Regions(512)
    held = [(regions.take(order), order) for order in orders]
    random.shuffle(held)
    for base, order in held:
        regions.give(base, order)
    assert regions.take(9) == 0
