# SPDX-License-Identifier: Apache-2.0
"""Deletion is a mark; what a silent host cannot say does not hold it up."""

from typing import Any

import pytest

from cloudlb.model.snapshot import RealizationState
from tests.functional.control import Agent, Control


@pytest.fixture
def pool(cloud: Control) -> dict[str, Any]:
    """A realized pool with a member on c1."""
    made = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    cloud.rung.clear()
    return made


def _silence(cloud: Control, silent: str, *speaking: str) -> None:
    """Time passes in which one host says nothing."""
    for _ in range(4):
        cloud.clock.pass_seconds(10)
        for name in speaking:
            cloud.agents[name].report()


def test_a_deleted_pool_is_visible_until_every_host_has_let_go(
    cloud: Control, pool: dict[str, Any]
) -> None:
    path = f"/v1/pools/{pool['id']}"
    assert cloud.delete(path).status_code == 202
    assert cloud.delete(path).status_code == 202
    shown = cloud.get(path).json["pool"]
    assert shown["removing"]
    assert shown["status"]["admin"]["state"] == "down"
    assert cloud.patch(path, {"pool": {"name": "x"}}).status_code == 409
    cloud.agents["d1"].work()
    assert cloud.get(path).status_code == 200
    cloud.agents["c1"].work()
    assert cloud.get(path).status_code == 404
    assert cloud.delete(path).status_code == 404
    assert cloud.pool()["address"] == pool["address"], "the address is free again"


def test_the_address_of_a_pool_that_is_being_removed_is_not_given(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.delete(f"/v1/pools/{pool['id']}")
    assert cloud.pool()["address"] != pool["address"]


def test_a_silent_host_does_not_hold_a_deletion_but_its_address_is_kept(
    cloud: Control, pool: dict[str, Any]
) -> None:
    path = f"/v1/pools/{pool['id']}"
    cloud.delete(path)
    cloud.agents["c1"].work()
    cloud.conductor.sweep()
    assert cloud.get(path).status_code == 200, "the director may still speak"
    _silence(cloud, "d1", "c1", "c2")
    cloud.conductor.sweep()
    assert cloud.get(path).status_code == 404
    network = cloud.get("/v1/networks").json["networks"][0]
    spec = {
        "network_id": network["id"],
        "name": "again",
        "address": pool["address"],
        "ports": [{"protocol": "tcp", "port": 80}],
        "directors": ["d1"],
    }
    refused = cloud.post("/v1/pools", {"pool": spec})
    assert refused.status_code == 409
    assert "d1, which was silent" in refused.json["detail"]
    assert [str(v.pool.id) for v in cloud.agents["d1"].pull().pools] == [pool["id"]]
    cloud.agents["d1"].report()
    cloud.agents["d1"].report()
    assert cloud.post("/v1/pools", {"pool": spec}).status_code == 409, "it only saw it"
    cloud.agents["d1"].work(state=RealizationState.FAILING, reason="no")
    assert cloud.post("/v1/pools", {"pool": spec}).status_code == 409, "its kernel refused"
    cloud.agents["d1"].work()
    assert cloud.post("/v1/pools", {"pool": spec}).status_code == 202
    views = cloud.agents["d1"].conductor.get_desired("d1", 0)
    assert [str(v.pool.id) for v in views.pools if v.removing] == []  # type: ignore[union-attr]


def test_the_old_word_of_a_silent_host_frees_nothing(cloud: Control, pool: dict[str, Any]) -> None:
    cloud.delete(f"/v1/pools/{pool['id']}")
    _silence(cloud, "d1", "c1", "c2")
    cloud.agents["c1"].work()
    cloud.conductor.sweep()
    cloud.agents["d1"].report()
    assert cloud.pool()["address"] != pool["address"], "it has not seen the deletion yet"


def test_after_a_start_of_the_conductor_hosts_get_time_to_speak(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.delete(f"/v1/pools/{pool['id']}")
    cloud.clock.pass_seconds(1000)
    again = type(cloud.conductor)(
        cloud.conductor._sessions, cloud.rung.append, cloud.clock, host_down_time=30
    )
    again.sweep()
    assert cloud.get(f"/v1/pools/{pool['id']}").status_code == 200
    cloud.clock.pass_seconds(30)
    again.sweep()
    assert cloud.get(f"/v1/pools/{pool['id']}").status_code == 404


def test_a_silent_host_holds_a_member_until_its_connections_must_have_ended(
    cloud: Control,
) -> None:
    members = [{"server": "web1"}, {"server": "web3"}]
    pool = cloud.pool(members=members, drain_timeout=120)
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}"
    cloud.delete(path)
    for name in ("d1", "c2"):
        cloud.agents[name].work()
    _silence(cloud, "c1", "d1", "c2")
    cloud.conductor.sweep()
    assert cloud.get(path).json["member"]["removing"]
    cloud.clock.pass_seconds(120)
    for name in ("d1", "c2"):
        cloud.agents[name].work()
    cloud.conductor.sweep()
    assert cloud.get(path).status_code == 404


def test_a_sweep_without_anything_to_do_writes_nothing(
    cloud: Control, pool: dict[str, Any]
) -> None:
    _silence(cloud, "d1")
    cloud.conductor.sweep()
    assert cloud.rung == []
    assert cloud.get(f"/v1/pools/{pool['id']}").status_code == 200


def test_a_host_is_forgotten_only_when_it_is_silent_and_directs_nothing(
    cloud: Control, pool: dict[str, Any]
) -> None:
    assert cloud.delete("/v1/hosts/c1").status_code == 409
    _silence(cloud, "d1", "c2")
    assert "director of web" in cloud.delete("/v1/hosts/d1").json["detail"]
    assert cloud.delete("/v1/hosts/c1", X_Roles="member").status_code == 403
    assert cloud.delete("/v1/hosts/c1").status_code == 204
    assert cloud.get("/v1/hosts/c1").status_code == 404
    member = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["members"][0]
    assert member["placement"] == "waiting"


def test_forgetting_a_host_frees_the_addresses_kept_because_of_it(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.delete(f"/v1/pools/{pool['id']}")
    cloud.agents["d1"].work()
    _silence(cloud, "c1", "d1", "c2")
    cloud.conductor.sweep()
    assert cloud.pool()["address"] != pool["address"]
    assert cloud.delete("/v1/hosts/c1").status_code == 204
    assert cloud.pool()["address"] == pool["address"]


def test_a_forgotten_host_that_comes_back_is_told_everything_anew(
    cloud: Control, pool: dict[str, Any]
) -> None:
    _silence(cloud, "c1", "d1", "c2")
    cloud.delete("/v1/hosts/c1")
    back: Agent = cloud.agents["c1"]
    back.tell_inventory()
    before = back.generation
    assert back.pull().generation > before
    assert [str(view.pool.id) for view in back.pull().pools] == [pool["id"]]


def test_another_director_takes_over_and_the_old_one_lets_go(cloud: Control) -> None:
    cloud.agent("d2", "director", address="192.0.2.4")
    pool = cloud.pool()
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}"
    assert cloud.patch(path, {"pool": {"directors": ["d2"]}}).status_code == 202
    assert cloud.agents["d1"].pull().pools[0].removing
    assert not cloud.agents["d2"].pull().pools[0].removing
    cloud.all_work()
    hosts = cloud.get(f"{path}/status").json["status"]["hosts"]
    assert [host["host"] for host in hosts] == ["d2"]
