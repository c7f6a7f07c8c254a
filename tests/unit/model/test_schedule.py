# SPDX-License-Identifier: Apache-2.0
"""The hash has published vectors; shares and tables have examples that can be read."""

import pytest

from cloudlb.model.schedule import hash_words, refill, resize, shares, table_size


@pytest.mark.parametrize(
    ("octets", "seed", "expected"),
    [
        ("", 0, 0),
        ("", 1, 0x514E28B7),
        ("", 0xFFFFFFFF, 0x81F16F39),
        ("ffffffff", 0, 0x76293B50),
        ("21436587", 0, 0xF55B516B),
        ("21436587", 0x5082EDEE, 0x2362F9DE),
        ("00000000", 0, 0x2362F9DE),
        (b"aaaa".hex(), 0x9747B28C, 0x5A97808A),
        (b"abcd".hex(), 0x9747B28C, 0xF0478627),
    ],
)
@pytest.mark.requirement("L8")
def test_the_hash_is_murmur3(octets: str, seed: int, expected: int) -> None:
    """Vectors: the public test vectors of MurmurHash3_x86_32."""
    data = bytes.fromhex(octets)
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    assert hash_words(words, seed) == expected


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, {}),
        ({1: 0, 2: 0}, {}),
        ({1: 1}, {1: 16}),
        ({1: 1, 2: 3}, {1: 4, 2: 12}),
        ({1: 1, 2: 0, 3: 1}, {1: 8, 3: 8}),
        ({1: 1, 2: 1, 3: 1}, {1: 6, 2: 5, 3: 5}),
        ({3: 1, 2: 1, 1: 1}, {3: 6, 2: 5, 1: 5}),
        ({1: 1, 2: 100}, {1: 1, 2: 15}),
        ({1: 200, 2: 1, 3: 200}, {1: 8, 2: 1, 3: 7}),
        ({1: 1, 2: 201, 3: 200}, {1: 1, 2: 8, 3: 7}),
        ({1: 1, 2: 200, 3: 201}, {1: 1, 2: 7, 3: 8}),
    ],
)
@pytest.mark.requirement("L24")
def test_entries_are_shared_by_weight(weights: dict[int, int], expected: dict[int, int]) -> None:
    assert shares(weights, 16) == expected


def test_the_largest_fraction_gets_the_remainder() -> None:
    assert shares({1: 10, 2: 11, 3: 11}, 16) == {1: 5, 2: 6, 3: 5}


@pytest.mark.parametrize(
    ("members", "size"), [(0, 16), (1, 16), (2, 32), (3, 64), (4, 64), (5, 128)]
)
def test_a_table_has_sixteen_entries_for_each_member(members: int, size: int) -> None:
    assert table_size(members) == size


def test_with_more_members_than_entries_some_get_none() -> None:
    assert shares(dict.fromkeys(range(5), 1), 4) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 0}


def test_an_empty_table_is_filled_in_turns() -> None:
    assert refill([None] * 4, {1: 1, 2: 1}) == [1, 2, 1, 2]


def test_a_member_that_left_is_replaced_where_it_was() -> None:
    assert refill([1, 2, 1, 2], {1: 1, 3: 1}) == [1, 3, 1, 3]


def test_a_member_above_its_share_gives_its_last_entries() -> None:
    assert refill([1, 1, 1, 1], {1: 1, 2: 1}) == [1, 1, 2, 2]


def test_without_members_a_table_is_empty() -> None:
    assert refill([1, 2], {1: 0}) == [None, None]


def test_a_table_repeats_when_it_grows() -> None:
    assert resize([1, 2], 4) == [1, 2, 1, 2]
    assert resize([], 2) == [None, None]
