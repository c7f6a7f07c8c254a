# SPDX-License-Identifier: Apache-2.0
"""The slots of pools: the rotation of round robin, the table of source hashing.

A rotation is written to a fresh region and exchanged with the old one by the pool's record. A
table changes in place, entry by entry, so that only the clients of moved entries notice; it is
exchanged only when it must grow.
"""

from collections.abc import Mapping

from cloudlb.engines.regions import Regions
from cloudlb.model import schedule
from cloudlb.net.bpf.layout import Number, PoolRecord, SchedulerNumber
from cloudlb.net.bpf.programs import Maps


class Rotations:
    """Writes slots and keeps account of their regions."""

    def __init__(self, maps: Maps, regions: Regions) -> None:
        self._slots = maps.slots
        self._regions = regions
        self._resting: list[tuple[int, int]] = []

    def write(
        self, record: PoolRecord, scheduler: SchedulerNumber, weights: Mapping[int, int]
    ) -> PoolRecord:
        """Write slots for member numbers and their weights; the record that makes them count.

        With nobody to choose the region stays as it is: when members come back, a table finds
        its clients again.
        """
        if not weights:
            return record._replace(length=0, scheduler=scheduler)
        if scheduler is SchedulerNumber.ROUND_ROBIN:
            return self._write_rotation(record, list(weights))
        return self._write_table(record, weights)

    def rest(self, old: PoolRecord, new: PoolRecord | None) -> None:
        """A region was exchanged; programs under way may still read it until `wake`."""
        if new is None or (old.base, old.order) != (new.base, new.order):
            self._resting.append((old.base, old.order))

    def wake(self) -> None:
        """Make the regions that rest available."""
        for base, order in self._resting:
            self._regions.give(base, order)
        self._resting.clear()

    def _write_rotation(self, record: PoolRecord, members: list[int]) -> PoolRecord:
        is_rotation = record.scheduler == SchedulerNumber.ROUND_ROBIN
        if is_rotation and self._read(record.base, record.length) == members:
            return record
        order = (len(members) - 1).bit_length()
        base = self._regions.take(order)
        self._fill(base, members)
        return record._replace(
            base=base,
            order=order,
            length=len(members),
            scheduler=SchedulerNumber.ROUND_ROBIN,
        )

    def _write_table(self, record: PoolRecord, weights: Mapping[int, int]) -> PoolRecord:
        was_table = record.scheduler == SchedulerNumber.SOURCE_HASH
        old = self._read(record.base, 1 << record.order) if was_table else []
        size = schedule.table_size(len(weights))
        if len(old) < size:
            table = _full(schedule.refill(schedule.resize(old, size), weights))
            order = size.bit_length() - 1
            base = self._regions.take(order)
            self._fill(base, table)
        else:
            base, order, size = record.base, record.order, len(old)
            table = _full(schedule.refill(old, weights))
            self._change(base, old, table)
        return record._replace(
            base=base, order=order, length=size, scheduler=SchedulerNumber.SOURCE_HASH
        )

    def _read(self, base: int, length: int) -> list[int]:
        return [self._slots[Number(base + i)].value for i in range(length)]

    def _fill(self, base: int, members: list[int]) -> None:
        self._slots.update({Number(base + i): Number(m) for i, m in enumerate(members)})

    def _change(self, base: int, old: list[int], new: list[int]) -> None:
        changed = [(i, b) for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        self._slots.update({Number(base + i): Number(member) for i, member in changed})


def _full(table: list[int | None]) -> list[int]:
    """A table for at least one weight has no free entry."""
    return [member for member in table if member is not None]
