# SPDX-License-Identifier: Apache-2.0
"""Records of one layout become records of another."""

import sys

import pytest

from cloudlb.net.bpf.btf import Field, Layout, converted, moves

pytestmark = pytest.mark.requirement("L18")
SHORT, WORD, LONG = Layout(2), Layout(4), Layout(8)
ADDRESS = Layout(16, (Field("word", 0, Layout(16, count=4)),))


def record(*fields: tuple[str, Layout]) -> Layout:
    """A record of these fields without padding."""
    placed, offset = [], 0
    for name, layout in fields:
        placed.append(Field(name, offset, layout))
        offset += layout.size
    return Layout(offset, tuple(placed))


def carried(old: Layout, new: Layout, octets: bytes) -> bytes:
    assert len(octets) == old.size
    return converted(octets, moves(old, new), new.size)


OLD = record(("seen", LONG), ("member", WORD), ("state", SHORT), ("pad", SHORT))
OCTETS = b"seenseen" + b"memb" + b"st" + b"pd"


def test_the_same_layout_is_the_same_record() -> None:
    assert carried(OLD, OLD, OCTETS) == OCTETS


def test_fields_are_found_by_their_names_wherever_they_stand() -> None:
    new = record(("state", SHORT), ("added", SHORT), ("member", WORD), ("seen", LONG))
    assert carried(OLD, new, OCTETS) == b"st" + bytes(2) + b"memb" + b"seenseen"


def test_a_field_that_is_gone_is_left_out_and_a_new_one_is_zero() -> None:
    new = record(("state", SHORT), ("other", LONG))
    assert carried(OLD, new, OCTETS) == b"st" + bytes(8)


def test_records_in_records_change_too() -> None:
    old = record(("key", record(("a", WORD), ("b", WORD))), ("at", ADDRESS))
    new = record(("at", ADDRESS), ("key", record(("b", WORD), ("c", WORD), ("a", WORD))))
    octets = b"aaaabbbb" + bytes(range(16))
    assert carried(old, new, octets) == bytes(range(16)) + b"bbbb" + bytes(4) + b"aaaa"


@pytest.mark.parametrize("value", [0, 7, 0xFFFF])
def test_a_number_may_grow(value: int) -> None:
    old, new = record(("port", SHORT)), record(("port", LONG))
    order = sys.byteorder
    assert carried(old, new, value.to_bytes(2, order)) == value.to_bytes(8, order)


def test_a_number_that_shrinks_is_not_cut() -> None:
    assert carried(record(("n", LONG)), record(("n", SHORT)), b"12345678") == bytes(2)


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_of_an_array_goes_what_both_have(count: int) -> None:
    old, new = Layout(16, count=4), Layout(4 * count, count=count)
    octets = bytes(range(16))
    assert carried(old, new, octets) == octets[: 4 * count].ljust(4 * count, b"\0")


def test_an_array_of_other_records_is_zero() -> None:
    old = Layout(16, record(("a", LONG)).fields, 2)
    new = Layout(32, record(("a", LONG), ("b", LONG)).fields, 2)
    assert carried(old, new, bytes(range(16))) == bytes(32)
