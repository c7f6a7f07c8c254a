# SPDX-License-Identifier: Apache-2.0
"""``observed_generation``: what a host has applied, not what it has heard of."""

import pytest

from cloudlb.model.snapshot import RealizationState
from tests.functional.control import Control


def _host(cloud: Control, name: str) -> tuple[int, int]:
    """Wanted and observed, which the list and the host itself tell alike."""
    host = cloud.get(f"/v1/hosts/{name}").json["host"]
    (listed,) = cloud.get(f"/v1/hosts?name={name}").json["hosts"]
    assert listed == host
    return host["generation"], host["observed_generation"]


def _part(cloud: Control, pool_id: str, name: str) -> tuple[int, int]:
    """Wanted and observed of a host's part of a pool."""
    hosts = cloud.get(f"/v1/pools/{pool_id}/status").json["status"]["hosts"]
    (part,) = (part for part in hosts if part["host"] == name)
    return part["generation"], part["observed_generation"]


def test_a_generation_that_a_host_has_taken_is_not_yet_observed(cloud: Control) -> None:
    pool = cloud.pool()
    director = cloud.agents["d1"]
    director.pull()
    director.report()
    wanted, observed = _host(cloud, "d1")
    assert (wanted, observed) == (director.generation, director.generation - 1)
    assert _part(cloud, pool["id"], "d1") == (wanted, 0)
    director.work()
    assert _host(cloud, "d1") == (wanted, wanted)
    assert _part(cloud, pool["id"], "d1") == (wanted, wanted)


def test_a_host_has_observed_what_all_of_its_pools_have(cloud: Control) -> None:
    slow, quick = cloud.pool(name="slow"), cloud.pool(name="quick")
    director = cloud.agents["d1"]
    words = {str(word.pool_id): word for word in map(director._word, director.pull().pools)}
    director.report(realizations=(words[quick["id"]],))
    wanted, observed = _host(cloud, "d1")
    assert observed == _part(cloud, slow["id"], "d1")[0] - 1 < wanted
    director.report(realizations=(words[slow["id"]],))
    assert _host(cloud, "d1") == (wanted, wanted)


@pytest.mark.requirement("L17")
def test_a_change_of_one_pool_is_asked_of_its_hosts_and_said_once(cloud: Control) -> None:
    """A word on it is enough: what stands unchanged was said before."""
    for name in ("a", "b", "c"):
        pool = cloud.pool(name=name)
    director = cloud.agents["d1"]
    director.work()
    before = {view.pool.name: view.generation for view in director.pull().pools}
    cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"drain_timeout": 7}})
    views = {view.pool.name: view for view in director.pull().pools}
    after = {name: view.generation for name, view in views.items()}
    assert after == before | {"c": director.generation}
    director.report(realizations=(director._word(views["c"]),))
    assert _host(cloud, "d1") == (director.generation, director.generation)


@pytest.mark.parametrize("state", [RealizationState.REALIZED, RealizationState.FAILING])
def test_what_a_host_failed_at_is_observed_with_its_reason(
    cloud: Control, state: RealizationState
) -> None:
    pool = cloud.pool()
    cloud.agents["d1"].work(state=state, reason="so")
    wanted, observed = _host(cloud, "d1")
    assert wanted == observed
    assert _part(cloud, pool["id"], "d1") == (wanted, observed)
    (part,) = cloud.get(f"/v1/pools/{pool['id']}/status").json["status"]["hosts"]
    assert (part["state"], part["reason"]) == (state.value, "so")


def test_a_pool_that_went_without_a_silent_host_is_still_owed_by_it(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.all_work()
    cloud.delete(f"/v1/pools/{pool['id']}")
    cloud.clock.pass_seconds(60)
    for name in ("c1", "c2"):
        cloud.agents[name].work()
    cloud.conductor.sweep()
    assert cloud.get("/v1/pools").json["pools"] == []
    director = cloud.agents["d1"]
    director.pull()
    director.report()
    wanted, observed = _host(cloud, "d1")
    assert observed < wanted
    director.work()
    assert _host(cloud, "d1") == (wanted, wanted)
