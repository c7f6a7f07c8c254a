# SPDX-License-Identifier: Apache-2.0
"""Typed access to pinned maps: records in, records out."""

import errno
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from cloudlb.model.errors import EngineError
from cloudlb.net.bpf import layout
from cloudlb.net.bpf.layout import Codec, Number, PortRecord
from cloudlb.net.bpf.libbpf import Libbpf

K = TypeVar("K", bound=tuple[object, ...])
V = TypeVar("V", bound=tuple[object, ...])
_BATCH = 4096


def batches(
    libbpf: Libbpf, fd: int, key_size: int, value_size: int
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Keys and values, many at a time; what changes meanwhile may be missed or met twice."""
    cursor: bytes | None = None
    count = _BATCH
    while True:
        try:
            cursor, keys, values, got = libbpf.lookup_batch(
                fd, cursor, (key_size, value_size), count
            )
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            count *= 2
            continue
        yield _cut(keys, key_size, got), _cut(values, value_size, got)
        if cursor is None:
            return


def _cut(octets: bytes, size: int, count: int) -> list[bytes]:
    return [octets[at : at + size] for at in range(0, size * count, size)]


class BpfMap(Generic[K, V]):
    """A pinned map with its records.

    Opening raises `EngineError` when the kernel's sizes are not those of the codecs: a wrong
    length would silently corrupt neighbouring memory.
    """

    def __init__(self, libbpf: Libbpf, path: Path, key: Codec[K], value: Codec[V]) -> None:
        self._libbpf, self._key, self._value = libbpf, key, value
        self.fd = libbpf.get(path)
        key_size, value_size, self.max_entries = libbpf.map_shape(self.fd)
        if (key_size, value_size) != (key.size, value.size):
            raise EngineError(
                f"The map {path} has another layout than this version of cloudlb.",
                f"key {key_size} value {value_size}, expected {key.size} and {value.size}",
            )

    def close(self) -> None:
        """Give the file descriptor back."""
        os.close(self.fd)

    def __getitem__(self, key: K) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: K) -> V | None:
        """The value of a key, None when there is none."""
        octets = self._libbpf.lookup(self.fd, self._key.pack(key), self._value.size)
        return None if octets is None else self._value.unpack(octets)

    def __setitem__(self, key: K, value: V) -> None:
        self._libbpf.update(self.fd, self._key.pack(key), self._value.pack(value))

    def __delitem__(self, key: K) -> None:
        self._libbpf.delete(self.fd, self._key.pack(key))

    def update(self, entries: Mapping[K, V]) -> None:
        """Set many elements in one system call."""
        if entries:
            keys = b"".join(map(self._key.pack, entries))
            values = b"".join(map(self._value.pack, entries.values()))
            self._libbpf.update_batch(self.fd, keys, values, len(entries))

    def items(self) -> Iterator[tuple[K, V]]:
        """All elements; those that change meanwhile may be missed or met twice."""
        sizes = self._key.size, self._value.size
        for keys, values in batches(self._libbpf, self.fd, *sizes):
            yield from zip(
                map(self._key.unpack, keys), map(self._value.unpack, values), strict=True
            )


class NumberArray(BpfMap[Number, Number]):
    """An array of numbers, of which whole stretches are read and written."""

    def stretch(self, first: int, length: int) -> list[int]:
        """The numbers from ``first`` on."""
        if not length:
            return []
        before = layout.NUMBER.pack(Number(first - 1)) if first else None
        sizes = self._key.size, self._value.size
        _, _, values, got = self._libbpf.lookup_batch(self.fd, before, sizes, length)
        return array("I", values[: got * self._value.size]).tolist()

    def fill(self, first: int, numbers: Sequence[int]) -> None:
        """Set the numbers from ``first`` on."""
        keys = array("I", range(first, first + len(numbers)))
        self._libbpf.update_batch(
            self.fd, keys.tobytes(), array("I", numbers).tobytes(), len(numbers)
        )


class PortMap:
    """Ports by the number of their interface: small numbers in an array, others in a hash."""

    def __init__(
        self, near: BpfMap[Number, PortRecord], others: BpfMap[Number, PortRecord]
    ) -> None:
        self._near, self._others = near, others

    def get(self, key: Number) -> PortRecord | None:
        """The port of an interface, None when it has none."""
        record = self._map_of(key).get(key)
        return record if record and record.attached else None

    def __setitem__(self, key: Number, record: PortRecord) -> None:
        self._map_of(key)[key] = record

    def __delitem__(self, key: Number) -> None:
        if self._is_near(key):
            self._near[key] = layout.NO_PORT
        else:
            del self._others[key]

    def items(self) -> Iterator[tuple[Number, PortRecord]]:
        """All ports."""
        yield from (pair for pair in self._near.items() if pair[1].attached)
        yield from self._others.items()

    def _is_near(self, key: Number) -> bool:
        return key.value < self._near.max_entries

    def _map_of(self, key: Number) -> BpfMap[Number, PortRecord]:
        return self._near if self._is_near(key) else self._others


class PerCpuMap(Generic[V]):
    """A per-CPU array of counters; a value is the sum over all CPUs."""

    def __init__(self, libbpf: Libbpf, path: Path, value: Codec[V]) -> None:
        self._libbpf, self._value = libbpf, value
        self.fd = libbpf.get(path)

    def close(self) -> None:
        """Give the file descriptor back."""
        os.close(self.fd)

    def total(self, index: int) -> V:
        """The sum of an element's counters."""
        size = self._value.size
        octets = self._libbpf.lookup(
            self.fd, layout.NUMBER.pack(layout.Number(index)), size * self._libbpf.cpus
        )
        assert octets is not None, "an array has all its elements"  # noqa: S101
        rows = [self._value.unpack(octets[i : i + size]) for i in range(0, len(octets), size)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        return type(rows[0])(*sums)

    def clear(self, indices: Sequence[int]) -> None:
        """Set elements to zero on all CPUs."""
        if indices:
            keys = b"".join(layout.NUMBER.pack(Number(index)) for index in indices)
            zeros = bytes(self._value.size * self._libbpf.cpus * len(indices))
            self._libbpf.update_batch(self.fd, keys, zeros, len(indices))
