# SPDX-License-Identifier: Apache-2.0
"""What becomes of the connections of dead members, as their pool says (A17); pure."""

from collections.abc import Set
from dataclasses import replace
from uuid import UUID

from cloudlb.model.dataplane import Backend, BackendState, Plane
from cloudlb.model.pool import DownAction

_STATES = {DownAction.RESCHEDULE: BackendState.DESERTED, DownAction.RESET: BackendState.CUT}


def after_deaths(plane: Plane, dead: Set[UUID], action: DownAction) -> Plane:
    """The plane with the connections of ``dead`` members treated so.

    One that takes new connections nonetheless keeps those that it has.
    """
    frontend, state = plane.frontend, _STATES.get(action)
    if frontend is None or state is None:
        return plane

    def buried(backend: Backend) -> Backend:
        is_lost = backend.member_id in dead and backend.state is BackendState.IDLE
        return replace(backend, state=state) if is_lost else backend

    return replace(
        plane, frontend=replace(frontend, backends=tuple(map(buried, frontend.backends)))
    )


def given_up(plane: Plane | None) -> frozenset[UUID]:
    """The members of a plane whose connections do not stay with them."""
    backends = plane.frontend.backends if plane and plane.frontend else ()
    return frozenset(b.member_id for b in backends if not b.state.keeps)
