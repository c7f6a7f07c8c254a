# SPDX-License-Identifier: Apache-2.0
"""What a host has to tell of its guests, to whom and when."""

import select
import threading
from dataclasses import replace

import pytest

from cloudlb.agents.witness import Witness
from tests.planes import member_id
from tests.unit.agents.clock import Clock
from tests.unit.agents.wire import CALM, target

ONE = target(1, listeners=("d1", "d2"))
TWO = target(2, replace(CALM, interval=1.0), listeners=("d1",))
FIRST, SECOND = member_id(1).bytes, member_id(2).bytes


@pytest.fixture
def witness(clock: Clock) -> Witness:
    """One that has told of two guests that answer."""
    made = Witness(clock)
    made.follow({one.member_id: one for one in (ONE, TWO)})
    made.note(ONE, 0)
    made.note(TWO, 0)
    assert made.due() == {"d1": [(FIRST, 0), (SECOND, 0)], "d2": [(FIRST, 0)]}
    return made


def _is_ready(witness: Witness) -> bool:
    return bool(select.select([witness], [], [], 0)[0])


def test_it_rings_for_nothing_that_was_taken_back(witness: Witness) -> None:
    witness.note(ONE, 1)
    witness.note(TWO, 1)
    witness.follow({})
    witness.due()
    assert not _is_ready(witness)


def test_many_notes_while_another_thread_takes_them(witness: Witness) -> None:
    """Both at once: nothing is raised, and it is silent at the end."""

    def note() -> None:
        for turn in range(5000):
            witness.note(ONE, turn % 2)

    writer = threading.Thread(target=note)
    writer.start()
    while writer.is_alive():
        witness.due()
    witness.due()
    assert not _is_ready(witness)


def test_all_is_told_once_in_each_interval(witness: Witness, clock: Clock) -> None:
    told = []
    for _ in range(100):
        clock.pass_seconds(0.1)
        told += witness.due().get("d1", [])
    assert told.count((FIRST, 0)) == 1
    assert told.count((SECOND, 0)) in (9, 10)


def test_a_change_is_told_at_once(witness: Witness) -> None:
    assert not _is_ready(witness)
    witness.note(TWO, 1)
    assert _is_ready(witness)
    assert witness.due() == {"d1": [(SECOND, 1)]}
    assert not _is_ready(witness)
    assert witness.due() == {}


def test_long_runs_are_told_as_the_longest(witness: Witness) -> None:
    witness.note(TWO, 1000)
    assert witness.due() == {"d1": [(SECOND, 255)]}


def test_nothing_is_told_of_a_guest_that_has_left(witness: Witness, clock: Clock) -> None:
    witness.note(ONE, 1)
    witness.follow({TWO.member_id: TWO})
    clock.pass_seconds(100)
    assert witness.due() == {"d1": [(SECOND, 0)]}


def test_another_director_is_told_what_is_known(witness: Witness, clock: Clock) -> None:
    witness.follow({ONE.member_id: replace(ONE, listeners=("d3",))})
    clock.pass_seconds(10)
    assert witness.due() == {"d3": [(FIRST, 0)]}
