# SPDX-License-Identifier: Apache-2.0
"""Numbers and regions: what the maps' indices are given from."""

import pytest

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.mirror import Numbers
from cloudlb.engines.regions import Regions
from cloudlb.model.ether import Mac


def test_numbers_are_given_in_turn() -> None:
    numbers = Numbers(3)
    assert [numbers.take() for _ in range(3)] == [0, 1, 2]


def test_a_claimed_number_is_skipped() -> None:
    numbers = Numbers(3)
    numbers.claim(0)
    assert numbers.take() == 1


def test_a_number_given_back_rests_until_it_is_woken_twice() -> None:
    numbers = Numbers(2)
    numbers.give(numbers.take())
    assert numbers.take() == 1
    for _ in range(2):
        with pytest.raises(MemoryError, match="all 2 numbers"):
            numbers.take()
        numbers.wake()
    assert numbers.take() == 0


def test_a_number_given_back_is_the_last_to_be_given_again() -> None:
    numbers = Numbers(3)
    numbers.give(numbers.take())
    numbers.wake()
    numbers.wake()
    assert [numbers.take() for _ in range(3)] == [1, 2, 0]


def test_a_region_starts_at_a_multiple_of_its_length() -> None:
    regions = Regions(16)
    assert [regions.take(0), regions.take(2), regions.take(1)] == [0, 4, 2]


def test_a_region_that_does_not_fit_is_refused() -> None:
    regions = Regions(4)
    regions.take(0)
    with pytest.raises(MemoryError, match="no region of 4 entries"):
        regions.take(2)


def test_a_region_cannot_be_claimed_twice() -> None:
    regions = Regions(8)
    regions.claim(4, 1)
    with pytest.raises(ValueError, match="region 4/1"):
        regions.claim(4, 1)


def test_a_claimed_region_is_not_given() -> None:
    regions = Regions(8)
    regions.claim(0, 1)
    assert regions.take(2) == 4


@pytest.mark.parametrize(
    ("kind", "guest", "expected"),
    [
        (PortKind.TAP, "52:54:00:00:00:11", True),
        (PortKind.TAP, "fe:54:00:00:00:11", True),
        (PortKind.TAP, "52:54:00:00:00:12", False),
        (PortKind.UPLINK, "52:54:00:00:00:11", False),
    ],
)
def test_a_tap_leads_to_the_guest_with_its_last_five_octets(
    kind: PortKind, guest: str, expected: bool
) -> None:
    port = HostPort(3, kind, 7, Mac("fe:54:00:00:00:11"))
    assert port.leads_to(Mac(guest)) is expected
