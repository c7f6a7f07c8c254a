# SPDX-License-Identifier: Apache-2.0
"""The slots of pools: rotations, lists of those to compare, tables of hashes.

A sequence is written to a fresh region and exchanged with the old one by the pool's record. A
table changes in place, entry by entry, so that only the clients of moved entries notice; it is
exchanged only when its size changes.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from cloudlb.engines.regions import Regions
from cloudlb.model import maglev, schedule
from cloudlb.model.pool import RotationOrder
from cloudlb.model.rotation import rotation
from cloudlb.net.bpf.layout import Number, PoolRecord, SchedulerNumber
from cloudlb.net.bpf.programs import Maps

_ORDERS = {
    SchedulerNumber.WRR_INTERLEAVED: RotationOrder.INTERLEAVED,
    SchedulerNumber.WRR_LVS: RotationOrder.LVS,
    SchedulerNumber.WRR_SMOOTH: RotationOrder.SMOOTH,
}
_MOVING = {SchedulerNumber.SOURCE_HASH, SchedulerNumber.FLOW_HASH}


class Rotations:
    """Writes slots and keeps account of their regions."""

    def __init__(self, maps: Maps, regions: Regions) -> None:
        self._slots = maps.slots
        self._regions = regions
        self._resting: list[tuple[int, int]] = []
        self._drowsy: list[tuple[int, int]] = []

    def write(
        self,
        record: PoolRecord,
        scheduler: SchedulerNumber,
        weights: Mapping[int, int],
        ids: Mapping[int, UUID],
        shared: bool = False,
        own: Sequence[int] = (),
    ) -> PoolRecord:
        """Write slots for member numbers and their weights; the record that makes them count.

        A ``shared`` table is to be the same on other hosts: it is made of ids and weights alone.
        ``own`` members stand behind a sequence, for what is not known; no table has any.
        With nobody to choose the region stays as it is: when members come back, a table finds
        its clients again.
        """
        if not weights and not own:
            return record._replace(length=0, scheduler=scheduler, locals=0)
        if scheduler is SchedulerNumber.MAGLEV or (shared and scheduler in _MOVING):
            table = maglev.table(weights, ids, maglev.size(len(weights)))
            return self._write_table(record, scheduler, table)
        if scheduler > SchedulerNumber.WLC_LVS:
            return self._write_table(record, scheduler, self._moved(record, scheduler, weights))
        order = _ORDERS.get(scheduler)
        turns = rotation(weights, order) if order else list(weights)
        return self._write_sequence(record, scheduler, turns, list(own))

    def rest(self, old: PoolRecord, new: PoolRecord | None) -> None:
        """A region was exchanged; programs under way may still read it."""
        if new is None or (old.base, old.order) != (new.base, new.order):
            self._resting.append((old.base, old.order))

    def wake(self) -> None:
        """Make the regions available that rested at the `wake` before."""
        for base, order in self._drowsy:
            self._regions.give(base, order)
        self._drowsy, self._resting = self._resting, []

    def _write_sequence(
        self,
        record: PoolRecord,
        scheduler: SchedulerNumber,
        members: list[int],
        own: list[int],
    ) -> PoolRecord:
        there = record.length + record.locals
        if not there or self._read(record.base, there) != [*members, *own]:
            record = self._write_anew(record, scheduler, [*members, *own])
        return record._replace(scheduler=scheduler, length=len(members), locals=len(own))

    def _moved(
        self, record: PoolRecord, scheduler: SchedulerNumber, weights: Mapping[int, int]
    ) -> list[int]:
        """The present table with as few entries moved as the weights need."""
        had_table = record.scheduler in _MOVING and not record.router
        had_table = had_table and 1 << record.order >= schedule.table_size(1)
        old = self._read(record.base, 1 << record.order) if had_table else []
        size = max(schedule.table_size(len(weights)), len(old))
        return _full(schedule.refill(schedule.resize(old, size), weights))

    def _write_table(
        self, record: PoolRecord, scheduler: SchedulerNumber, table: list[int]
    ) -> PoolRecord:
        had_table = record.scheduler > SchedulerNumber.WLC_LVS
        if not had_table or 1 << record.order != 1 << _order(table):
            return self._write_anew(record, scheduler, table)._replace(locals=0)
        self._change(record.base, self._read(record.base, len(table)), table)
        return record._replace(length=len(table), scheduler=scheduler)

    def _write_anew(
        self, record: PoolRecord, scheduler: SchedulerNumber, members: list[int]
    ) -> PoolRecord:
        order = _order(members)
        base = self._regions.take(order)
        self._slots.fill(base, members)
        return record._replace(base=base, order=order, length=len(members), scheduler=scheduler)

    def _read(self, base: int, length: int) -> list[int]:
        return self._slots.stretch(base, length)

    def _change(self, base: int, old: list[int], new: list[int]) -> None:
        changed = [(i, b) for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        self._slots.update({Number(base + i): Number(member) for i, member in changed})


def _full(table: list[int | None]) -> list[int]:
    """A table for at least one weight has no free entry."""
    return [member for member in table if member is not None]


def _order(members: list[int]) -> int:
    """The order of the smallest region that has room for them."""
    return (len(members) - 1).bit_length()
