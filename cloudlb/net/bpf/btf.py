# SPDX-License-Identifier: Apache-2.0
"""Types of maps' records, from BTF (Linux, Documentation/bpf/btf.rst); pure.

Offsets and sizes are in octets. Records here have no bit fields and no pointers.
"""

import struct
import sys
from dataclasses import dataclass

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_ARRAY = struct.Struct("=III")
_INT, _ARRAY_OF, _STRUCT, _UNION, _ENUM = 1, 3, 4, 5, 6
_ALIASES = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag
_PROTOTYPE, _VARIABLE, _SECTION, _TAG, _ENUM64 = 13, 14, 15, 17, 19
_BEHIND = {_INT: 4, _ARRAY_OF: 12, _VARIABLE: 4, _TAG: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTOTYPE: 8, _SECTION: 12, _ENUM64: 12}


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a record: its name, empty in a record that is one number, and its place."""

    name: str
    offset: int
    type: "Layout"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a record lies in memory; one without ``fields`` is copied as it is.

    ``count`` is that of an array's elements.
    """

    size: int
    fields: tuple[Field, ...] = ()
    count: int = 1


class Types:
    """The types of an object file, or of what the kernel has loaded of one, by their numbers."""

    def __init__(self, raw: bytes) -> None:
        _, _, _, header, types, types_length, names, _ = _HEADER.unpack_from(raw)
        self._raw, self._names = raw, header + names
        self._at = [0]
        at, end = header + types, header + types + types_length
        while at < end:
            self._at.append(at)
            _, info, _ = _TYPE.unpack_from(raw, at)
            kind, entries = info >> 24 & 31, info & 0xFFFF
            at += _TYPE.size + _BEHIND.get(kind, 0) + _EACH.get(kind, 0) * entries

    def layout(self, number: int) -> Layout:
        """The layout of a type."""
        _, info, size = _TYPE.unpack_from(self._raw, self._at[number])
        kind, behind = info >> 24 & 31, self._at[number] + _TYPE.size
        if kind in _ALIASES:
            return self.layout(size)
        if kind == _ARRAY_OF:
            element, _, count = _ARRAY.unpack_from(self._raw, behind)
            one = self.layout(element)
            return Layout(one.size * count, one.fields, one.count * count)
        if kind != _STRUCT:
            return Layout(size)
        members = (
            _MEMBER.unpack_from(self._raw, behind + i * _MEMBER.size) for i in range(info & 0xFFFF)
        )
        fields = tuple(Field(self._name(n), bits // 8, self.layout(t)) for n, t, bits in members)
        return Layout(size, fields)

    def _name(self, offset: int) -> str:
        start = self._names + offset
        return self._raw[start : self._raw.index(b"\0", start)].decode()


Move = tuple[int, int, int]


def moves(old: Layout, new: Layout) -> list[Move]:
    """What makes a record of the new layout of zeros: offset in the old one, in the new, length.

    Fields are known by their names; one that means something else than it did has another name.
    Of arrays of records whole elements are copied, if they have not changed.
    """
    if old == new or not (old.fields and new.fields) or old.count + new.count > 2:
        return _plain(old, new)
    known = {field.name: field for field in old.fields}
    found: list[Move] = []
    for field in new.fields:
        if there := known.get(field.name):
            for source, target, length in moves(there.type, field.type):
                found.append((there.offset + source, field.offset + target, length))
    return found


def _plain(old: Layout, new: Layout) -> list[Move]:
    """Arrays as far as both go, if their elements are alike; a number also if it has grown."""
    if bool(old.fields) != bool(new.fields):
        return []
    if not old.fields and old.count == new.count == 1 and old.size < new.size:
        return [(0, 0 if sys.byteorder == "little" else new.size - old.size, old.size)]
    if old.size * new.count != new.size * old.count:
        return []
    return [(0, 0, min(old.size, new.size))]


def converted(record: bytes, moved: list[Move], size: int) -> bytes:
    """A record of ``size`` octets, made of another one."""
    made = bytearray(size)
    for source, target, length in moved:
        made[target : target + length] = record[source : source + length]
    return bytes(made)
