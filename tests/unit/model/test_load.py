# SPDX-License-Identifier: Apache-2.0
"""Which host takes a new connection, by the loads of all."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.dataplane import Frontend, Plane
from cloudlb.model.load import Load, Measures, bearer, borne
from tests.planes import backend, director, member_id

pytestmark = pytest.mark.requirement("D5")
ALL = frozenset({"a", "b", "c"})
HOMES: dict[UUID, str] = {member_id(n): name for n, name in enumerate("aabc", 1)}


def loads(a: float, b: float, c: float, limit: float = 10) -> dict[str, Load]:
    return {"a": Load(a, limit), "b": Load(b, limit), "c": Load(c, limit)}


@pytest.mark.parametrize(
    ("known", "taking"),
    [
        (loads(9, 0, 0), "a"),
        (loads(10, 3, 2), "c"),
        (loads(10, 2, 2), "b"),
        (loads(99, 10, 9), "c"),
        (loads(10, 10, 10), "a"),
        (loads(30, 10, 20), "a"),
        ({"a": Load(5, 5), "b": Load(8, 9), "c": Load(7, 7)}, "b"),
        ({"a": Load(10, 10), "c": Load(9, 10)}, "c"),
        ({"a": Load(10, 10)}, "a"),
        ({"a": Load(0, 0), "b": Load(0, 0)}, "a"),
    ],
    ids=[
        "below its own threshold",
        "the least loaded",
        "of equals the first by name",
        "the only one with room",
        "nobody has room",
        "nobody has room, others have less",
        "each has a threshold of its own",
        "one was not heard",
        "nobody was heard",
        "thresholds of nothing",
    ],
)
def test_a_host_takes_what_it_can_and_else_the_least_loaded_one_does(
    known: dict[str, Load], taking: str
) -> None:
    assert bearer("a", known, ALL) == taking


def test_a_host_without_members_that_serve_gets_nothing() -> None:
    assert bearer("a", loads(10, 1, 2), {"a", "c"}) == "c"
    assert bearer("a", loads(0, 5, 2), {"b", "c"}) == "c"
    assert bearer("a", loads(10, 10, 12), {"b", "c"}) == "b", "somebody must"


@given(
    known=st.dictionaries(
        st.sampled_from("abcdef"), st.builds(Load, st.floats(0, 20), st.floats(0, 20))
    ),
    serving=st.frozensets(st.sampled_from("abcdef"), min_size=1),
)
def test_nobody_with_room_is_passed_over_for_one_without(
    known: dict[str, Load], serving: frozenset[str]
) -> None:
    taking = bearer("a", known, serving)
    able = [n for n in serving & known.keys() if known[n].has_room]
    if able:
        assert taking in able
        assert taking == "a" or known[taking].value == min(known[n].value for n in able)
        assert taking == "a" or "a" not in able


def test_a_load_is_the_sum_of_what_it_is_made_of() -> None:
    measures = Measures(connections=7, cpu=50, passed_on=3, sockets=11)
    assert measures.weighed(Measures(connections=1)) == 7
    assert measures.weighed(Measures(connections=2, cpu=0.5, passed_on=10, sockets=1)) == 80


def shared_out(known: dict[str, Load], *numbers: int, idle: int = 0) -> list[int]:
    """The weights of the members of a, a, b and c, of which some are listed."""
    plane = director([backend(n, 3, idle=n == idle) for n in numbers])
    return [b.weight for b in _frontend(borne(_keeping(plane), HOMES, "a", known)).backends]


def _keeping(plane: Plane) -> Plane:
    return replace(plane, frontend=replace(_frontend(plane), keeps_unknown=True))


def _frontend(plane: Plane) -> Frontend:
    assert plane.frontend
    return plane.frontend


def test_only_the_members_of_the_host_that_takes_them_get_new_connections() -> None:
    assert shared_out(loads(1, 2, 3), 1, 2, 3, 4) == [3, 3, 0, 0]
    assert shared_out(loads(10, 2, 3), 1, 2, 3, 4) == [0, 0, 3, 0]
    assert shared_out(loads(10, 2, 3), 1, 2, 3, 4, idle=3) == [0, 0, 0, 3]


def test_nobody_is_left_out_while_no_load_is_known() -> None:
    assert shared_out({}, 1, 3, 4) == [3, 3, 3]
    assert shared_out({"a": Load(10, 10)}, 3, 4) == [3, 3], "none of those that serve was heard"


def test_a_pool_that_goes_by_a_hash_knows_no_loads() -> None:
    plane = director([backend(1), backend(3)])
    assert borne(plane, HOMES, "a", loads(10, 0, 0)) == plane
