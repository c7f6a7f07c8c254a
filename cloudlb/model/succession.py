# SPDX-License-Identifier: Apache-2.0
"""One plane after another: what connections of the former one need of the new one (L2).

A director keeps the mode of each connection with the connection. A guest's tap has no table of
connections except with edge NAT, so it is told which modes there have been.
"""

from dataclasses import replace

from cloudlb.model.dataplane import Guest, Mode, Plane


def after(plane: Plane, old: Plane | None) -> Plane:
    """The plane as it is to be where ``old`` was: its guests know their former modes."""
    if old is None:
        return plane
    known = {guest.member_id: guest for guest in old.guests}
    guests = tuple(_after(guest, known.get(guest.member_id)) for guest in plane.guests)
    return replace(plane, guests=guests)


def _after(guest: Guest, old: Guest | None) -> Guest:
    if old is None or old.mac != guest.mac:
        return guest
    modes = {old.mode, *old.former, *guest.former} - {guest.mode}
    return replace(guest, former=tuple(mode for mode in Mode if mode in modes))
