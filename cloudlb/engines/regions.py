# SPDX-License-Identifier: Apache-2.0
"""Allocation of power-of-two regions of a flat array (a buddy allocator)."""


class Regions:
    """Which parts of an array of ``size`` (a power of two) entries are in use.

    A region is (base, order): the 2**order entries from ``base``, a multiple of its length.
    """

    def __init__(self, size: int) -> None:
        self._top = size.bit_length() - 1
        self._free: list[set[int]] = [set() for _ in range(self._top + 1)]
        self._free[self._top].add(0)

    def take(self, order: int) -> int:
        """The base of a free region; MemoryError when there is none."""
        for larger in range(order, self._top + 1):
            if self._free[larger]:
                base = min(self._free[larger])
                self._free[larger].remove(base)
                self._split(base, larger, order)
                return base
        raise MemoryError(f"no region of {1 << order} entries is free")

    def claim(self, base: int, order: int) -> None:
        """Mark a certain region as used; ValueError when part of it is used already."""
        for larger in range(order, self._top + 1):
            start = base >> larger << larger
            if start in self._free[larger]:
                self._free[larger].remove(start)
                while larger > order:
                    larger -= 1
                    half = 1 << larger
                    upper = base & half
                    self._free[larger].add(start if upper else start + half)
                    start += upper
                return
        raise ValueError(f"region {base}/{order} is in use")

    def give(self, base: int, order: int) -> None:
        """Free a region, joining it with its free neighbours."""
        while order < self._top and base ^ (1 << order) in self._free[order]:
            self._free[order].remove(base ^ (1 << order))
            base &= ~(1 << order)
            order += 1
        self._free[order].add(base)

    def _split(self, base: int, order: int, wanted: int) -> None:
        while order > wanted:
            order -= 1
            self._free[order].add(base + (1 << order))
