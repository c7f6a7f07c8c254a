# SPDX-License-Identifier: Apache-2.0
"""Pools through the API, with a conductor and agents behind."""

from typing import Any

import pytest

from cloudlb.model.errors import InvalidRequest
from cloudlb.model.pool import DownAction, Health
from cloudlb.model.snapshot import RealizationState
from tests.certificates import Authority
from tests.functional.control import Control


def test_a_pool_is_created_with_its_members_and_becomes_realized(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}, {"server": "web3", "weight": 0}])
    assert pool["address"] == "192.0.2.128"
    assert pool["directors"] == ["d1"]
    assert [m["host"] for m in pool["members"]] == ["c1", "c2"]
    assert pool["status"]["realized"]["state"] == "pending"
    assert cloud.rung == [{"c1": 2, "c2": 2, "d1": 3}] or set(cloud.rung[0]) == {"c1", "c2", "d1"}
    cloud.all_work()
    shown = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
    assert shown["status"]["realized"] == {"state": "yes", "reason": ""}


def test_an_agent_is_told_of_a_pool_only_if_it_is_concerned(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    assert [str(v.pool.id) for v in cloud.agents["c1"].pull().pools] == [pool["id"]]
    assert [str(v.pool.id) for v in cloud.agents["d1"].pull().pools] == [pool["id"]]
    assert cloud.agents["c2"].pull().pools == ()


def test_nothing_new_is_no_snapshot(cloud: Control) -> None:
    cloud.pool()
    generation = cloud.agents["d1"].pull().generation
    assert cloud.conductor.get_desired("d1", generation) is None


def test_the_address_is_the_lowest_free_one_of_the_family(cloud: Control) -> None:
    assert cloud.pool()["address"] == "192.0.2.128"
    assert cloud.pool()["address"] == "192.0.2.129"
    assert cloud.pool(ip_version=6)["address"] == "2001:db8::100"
    assert cloud.pool(address="192.0.2.131")["address"] == "192.0.2.131"
    assert cloud.pool()["address"] == "192.0.2.130"


def test_a_pool_without_any_director_is_refused_with_the_remedy(
    control: Control, network: dict[str, Any]
) -> None:
    spec = {"network_id": network["id"], "name": "p", "ports": [{"protocol": "tcp", "port": 1}]}
    answer = control.post("/v1/pools", {"pool": spec})
    assert answer.status_code == 409
    assert "Start an agent with the role director" in answer.json["detail"]


def test_a_patch_changes_only_what_it_names(cloud: Control) -> None:
    pool = cloud.pool(description="first", monitor={"type": "tcp", "interval": 2})
    path = f"/v1/pools/{pool['id']}"
    answer = cloud.patch(path, {"pool": {"monitor": {"fall": 5}}})
    assert answer.status_code == 202
    changed = answer.json["pool"]
    assert changed["monitor"]["interval"] == 2
    assert changed["monitor"]["fall"] == 5
    assert changed["description"] == "first"
    assert changed["generation"] == 2
    assert cloud.patch(path, {"pool": {"monitor": None}}).json["pool"]["monitor"] is None


@pytest.mark.parametrize(
    ("monitor", "field"),
    [
        ({"type": "icmp", "port": 80}, "port"),
        ({"type": "tcp", "payload": "00"}, "payload"),
        ({"type": "icmp", "accept_silence": False}, "accept_silence"),
        ({"type": "udp"}, "port"),
        ({"type": "udp", "port": 53, "payload": "abc"}, "payload"),
        ({"type": "tcp", "path": "/"}, "path"),
        ({"type": "http", "ca": "x"}, "ca"),
        ({"type": "https", "ca": "x"}, "ca"),
        ({"type": "https", "ca": ""}, "ca"),
        ({"type": "http", "path": "up"}, "path"),
        ({"type": "http", "path": "/ x"}, "path"),
        ({"type": "http", "host": "a b"}, "host"),
        ({"type": "https", "sni": "a..b"}, "sni"),
        ({"type": "http", "expected_codes": "20"}, "expected_codes"),
        ({"type": "http", "expected_codes": "204-200"}, "expected_codes"),
        ({"type": "http", "method": "DELETE"}, "method"),
        ({"type": "tcp", "interval": 1, "timeout": 1.5}, "timeout"),
        ({"type": "icmp", "interval": 0.5}, "timeout"),
    ],
)
def test_a_monitor_that_contradicts_itself_is_refused(
    cloud: Control, monitor: dict[str, Any], field: str
) -> None:
    path = f"/v1/pools/{cloud.pool()['id']}"
    answer = cloud.patch(path, {"pool": {"monitor": monitor}})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == f"pool.monitor.{field}"


@pytest.mark.parametrize(
    "monitor",
    [
        {"type": "http", "expected_codes": "200,301-304,404", "method": "HEAD"},
        {"type": "http", "host": "shop.example:8080", "http_version": "1.0", "path": "/a?b=c,d"},
        {"type": "https", "ca": Authority().pem, "sni": "shop.example", "host": "[2001:db8::1]"},
        {"type": "udp", "port": 53, "payload": "00fF", "accept_silence": True},
    ],
    ids="-".join,
)
def test_a_monitor_is_shown_as_it_was_written(cloud: Control, monitor: dict[str, Any]) -> None:
    path = f"/v1/pools/{cloud.pool(monitor=monitor)['id']}"
    assert cloud.get(path).json["pool"]["monitor"].items() >= monitor.items()


def test_a_put_resets_what_it_does_not_name_but_keeps_what_was_chosen(cloud: Control) -> None:
    pool = cloud.pool(description="first", drain_timeout=5)
    body = {"name": "new", "ports": [{"protocol": "udp", "port": 53}]}
    changed = cloud.put(f"/v1/pools/{pool['id']}", {"pool": body}).json["pool"]
    assert changed["description"] == ""
    assert changed["drain_timeout"] == 300
    assert changed["ports"] == body["ports"]
    assert changed["address"] == pool["address"]
    assert changed["directors"] == pool["directors"]


@pytest.fixture
def two_directors(cloud: Control) -> Control:
    """A second director d2, which any pool of the test has been given."""
    cloud.agent("d2", "director", address="192.0.2.4")
    return cloud


def _silence(cloud: Control, silent: str) -> None:
    cloud.clock.pass_seconds(100)
    for agent in cloud.agents.values():
        if agent.name != silent:
            agent.report()


def test_a_director_is_chosen_anew_by_null(two_directors: Control) -> None:
    cloud = two_directors
    path = f"/v1/pools/{cloud.pool(directors=['d2'])['id']}"
    assert cloud.patch(path, {"pool": {"name": "x"}}).json["pool"]["directors"] == ["d2"]
    assert cloud.patch(path, {"pool": {"directors": None}}).json["pool"]["directors"] == ["d1"]
    _silence(cloud, "d1")
    assert cloud.patch(path, {"pool": {"name": "y"}}).json["pool"]["directors"] == ["d1"]
    assert cloud.patch(path, {"pool": {"directors": None}}).json["pool"]["directors"] == ["d2"]
    cloud.clock.pass_seconds(100)
    assert cloud.patch(path, {"pool": {"directors": None}}).status_code == 409


def test_a_put_without_directors_keeps_the_present_one_while_it_can_direct(
    two_directors: Control,
) -> None:
    cloud = two_directors
    pool = cloud.pool(directors=["d2"])
    path, body = f"/v1/pools/{pool['id']}", {"pool": {"name": "x", "ports": pool["ports"]}}
    assert cloud.put(path, body).json["pool"]["directors"] == ["d2"]
    _silence(cloud, "d2")
    assert cloud.put(path, body).json["pool"]["directors"] == ["d1"]
    cloud.clock.pass_seconds(100)
    assert cloud.put(path, body).json["pool"]["directors"] == ["d1"], "there is no other"


def test_a_silent_host_is_no_director_unless_it_is_it_already(two_directors: Control) -> None:
    cloud = two_directors
    pool = cloud.pool(directors=["d1"])
    path = f"/v1/pools/{pool['id']}"
    _silence(cloud, "d2")
    for answer in (
        cloud.patch(path, {"pool": {"directors": ["d2"]}}),
        cloud.post(
            "/v1/pools",
            {
                "pool": {n: pool[n] for n in ("network_id", "name", "ports")}
                | {"directors": ["d2"]}
            },
        ),
    ):
        assert answer.status_code == 409
        assert answer.json["errors"][0]["field"] == "pool.directors"
        assert "name a director that is alive: d1" in answer.json["detail"]
    cloud.clock.pass_seconds(100)
    again = cloud.patch(path, {"pool": {"directors": ["d1"], "name": "x"}})
    assert again.status_code == 202


def test_a_write_that_changes_nothing_raises_no_generation(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.all_work()
    cloud.rung.clear()
    answer = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"name": "web"}})
    assert answer.status_code == 200
    assert answer.json["pool"]["generation"] == 1
    assert cloud.rung == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "192.0.2.133"),
        ("network_id", "6b4ad17e-7a68-4b5b-b2ab-a1ae1f2a5e5a"),
        ("ip_version", 6),
    ],
)
def test_what_is_fixed_at_creation_is_refused_by_name(
    cloud: Control, field: str, value: Any
) -> None:
    pool = cloud.pool()
    answer = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {field: value}})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == f"pool.{field}"


