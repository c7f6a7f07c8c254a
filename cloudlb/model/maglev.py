# SPDX-License-Identifier: Apache-2.0
"""Maglev tables: every director computes the same one, whatever it knew before.

Source: D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
2016, section 3.4; members of larger weight take more turns. A change of one of n members moves
little more than 1/n of the entries.
"""

from collections.abc import Mapping
from typing import TypeVar
from uuid import UUID

from cloudlb.model.schedule import hash_words

M = TypeVar("M")
SIZES = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)
"""Primes below the powers of two."""
_ENTRIES_PER_MEMBER = 100
_OFFSET_SEED, _SKIP_SEED = 0x6F666673, 0x736B6970


def size(members: int) -> int:
    """Entries of a table for so many members: at least 100 for each up to 655 members."""
    return next((n for n in SIZES if n >= members * _ENTRIES_PER_MEMBER), SIZES[-1])


def table(weights: Mapping[M, int], ids: Mapping[M, UUID], entries: int) -> list[M]:
    """Members of ``entries`` (a prime) entries, by weight; empty without any weight.

    It depends on weights and ids only, not on the mapping's order.
    """
    heaviest = max(weights.values(), default=0)
    order = sorted((m for m, weight in weights.items() if weight), key=lambda m: ids[m])
    walks = {member: _Walk(ids[member], entries) for member in order}
    filled: list[M | None] = [None] * entries
    left, taken, round_ = (entries if order else 0), dict.fromkeys(order, 0), 0
    while left:
        round_ += 1
        for member in order:
            while left and taken[member] * heaviest < round_ * weights[member]:
                filled[walks[member].free(filled)] = member
                taken[member] += 1
                left -= 1
    return [member for member in filled if member is not None]


class _Walk:
    """The order in which a member prefers entries: a permutation, as their number is prime."""

    def __init__(self, member_id: UUID, entries: int) -> None:
        words = [member_id.int >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)]
        self._at = hash_words(words, _OFFSET_SEED) % entries
        self._skip = hash_words(words, _SKIP_SEED) % (entries - 1) + 1
        self._entries = entries

    def free(self, filled: list[M | None]) -> int:
        """The next preferred entry that is free."""
        while filled[self._at] is not None:
            self._at = (self._at + self._skip) % self._entries
        return self._at
