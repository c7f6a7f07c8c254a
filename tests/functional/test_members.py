# SPDX-License-Identifier: Apache-2.0
"""Members through the API: one by one, in batches, and when their servers move."""

from typing import Any

import pytest

from cloudlb.model.snapshot import Realization, RealizationState
from tests.functional.control import NETWORK, Control, nic, server, server_id


@pytest.fixture
def pool(cloud: Control) -> dict[str, Any]:
    """A realized pool with the members web1 and web3."""
    spec = [{"server": "web1"}, {"server": "web3"}]
    made = cloud.pool(members=spec, scheduler="source_hash")
    cloud.all_work()
    cloud.rung.clear()
    return made


def _members(cloud: Control, pool: dict[str, Any]) -> dict[str, dict[str, Any]]:
    shown = cloud.get(f"/v1/pools/{pool['id']}/members").json["members"]
    return {member["server_name"]: member for member in shown}


def test_a_member_is_added_by_name_by_uuid_or_by_address(cloud: Control) -> None:
    pool = cloud.pool()
    path = f"/v1/pools/{pool['id']}/members"
    for spec in (
        {"server": "web1"},
        {"server": str(server_id("web2")).upper()},
        {"address": "192.0.2.13"},
    ):
        answer = cloud.post(path, {"member": spec})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"].endswith(answer.json["member"]["id"])
    assert set(_members(cloud, pool)) == {"web1", "web2", "web3"}
    assert cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["generation"] == 4


def test_a_member_may_have_a_port_of_its_own_where_the_data_plane_translates(
    cloud: Control,
) -> None:
    pool = cloud.pool(data_plane="nat", members=[{"server": "web1", "port": 8080}])
    assert pool["members"][0]["port"] == 8080
    path = f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}"
    assert cloud.patch(path, {"member": {"port": None}}).json["member"]["port"] is None


def test_a_server_is_a_member_only_once(cloud: Control, pool: dict[str, Any]) -> None:
    path = f"/v1/pools/{pool['id']}/members"
    for reference in ("web1", str(server_id("web1"))):
        answer = cloud.post(path, {"member": {"server": reference}})
        assert answer.status_code == 409, answer.text
    twice = {"members": [{"server": "web2"}, {"address": "192.0.2.12"}]}
    assert cloud.post(path, twice).status_code == 409


def test_a_member_is_changed_and_its_hosts_are_told(cloud: Control, pool: dict[str, Any]) -> None:
    member = pool["members"][0]
    path = f"/v1/pools/{pool['id']}/members/{member['id']}"
    answer = cloud.patch(path, {"member": {"weight": 0}}, If_Match='"1"')
    assert answer.status_code == 202
    assert answer.json["member"]["weight"] == 0
    assert answer.headers["etag"] == '"2"'
    assert set(cloud.rung[0]) == {"c1", "c2", "d1"}
    view = cloud.agents["d1"].pull().pools[0]
    assert [m.member.weight for m in view.members] == [0, 1]
    reset = cloud.put(path, {"member": {"admin_state_up": False}}).json["member"]
    assert (reset["weight"], reset["admin_state_up"], reset["name"]) == (1, False, "web1")


@pytest.mark.requirement("L24")
def test_a_weight_that_the_scheduler_would_not_follow_is_refused_with_the_remedy(
    cloud: Control,
) -> None:
    pool = cloud.pool(members=[{"server": "web1", "weight": 1}, {"server": "web2", "weight": 0}])
    heavy = {"server": "web1", "weight": 2}
    path = f"/v1/pools/{pool['id']}/members"
    one = f"{path}/{pool['members'][0]['id']}"
    network = {"network_id": pool["network_id"], "name": "p", "ports": pool["ports"]}
    for answer, field in (
        (cloud.post("/v1/pools", {"pool": network | {"members": [heavy]}}), "pool.members[0]"),
        (cloud.post(path, {"member": {"server": "web3", "weight": 5}}), "member"),
        (cloud.put(path, {"members": [heavy]}), "members[0]"),
        (cloud.patch(path, {"members": [heavy]}), "members[0]"),
        (cloud.patch(one, {"member": {"weight": 2}}), "member"),
        (cloud.put(one, {"member": {"weight": 2}}), "member"),
    ):
        assert answer.status_code == 400, answer.text
        assert answer.json["errors"][0]["field"] == f"{field}.weight"
        assert (
            "Give it weight 1, or the pool one of the schedulers that share by"
            in answer.json["detail"]
        )