@pytest.mark.requirement("L2")
def test_the_data_plane_of_a_pool_can_be_changed(cloud: Control) -> None:
    path = f"/v1/pools/{cloud.pool()['id']}"
    changed = cloud.patch(path, {"pool": {"data_plane": "tun"}})
    assert changed.status_code == 202
    assert (changed.json["pool"]["data_plane"], changed.json["pool"]["generation"]) == ("tun", 2)
    assert cloud.get(path).json["pool"]["data_plane"] == "tun"


def test_a_data_plane_that_nobody_has_is_refused(cloud: Control) -> None:
    path = f"/v1/pools/{cloud.pool()['id']}"
    answer = cloud.patch(path, {"pool": {"data_plane": "pigeons"}})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (400, "pool.data_plane")


def test_a_data_plane_that_cannot_do_what_a_member_needs_is_refused(cloud: Control) -> None:
    members = [{"server": "web1", "port": 8080}]
    path = f"/v1/pools/{cloud.pool(data_plane='nat', members=members)['id']}"
    answer = cloud.patch(path, {"pool": {"data_plane": "dr"}})
    assert answer.status_code == 400
    assert "dr cannot do port translation" in answer.json["detail"]


def test_a_stale_generation_is_refused(cloud: Control) -> None:
    pool = cloud.pool()
    path = f"/v1/pools/{pool['id']}"
    assert cloud.get(path).headers["etag"] == '"1"'
    assert cloud.patch(path, {"pool": {"name": "a"}}, If_Match='"1"').status_code == 202
    stale = cloud.patch(path, {"pool": {"name": "b"}}, If_Match='"1"')
    assert stale.status_code == 412
    assert stale.json["code"] == "stale-generation"
    assert cloud.delete(path, If_Match='"1"').status_code == 412
    assert cloud.patch(path, {"pool": {"name": "b"}}, If_Match="*").status_code == 202


