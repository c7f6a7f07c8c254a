# SPDX-License-Identifier: Apache-2.0
"""What a plane takes over from the one before it."""

from dataclasses import replace

import pytest

from cloudlb.model.dataplane import Guest, Mode, Plane
from cloudlb.model.succession import after
from tests.planes import compute, guest, mac

pytestmark = pytest.mark.requirement("L2")


def plane(mode: Mode, former: tuple[Mode, ...] = (), number: int = 1) -> Plane:
    """A plane with one guest."""
    one: Guest = replace(guest(number), mode=mode, former=former)
    return replace(compute(), guests=(one,))


def test_a_first_plane_has_no_former_modes() -> None:
    assert after(plane(Mode.DR), None) == plane(Mode.DR)


def test_the_same_mode_again_adds_nothing() -> None:
    assert after(plane(Mode.DR), plane(Mode.DR)) == plane(Mode.DR)


def test_another_mode_remembers_all_before() -> None:
    second = after(plane(Mode.EDGE_NAT), plane(Mode.DR))
    assert second == plane(Mode.EDGE_NAT, (Mode.DR,))
    third = after(plane(Mode.TUN), second)
    assert third == plane(Mode.TUN, (Mode.DR, Mode.EDGE_NAT))


def test_a_mode_that_comes_back_is_no_former_one() -> None:
    back = after(plane(Mode.DR), plane(Mode.TUN, (Mode.DR, Mode.EDGE_NAT)))
    assert back == plane(Mode.DR, (Mode.TUN, Mode.EDGE_NAT))


def test_another_member_or_another_nic_has_no_former_modes() -> None:
    assert after(plane(Mode.TUN), plane(Mode.DR, number=2)) == plane(Mode.TUN)
    there = plane(Mode.DR)
    moved = replace(there, guests=(replace(there.guests[0], mac=mac(9)),))
    assert after(plane(Mode.TUN), moved) == plane(Mode.TUN)


def test_ends_of_other_hosts_tunnels_stay_after_another_mode() -> None:
    assert after(plane(Mode.DR, (Mode.TUN,)), plane(Mode.DR)) == plane(Mode.DR, (Mode.TUN,))