@pytest.mark.requirement("L24")
def test_a_pool_turns_to_round_robin_only_when_its_weights_allow_it(cloud: Control) -> None:
    spec = [{"server": "web1", "weight": 5}, {"server": "web3"}]
    pool = cloud.pool(members=spec, scheduler="source_hash")
    path = f"/v1/pools/{pool['id']}"
    for answer in (
        cloud.patch(path, {"pool": {"scheduler": "round_robin"}}),
        cloud.patch(path, {"pool": {"scheduler": None}}),
        cloud.put(path, {"pool": {"name": "p", "ports": pool["ports"]}}),
    ):
        assert answer.status_code == 400, answer.text
        assert answer.json["errors"][0]["field"] == "pool.scheduler"
        assert "weight 5 of member web1" in answer.json["detail"]
    cloud.delete(f"{path}/members/{pool['members'][0]['id']}")
    assert cloud.patch(path, {"pool": {"scheduler": "round_robin"}}).status_code == 202


def test_the_server_of_a_member_is_fixed(cloud: Control, pool: dict[str, Any]) -> None:
    path = f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}"
    assert cloud.patch(path, {"member": {"server": "web2"}}).status_code == 400
    member = pool["members"][0]
    for name in ("web1", member["server"], member["server"].upper()):
        assert cloud.patch(path, {"member": {"server": name}}).status_code == 200


@pytest.mark.parametrize("spelling", ["2001:db8::11", "2001:DB8:0:0::11"])
def test_an_address_may_be_written_in_any_way(cloud: Control, spelling: str) -> None:
    (member,) = cloud.pool(members=[{"address": "2001:db8::11"}])["members"]
    path = f"/v1/pools/{member['pool_id']}/members/{member['id']}"
    assert cloud.patch(path, {"member": {"address": spelling}}).status_code == 202


def test_the_whole_list_is_replaced_by_server(cloud: Control, pool: dict[str, Any]) -> None:
    body = {"members": [{"server": "web1", "weight": 5}, {"server": "web2"}]}
    answer = cloud.put(f"/v1/pools/{pool['id']}/members", body)
    assert answer.status_code == 202
    after = {m["server_name"]: m for m in answer.json["members"]}
    assert after["web1"]["id"] == pool["members"][0]["id"]
    assert after["web1"]["weight"] == 5
    assert after["web3"]["removing"]
    assert not after["web2"]["removing"]
    cloud.all_work()
    assert set(_members(cloud, pool)) == {"web1", "web2"}


def test_a_batch_patch_changes_some_and_adds_others(cloud: Control, pool: dict[str, Any]) -> None:
    path = f"/v1/pools/{pool['id']}/members"
    body = {"members": [{"server": "web1", "weight": 5}, {"server": "web2", "name": "second"}]}
    answer = cloud.patch(path, body)
    assert [m["name"] for m in answer.json["members"]] == ["web1", "second"]
    after = _members(cloud, pool)
    assert (after["web1"]["weight"], after["web3"]["weight"]) == (5, 1)
    cloud.all_work()
    assert cloud.patch(path, body).status_code == 200, "the same again changes nothing"


def test_a_stale_batch_is_refused(cloud: Control, pool: dict[str, Any]) -> None:
    path = f"/v1/pools/{pool['id']}/members"
    tag = cloud.get(path).headers["etag"]
    assert cloud.put(path, {"members": []}, If_Match=tag).status_code == 202
    assert cloud.put(path, {"members": [{"server": "web1"}]}, If_Match=tag).status_code == 412