def test_a_failing_host_is_named_with_its_reason(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.agents["c1"].work()
    cloud.agents["d1"].work(state=RealizationState.FAILING, reason="no memory for maps")
    realized = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["status"]["realized"]
    assert realized["state"] == "failing"
    assert "d1" in realized["reason"]
    assert "no memory for maps" in realized["reason"]


def test_a_silent_host_is_pending_and_the_reason_says_since_when(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.clock.pass_seconds(100)
    realized = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["status"]["realized"]
    assert realized["state"] == "pending"
    assert "silent since 2027-01-15T08:00:00Z" in realized["reason"]


def test_health_is_what_the_directors_probes_say(cloud: Control) -> None:
    pool = cloud.pool(monitor={"type": "icmp"}, members=[{"server": "web1"}, {"server": "web3"}])
    one, two = (m["id"] for m in pool["members"])
    path = f"/v1/pools/{pool['id']}"

    def health() -> str:
        return str(cloud.get(path).json["pool"]["status"]["health"]["state"])

    assert health() == "unknown"
    cloud.agents["d1"].probed((one, Health.ONLINE), (two, Health.ONLINE))
    assert health() == "online"
    cloud.agents["d1"].probed((two, Health.OFFLINE))
    assert health() == "degraded"
    cloud.agents["c1"].probed((one, Health.OFFLINE))
    assert health() == "degraded", "only directors are believed"
    cloud.agents["d1"].probed((one, Health.OFFLINE))
    assert health() == "offline"


def test_panic_is_told_with_its_threshold(cloud: Control) -> None:
    members = [{"server": "web1"}, {"server": "web3"}]
    pool = cloud.pool(monitor={"type": "icmp"}, members=members, panic_threshold=50)
    one, two = (m["id"] for m in pool["members"])
    path = f"/v1/pools/{pool['id']}"
    cloud.agents["d1"].probed((one, Health.ONLINE), (two, Health.OFFLINE))
    assert "believed" not in cloud.get(path).json["pool"]["status"]["health"]["reason"]
    cloud.agents["d1"].probed((one, Health.OFFLINE))
    for condition in (
        cloud.get(path).json["pool"]["status"]["health"],
        cloud.get(f"{path}/status").json["status"]["health"],
        cloud.get("/v1/pools").json["pools"][0]["status"]["health"],
    ):
        assert condition["state"] == "offline"
        assert "more than 50 % of the members" in condition["reason"]
        assert "web1 is offline" in condition["reason"]


def test_backup_members_at_work_are_told(cloud: Control) -> None:
    members = [{"server": "web1"}, {"server": "web3", "backup": True}]
    pool = cloud.pool(monitor={"type": "icmp"}, members=members)
    assert [m["backup"] for m in pool["members"]] == [False, True]
    one, two = (m["id"] for m in pool["members"])
    cloud.agents["d1"].probed((one, Health.OFFLINE), (two, Health.ONLINE))
    health = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["status"]["health"]
    assert health["state"] == "degraded"
    assert "backup members take new connections" in health["reason"]


def test_without_a_monitor_there_is_no_health(cloud: Control) -> None:
    pool = cloud.pool(monitor={"type": "icmp"}, members=[{"server": "web1"}])
    cloud.agents["d1"].probed((pool["members"][0]["id"], Health.ONLINE))
    changed = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"monitor": None}}).json["pool"]
    assert changed["members"][0]["health"] == "unknown"
    shown = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
    assert shown["members"][0]["health"] == "unknown"


