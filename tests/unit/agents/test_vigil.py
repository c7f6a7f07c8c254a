# SPDX-License-Identifier: Apache-2.0
"""Directors probe seldom what a guest's host probes, and lose no time by it."""

from collections.abc import Callable, Iterator

import pytest

from cloudlb.model.health import paces
from cloudlb.model.pool import Health, Monitor, MonitorType
from tests.planes import member_id
from tests.unit.agents.vigil import STEP, Scene
from tests.unit.agents.wire import target

Open = Callable[..., Scene]
A17 = pytest.mark.requirement("A17")
PHASES = 6
"""Moments of a failure that are tried, spread over what a director does meanwhile."""


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Makes scenes in which all has been well for so many seconds."""
    made: list[Scene] = []

    def one(seconds: float = 12.0, **spec: object) -> Scene:
        monitor = Monitor(MonitorType.ICMP, **spec)  # type: ignore[arg-type]
        made.append(Scene(monitor, monkeypatch))
        made[-1].pass_seconds(seconds)
        assert made[-1].health is Health.ONLINE
        return made[-1]

    yield one
    for scene in made:
        scene.close()


def guest_dies(scene: Scene) -> None:
    scene.guest_lives = False


def path_breaks(scene: Scene) -> None:
    scene.path_is_whole = False


def host_dies(scene: Scene) -> None:
    scene.guest_lives = scene.agent_lives = False


@A17
@pytest.mark.requirement("L13")
@pytest.mark.parametrize("failure", [guest_dies, path_breaks, host_dies])
@pytest.mark.parametrize("timeout", [0.3, 1.0])
@pytest.mark.parametrize("fall", [1, 3, 9])
def test_a_dead_member_is_out_as_soon_as_if_it_were_probed_in_every_interval(
    scenes: Open, failure: Callable[[Scene], None], timeout: float, fall: int
) -> None:
    bound = fall + timeout
    for phase in range(PHASES):
        scene = scenes(12 + phase * 5.05 / PHASES, fall=fall, timeout=timeout)
        failure(scene)
        assert scene.until(Health.OFFLINE, bound) <= bound + 2 * STEP, f"phase {phase}"
        scene.close()


@A17
def test_by_default_it_is_out_within_four_seconds(scenes: Open) -> None:
    scene = scenes()
    assert scene.monitor == Monitor(MonitorType.ICMP)
    path_breaks(scene)
    assert scene.until(Health.OFFLINE, 4.0) <= 4.0 + 2 * STEP


@A17
@pytest.mark.parametrize("failure", [guest_dies, path_breaks])
def test_it_comes_back_by_itself_after_two_answers(
    scenes: Open, failure: Callable[[Scene], None]
) -> None:
    scene = scenes(timeout=0.8)
    failure(scene)
    scene.until(Health.OFFLINE, 4.0)
    scene.pass_seconds(3)
    scene.guest_lives = scene.path_is_whole = True
    assert scene.until(Health.ONLINE, 2.0) <= 2.0 + 2 * STEP


@pytest.mark.parametrize(
    ("fall", "probes"), [(1, 60), (2, 40), (3, 30), (5, 20), (9, 12), (30, 12)]
)
def test_the_director_probes_the_less_the_more_misses_are_allowed(
    scenes: Open, fall: int, probes: int
) -> None:
    scene = scenes(20, fall=fall)
    scene.probes_of_the_director()
    scene.pass_seconds(60)
    assert scene.probes_of_the_director() == pytest.approx(probes, abs=2)
    assert paces(scene.monitor).calm == pytest.approx(60 / probes)


def test_a_host_that_falls_silent_is_replaced_by_the_director(scenes: Open) -> None:
    scene = scenes()
    scene.agent_lives = False
    scene.pass_seconds(6)
    scene.probes_of_the_director()
    scene.pass_seconds(20)
    assert scene.probes_of_the_director() == pytest.approx(20, abs=1)
    assert [v.health for v in scene.verdicts] == [Health.ONLINE], "nobody goes offline by it"
    scene.agent_lives = True
    scene.pass_seconds(6)
    scene.probes_of_the_director()
    scene.pass_seconds(20)
    assert scene.probes_of_the_director() == pytest.approx(10, abs=1)


def test_a_member_that_dies_is_looked_at_by_both(scenes: Open) -> None:
    scene = scenes(fall=5)
    scene.probes_of_the_director()
    guest_dies(scene)
    scene.pass_seconds(10)
    (_, verdict) = scene.verdicts
    assert verdict.reason.endswith("; its host finds the same")


def test_a_broken_path_is_named(scenes: Open) -> None:
    scene = scenes()
    path_breaks(scene)
    scene.pass_seconds(5)
    (_, verdict) = scene.verdicts
    assert verdict.reason == "no answer within 1 s, 3 times in a row; its host gets answers"


def test_what_a_host_finds_is_for_directors_only(scenes: Open) -> None:
    scene = scenes()
    guest_dies(scene)
    scene.pass_seconds(6)
    assert scene.reports_of_host == []
    assert (scene.host.health(), scene.host.down()) == ({}, frozenset())


def test_a_director_that_comes_later_is_told_what_is_known(scenes: Open) -> None:
    scene = scenes()
    for listeners in ((), ("d2",)):
        here = target(
            monitor=scene.monitor, interface="host", is_directed=False, listeners=listeners
        )
        scene.host.set_targets({here.member_id: here})
    assert scene.witness.due() == {"d2": [(member_id(1).bytes, 0)]}


def test_a_single_lost_probe_changes_nothing(scenes: Open) -> None:
    scene = scenes()
    for _ in range(10):
        path_breaks(scene)
        while not scene.probes_of_the_director():
            scene.step()
        scene.path_is_whole = True
        scene.pass_seconds(3)
    assert [v.health for v in scene.verdicts] == [Health.ONLINE]


def test_a_restarted_director_believes_the_host_after_one_miss_of_its_own(scenes: Open) -> None:
    scene = scenes()
    guest_dies(scene)
    scene.pass_seconds(6)
    scene.restart_director()
    assert scene.until(Health.OFFLINE, 2.0) <= 1.0 + 3 * STEP


class TestWhoIsBelieved:
    """The word of a host takes no member out that answers, and only its guests are its own."""

    def _says(self, scene: Scene, host: str, misses: int) -> None:
        scene.director.hear(host, [(member_id(1).bytes, misses)])

    def test_a_host_alone_takes_nobody_out(self, scenes: Open) -> None:
        scene = scenes()
        scene.agent_lives = False
        for misses in (0, 1, 3, 255) * 5:
            self._says(scene, "c1", misses)
            scene.pass_seconds(1)
        assert [v.health for v in scene.verdicts] == [Health.ONLINE]

    def test_what_it_said_before_an_answer_is_no_confirmation(self, scenes: Open) -> None:
        scene = scenes()
        scene.agent_lives = False
        for _ in range(5):
            self._says(scene, "c1", 200)
            scene.pass_seconds(1)
        path_breaks(scene)
        while not scene.probes_of_the_director():
            scene.step()
        scene.path_is_whole = True
        for _ in range(3):
            self._says(scene, "c1", 200)
            scene.pass_seconds(1)
        assert [v.health for v in scene.verdicts] == [Health.ONLINE]

    def test_another_host_is_not_heard(self, scenes: Open) -> None:
        scene = scenes()
        scene.agent_lives = False
        scene.pass_seconds(6)
        scene.probes_of_the_director()
        for _ in range(20):
            self._says(scene, "c2", 0)
            scene.pass_seconds(1)
        assert scene.probes_of_the_director() == pytest.approx(20, abs=1)

    def test_a_host_that_the_guest_has_left_is_not_heard_any_more(self, scenes: Open) -> None:
        scene = scenes()
        moved = target(monitor=scene.monitor, interface="director", home="c2")
        scene.director.set_targets({moved.member_id: moved})
        scene.pass_seconds(3)
        scene.probes_of_the_director()
        scene.pass_seconds(20)
        assert scene.probes_of_the_director() == pytest.approx(20, abs=1)

    def test_a_member_that_is_not_known_says_nothing(self, scenes: Open) -> None:
        scene = scenes()
        scene.director.hear("c1", [(bytes(16), 3)])
        scene.pass_seconds(1)
        assert [v.health for v in scene.verdicts] == [Health.ONLINE]