def test_a_removed_member_is_shown_until_its_last_connection_has_ended(
    cloud: Control, pool: dict[str, Any]
) -> None:
    member = pool["members"][0]
    path = f"/v1/pools/{pool['id']}/members/{member['id']}"
    assert cloud.delete(path).status_code == 202
    assert cloud.delete(path).status_code == 202, "deleting again is fine"
    assert cloud.get(path).json["member"]["removing"]
    for name in ("c1", "c2"):
        cloud.agents[name].work()
    director = cloud.agents["d1"]
    view = director.pull().pools[0]
    assert [m.removing for m in view.members] == [True, False]
    director.work(draining=(view.members[0].member.id,))
    assert cloud.get(path).status_code == 200, "the director still has a connection of it"
    director.work()
    assert cloud.get(path).status_code == 404
    assert len(director.pull().pools[0].members) == 1
    assert cloud.agents["c1"].pull().pools[0].removing
    cloud.agents["c1"].work()
    assert cloud.agents["c1"].conductor.get_desired("c1", 0).pools == ()  # type: ignore[union-attr]


def test_a_removed_member_is_taken_back(cloud: Control, pool: dict[str, Any]) -> None:
    member = pool["members"][0]
    cloud.delete(f"/v1/pools/{pool['id']}/members/{member['id']}")
    body = {"member": {"server": "web1", "weight": 2}}
    back = cloud.post(f"/v1/pools/{pool['id']}/members", body).json["member"]
    assert back["id"] == member["id"]
    assert not back["removing"]
    cloud.all_work()
    assert set(_members(cloud, pool)) == {"web1", "web3"}


def test_a_server_that_moves_takes_its_membership_along(
    cloud: Control, pool: dict[str, Any]
) -> None:
    moving = cloud.agents["c1"].servers["web1"]
    cloud.clock.pass_seconds(1)
    cloud.agents["c2"].found(moving)
    assert _members(cloud, pool)["web1"]["host"] == "c2", "the newest word wins"
    cloud.agents["c1"].lost("web1")
    assert _members(cloud, pool)["web1"]["host"] == "c2"
    assert set(cloud.rung[-1]) >= {"c1", "c2", "d1"}
    assert cloud.agents["c1"].pull().pools[0].removing
    assert cloud.agents["d1"].pull().pools[0].members[0].placement.host == "c2"  # type: ignore[union-attr]


def test_a_server_that_is_switched_off_waits_and_comes_back(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK, "192.0.2.11"), on=False))
    assert _members(cloud, pool)["web1"]["placement"] == "waiting"
    view = cloud.agents["d1"].pull().pools[0].members[0]
    assert not view.placement.running  # type: ignore[union-attr]
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK, "192.0.2.11")))
    assert _members(cloud, pool)["web1"]["placement"] == "hosted"


def test_a_server_that_vanished_keeps_its_membership_and_says_why(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.agents["c1"].lost("web1")
    member = _members(cloud, pool)["web1"]
    assert (member["placement"], member["host"]) == ("waiting", None)
    assert "No host reports" in member["placement_reason"]


def test_an_old_inventory_says_nothing(cloud: Control, pool: dict[str, Any]) -> None:
    agent = cloud.agents["c1"]
    agent.revision -= 2
    agent.lost("web1")
    assert _members(cloud, pool)["web1"]["host"] == "c1"


def test_an_inventory_without_a_move_rings_nobody(cloud: Control, pool: dict[str, Any]) -> None:
    addresses = ("192.0.2.11", "192.0.2.77", "2001:db8::11")
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK, *addresses)))
    assert cloud.rung == []
    assert "192.0.2.77" in _members(cloud, pool)["web1"]["addresses"]


def test_a_members_own_address_is_told_to_its_hosts(cloud: Control, pool: dict[str, Any]) -> None:
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK)))
    assert set(cloud.rung.pop()) == {"c1", "c2", "d1"}
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK, "fe80::1", "203.0.113.1")))
    assert cloud.rung == []
    cloud.agents["c1"].found(server("web1", nic(1, NETWORK, "203.0.113.1", "192.0.2.11")))
    assert set(cloud.rung.pop()) == {"c1", "c2", "d1"}
    placement = cloud.agents["d1"].pull().pools[0].members[0].placement
    assert placement
    assert "192.0.2.11" in map(str, placement.addresses)


def test_a_word_on_a_pool_that_was_not_wanted_is_ignored(
    cloud: Control, pool: dict[str, Any]
) -> None:
    word = Realization(server_id("no pool"), 1, RealizationState.REALIZED)
    cloud.agents["c1"].report(realizations=(word,))