def test_an_older_word_says_nothing(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.agents["d1"].work()
    cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"name": "x"}})
    cloud.agents["d1"].work()
    late = cloud.agents["d1"]
    late.generation -= 1
    word = late._word(late.snapshot.pools[0])  # type: ignore[union-attr]
    late.report(realizations=(word,))
    assert _realized(cloud, pool) == "yes"


def test_a_late_word_on_the_same_generation_says_nothing(cloud: Control) -> None:
    pool = cloud.pool()
    director = cloud.agents["d1"]
    director.work(revision=7, state=RealizationState.FAILING, reason="no memory")
    director.work(revision=8)
    director.work(revision=7, state=RealizationState.FAILING, reason="no memory")
    assert _realized(cloud, pool) == "yes"
    director.work(revision=8, state=RealizationState.FAILING)
    assert _realized(cloud, pool) == "failing", "the same revision is the same word"
    director.work()
    assert _realized(cloud, pool) == "yes", "an agent of before does not count its words"


def test_an_agent_that_counts_anew_is_heard_from_the_next_generation_on(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.agents["d1"].work(revision=1000)
    cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"name": "x"}})
    cloud.agents["d1"].work(revision=1)
    cloud.agents["d1"].work(revision=2, state=RealizationState.FAILING)
    assert _realized(cloud, pool) == "failing"


