# SPDX-License-Identifier: Apache-2.0
"""Carries what is in the maps of one version over into those of another.

Where a map's records and size have not changed, both versions have the same map, so that nothing
is missed while interfaces go from one to the other. Of other maps the elements are copied, field
by field (see `btf.moves`): what the agent writes before the new programs are attached, what
programs remember when they are, as it changes until then.
"""

import errno
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cloudlb.net.bpf import btf
from cloudlb.net.bpf.btf import Layout, Types
from cloudlb.net.bpf.libbpf import Libbpf, MapShape
from cloudlb.net.bpf.maps import batches

_ARRAY, _PER_CPU_ARRAY = 2, 6  # linux/bpf.h, enum bpf_map_type
_FOR_A_MOMENT = frozenset({"fragmented", "held", "drafts", "news", "signs", "budgets"})
_REMEMBERED = frozenset({"flows", "sessions", "clients"})

Key = Callable[[bytes], bool]
"""Whether the element of a key is wanted."""
_Convert = Callable[[bytes], bytes]


class CannotCarryError(Exception):
    """What is in the maps of another version has no place in those of this one."""


class Former:
    """The maps of another version, pinned in ``directory``, that are to become ``shapes``.

    Raises `CannotCarryError` when the types that the kernel tells of them cannot be read.
    """

    def __init__(self, libbpf: Libbpf, directory: Path, shapes: Mapping[str, MapShape]) -> None:
        self._libbpf, self._directory = libbpf, directory
        there = {path.name: libbpf.pinned_shape(path) for path in directory.iterdir()}
        self._both = {name: (there[name], new) for name, new in shapes.items() if name in there}
        try:
            both = self._both.items()
            self._shared = {name for name, (old, new) in both if _are_alike(old, new)}
        except (struct.error, IndexError, ValueError) as error:
            raise CannotCarryError(f"their types cannot be read: {error}") from error

    def share(self, pins: Path) -> None:
        """Pin the maps that stay as they are among those of the new version."""
        for name in self._shared:
            with self._libbpf.opened(self._directory / name) as fd:
                self._libbpf.pin(fd, pins / name)

    def copy(self, pins: Path) -> None:
        """Copy what the agent has written into the others. Raises `CannotCarryError` if something
        has no place there.
        """
        for name in self._both.keys() - self._shared - _FOR_A_MOMENT - _REMEMBERED:
            with self._libbpf.opened(pins / name) as fd:
                for elements in self._elements(name):
                    self._set(name, fd, elements)

    def _set(self, name: str, fd: int, elements: Mapping[bytes, bytes]) -> None:
        keys, values = b"".join(elements), b"".join(elements.values())
        try:
            self._libbpf.update_batch(fd, keys, values, len(elements))
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise CannotCarryError(f"the new map {name} is too small for what is there") from error

    def behind(self, names: Iterable[str]) -> list[str]:
        """Of these maps those in which the former programs note what is not known here."""
        return [name for name in names if name in self._both and name not in self._shared]

    def catch_up(self, pins: Path, wanted: Mapping[str, Key]) -> None:
        """Copy what the former programs remember: of maps by name the elements whose key says so.

        What is there already stays: the new programs have begun it.
        """
        for name in self.behind(wanted):
            with self._libbpf.opened(pins / name) as fd:
                for elements in self._elements(name):
                    self._add(fd, {k: v for k, v in elements.items() if wanted[name](k)})

    def _add(self, fd: int, elements: Mapping[bytes, bytes]) -> None:
        for key, value in elements.items():
            try:
                self._libbpf.add(fd, key, value)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.E2BIG):  # is newer, or the map is full
                    raise

    def _elements(self, name: str) -> Iterator[dict[bytes, bytes]]:
        """A map's elements as they are to be, in batches; nothing of an array's empty ones."""
        old, new = self._both[name]
        key, value = (
            _converter(*layouts) for layouts in zip(*map(_layouts, (old, new)), strict=True)
        )
        is_array = old.kind in (_ARRAY, _PER_CPU_ARRAY)
        cpus = self._libbpf.cpus if old.kind == _PER_CPU_ARRAY else 1
        size = _stride(old)
        with self._libbpf.opened(self._directory / name) as fd:
            for keys, values in batches(self._libbpf, fd, old.key_size, size * cpus):
                elements = {
                    key(k): b"".join(
                        value(v[at : at + size]).ljust(_stride(new), b"\0")
                        for at in range(0, len(v), size)
                    )
                    for k, v in zip(keys, values, strict=True)
                    if any(v) or not is_array
                }
                if elements:
                    yield elements


def _are_alike(old: MapShape, new: MapShape) -> bool:
    return old.outline == new.outline and _layouts(old) == _layouts(new)


def _layouts(shape: MapShape) -> tuple[Layout, Layout]:
    """Of keys and values; a ring buffer has neither."""
    if not shape.types:
        return Layout(shape.key_size), Layout(shape.value_size)
    types = Types(shape.types)
    return types.layout(shape.key_type), types.layout(shape.value_type)


def _converter(old: Layout, new: Layout) -> _Convert:
    if old == new:
        return bytes
    moved = btf.moves(old, new)
    return lambda record: btf.converted(record, moved, new.size)


def _stride(shape: MapShape) -> int:
    """The room that a value takes: those of several CPUs begin at multiples of eight octets."""
    is_per_cpu = shape.kind == _PER_CPU_ARRAY
    return -(-shape.value_size // 8) * 8 if is_per_cpu else shape.value_size