def test_a_host_that_knows_a_later_generation_than_was_given_counts_anew(cloud: Control) -> None:
    pool = cloud.pool()
    director = cloud.agents["d1"]
    director.work(revision=1000)
    director.generation += 100
    director.work(revision=1)
    director.work(revision=2, state=RealizationState.FAILING)
    assert _realized(cloud, pool) == "failing"


def _realized(cloud: Control, pool: dict[str, Any]) -> str:
    shown = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
    return str(shown["status"]["realized"]["state"])


def test_the_status_tree_tells_hosts_and_members(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}, {"server": "off"}])
    cloud.agents["d1"].work()
    tree = cloud.get(f"/v1/pools/{pool['id']}/status").json["status"]
    assert {h["host"]: h["state"] for h in tree["hosts"]} == {
        "c1": "pending",
        "c2": "pending",
        "d1": "realized",
    }
    assert [m["placement"] for m in tree["members"]] == ["hosted", "waiting"]
    assert tree["members"][1]["placement_reason"] == "The server is off."


def test_counters_are_put_together_from_directors_and_members_hosts(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}, {"server": "web3"}])
    one, two = (m["id"] for m in pool["members"])
    cloud.agents["d1"].counters = {
        "members": [
            {"member_id": one, "connections": 3, "active": 1, "packets_in": 10, "bytes_in": 900},
            {"member_id": two, "connections": 2, "active": 2, "packets_in": 5, "bytes_in": 400},
        ],
        "rates": {one: {"connections_per_second": 1.5}},
    }
    cloud.agents["c1"].counters = {
        "members": [{"member_id": one, "connections": 99, "packets_out": 8, "bytes_out": 800}],
        "rates": {one: {"bytes_out_per_second": 80.0}},
    }
    stats = cloud.get(f"/v1/pools/{pool['id']}/stats").json["stats"]
    assert (stats["connections"], stats["active"], stats["packets_in"]) == (5, 3, 15)
    assert (stats["packets_out"], stats["bytes_out"]) == (8, 800)
    assert stats["connections_per_second"] == 1.5
    assert stats["members"][0]["bytes_out_per_second"] == 80.0
    assert stats["missing"] == ["c2"]


def test_what_an_agent_refuses_is_the_callers_error_with_the_agents_reason(cloud: Control) -> None:
    pool = cloud.pool()

    def refuse(*_question: object) -> Any:
        raise InvalidRequest("The question needs pool_id, the UUID of a pool.")

    cloud.ask = refuse  # type: ignore[method-assign]
    answer = cloud.get(f"/v1/pools/{pool['id']}/stats")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid")
    assert answer.json["detail"] == "The question needs pool_id, the UUID of a pool."


def test_pools_of_other_projects_do_not_exist_for_members(cloud: Control) -> None:
    pool = cloud.pool()
    as_other = {"X_Project_Id": "theirs", "X_Roles": "member"}
    assert cloud.get(f"/v1/pools/{pool['id']}", **as_other).status_code == 404
    assert cloud.get("/v1/pools", **as_other).json["pools"] == []
    assert cloud.delete(f"/v1/pools/{pool['id']}", **as_other).status_code == 404
    assert cloud.get(f"/v1/pools/{pool['id']}", X_Project_Id="theirs").status_code == 200


def test_a_reader_may_not_write(cloud: Control) -> None:
    pool = cloud.pool()
    path = f"/v1/pools/{pool['id']}"
    assert cloud.get(path, X_Roles="reader").status_code == 200
    assert cloud.delete(path, X_Roles="reader").status_code == 403


def test_lists_come_in_pages_with_links(cloud: Control) -> None:
    names = [f"pool{n}" for n in range(5)]
    for name in names:
        cloud.pool(name=name)
        cloud.clock.pass_seconds(0.001)
    found: list[str] = []
    path = "/v1/pools?limit=2"
    for expected in (2, 2, 1):
        page = cloud.get(path).json
        assert len(page["pools"]) == expected
        found += [pool["name"] for pool in page["pools"]]
        links = page.get("pools_links", [])
        path = links[0]["href"].split("falconframework.org")[1] if links else ""
    assert found == names
    assert path == ""


def test_lists_are_filtered_by_network_however_its_id_is_written(cloud: Control) -> None:
    pool = cloud.pool()
    for text in (pool["network_id"], pool["network_id"].upper()):
        found = cloud.get(f"/v1/pools?network_id={text}").json["pools"]
        assert [each["id"] for each in found] == [pool["id"]]


def test_lists_are_filtered_by_name(cloud: Control) -> None:
    cloud.pool(name="one")
    cloud.pool(name="two")
    assert [p["name"] for p in cloud.get("/v1/pools?name=two").json["pools"]] == ["two"]


@pytest.mark.parametrize("noun", ["pools", "networks", "hosts", "members"])
def test_an_unknown_marker_is_named(cloud: Control, noun: str) -> None:
    path = f"/v1/pools/{cloud.pool()['id']}/members" if noun == "members" else f"/v1/{noun}"
    answer = cloud.get(f"{path}?marker=zzz")
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "marker"


def test_the_pools_of_another_project_are_listed_for_administrators_only(cloud: Control) -> None:
    cloud.pool()
    as_other = {"X_Project_Id": "theirs", "X_Roles": "member"}
    refused = cloud.get("/v1/pools?project_id=default", **as_other)
    assert refused.status_code == 403
    assert refused.json["errors"][0]["field"] == "project_id"
    assert "for administrators" in refused.json["detail"]
    assert cloud.get("/v1/pools?project_id=theirs", **as_other).json["pools"] == []
    assert len(cloud.get("/v1/pools?project_id=default", X_Project_Id="theirs").json["pools"]) == 1


@pytest.mark.requirement("L10")
def test_persistence_counts_whole_addresses_by_default(cloud: Control) -> None:
    pool = cloud.pool(persistence={"timeout": 60})
    assert pool["persistence"] == {"timeout": 60, "prefix": 32}


@pytest.mark.requirement("L11")
def test_a_timeout_is_a_positive_number_of_seconds(cloud: Control) -> None:
    pool = cloud.pool(timeouts={"closing": 30})
    path = f"/v1/pools/{pool['id']}"
    answer = cloud.patch(path, {"pool": {"timeouts": {"closing": 0}}})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "pool.timeouts.closing"
    answer = cloud.patch(path, {"pool": {"timeouts": {"closing": None}}})
    assert answer.json["pool"]["timeouts"] is None


@pytest.mark.requirement("L10")
def test_a_prefix_longer_than_an_address_is_refused(cloud: Control) -> None:
    pool = cloud.pool(persistence={"timeout": 60, "prefix": 24})
    answer = cloud.patch(
        f"/v1/pools/{pool['id']}", {"pool": {"persistence": {"timeout": 60, "prefix": 33}}}
    )
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "pool.persistence.prefix"
    assert "at most 32" in answer.json["detail"]


@pytest.mark.requirement("A17")
def test_what_becomes_of_a_dead_members_connections_is_the_pools_choice(cloud: Control) -> None:
    pool = cloud.pool()
    assert pool["down_action"] == "keep"
    path = f"/v1/pools/{pool['id']}"
    for action in DownAction:
        changed = cloud.patch(path, {"pool": {"down_action": action}}).json["pool"]
        assert changed["down_action"] == action
        (view,) = cloud.agents["d1"].pull().pools
        assert view.pool.down_action is action
    answer = cloud.patch(path, {"pool": {"down_action": "drop"}})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["errors"]] == ["pool.down_action"]
