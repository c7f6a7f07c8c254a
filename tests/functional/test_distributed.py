# SPDX-License-Identifier: Apache-2.0
"""Pools that their members' hosts direct: who these are, whatever happens to members."""

from typing import Any

import pytest

from tests.functional.control import Control, nic, server

SPEC = {"data_plane": "dpr", "scheduler": "flow_hash"}


@pytest.fixture
def spread(cloud: Control) -> Control:
    """Servers a1 on host c1, b1 and b2 on c2, and no host with the role director but d1."""
    cloud.agent("c2", "compute", address="192.0.2.8")
    for number, (host, name) in enumerate((("c1", "a1"), ("c2", "b1"), ("c2", "b2")), 100):
        cloud.agents[host].found(server(name, nic(number)))
    for number, name in enumerate(("c1", "c2")):
        cloud.agents[name].management = f"198.51.100.{number + 1}"
        cloud.agents[name].tell_inventory()
    cloud.all_work()
    return cloud


def distributed(cloud: Control, *names: str, **spec: Any) -> dict[str, Any]:
    """A pool of these servers."""
    members = [{"server": name} for name in names]
    return cloud.pool(**SPEC | spec, members=members)


def show(cloud: Control, pool: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
    return found


@pytest.mark.requirement("D1")
def test_the_directors_are_the_hosts_of_the_members(spread: Control) -> None:
    pool = distributed(spread, "b1", "a1", "b2")
    assert (pool["directors"], pool["forwarding"]) == (["c1", "c2"], "dr")
    assert pool["virtual_router"] > 0
    for name in ("c1", "c2"):
        snapshot = spread.agents[name].pull()
        (view,) = snapshot.pools
        assert view.pool.directors == ("c1", "c2")
        assert [peer.host for peer in snapshot.peers] == ["c1", "c2"]
    assert spread.agents["d1"].pull().pools == ()


@pytest.mark.requirement("D8")
def test_directors_come_and_go_with_members(spread: Control) -> None:
    pool = distributed(spread, "b1")
    path = f"/v1/pools/{pool['id']}/members"
    assert (pool["directors"], pool["virtual_router"]) == (["c2"], 0)
    member = spread.post(path, {"member": {"server": "a1"}}).json["member"]
    more = show(spread, pool)
    assert more["directors"] == ["c2", "c1"], "who directs already stands first"
    assert more["virtual_router"] > 0
    spread.all_work()
    spread.delete(f"{path}/{member['id']}")
    assert show(spread, pool)["directors"] == ["c2", "c1"], "its connections still come there"
    spread.all_work()
    less = show(spread, pool)
    assert (less["directors"], less["virtual_router"]) == (["c2"], 0)
    spread.all_work()
    status = spread.get(f"/v1/pools/{pool['id']}/status").json["status"]
    assert [host["host"] for host in status["hosts"]] == ["c2"]


@pytest.mark.requirement("D8")
def test_directors_follow_a_server_to_another_host(spread: Control) -> None:
    pool = distributed(spread, "a1", "b1")
    spread.agents["c1"].lost("a1")
    spread.agents["c2"].found(server("a1", nic(100)))
    assert show(spread, pool)["directors"] == ["c2"]
    (view,) = spread.agents["c2"].pull().pools
    assert view.pool.directors == ("c2",)


def test_a_pool_without_members_waits_for_them(spread: Control) -> None:
    pool = distributed(spread)
    assert pool["directors"] == []
    path = f"/v1/pools/{pool['id']}"
    query = "client=192.0.2.9&client_port=1&port=80"
    assert spread.get(f"{path}/explain?{query}").status_code == 503
    assert spread.patch(path, {"pool": {"description": "x"}}).status_code == 200
    spread.post(f"{path}/members", {"member": {"server": "a1"}})
    assert show(spread, pool)["directors"] == ["c1"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_naming_directors_is_refused_with_the_reason(spread: Control, method: str) -> None:
    pool = distributed(spread, "a1")
    path, spec = f"/v1/pools/{pool['id']}", {"directors": ["d1"]}
    if method == "POST":
        rest = {name: pool[name] for name in ("network_id", "ports")}
        path, spec = "/v1/pools", rest | SPEC | {"name": "x", "directors": ["d1"]}
    answer = spread.call(method, path, {"pool": spec})
    assert answer.status_code == 400
    (problem,) = answer.json["errors"]
    assert problem["field"] == "pool.directors"
    assert "hosts of the members direct" in problem["message"]


def test_what_is_there_may_be_written_again(spread: Control) -> None:
    pool = distributed(spread, "a1", "b1", forwarding="tun")
    names = ("name", "ports", "data_plane", "scheduler", "directors", "forwarding")
    same = {name: pool[name] for name in names}
    answer = spread.put(f"/v1/pools/{pool['id']}", {"pool": same})
    assert answer.json["pool"]["generation"] == pool["generation"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"persistence": {"timeout": 60}}, "pool.persistence"),
        ({"data_plane": "dr", "forwarding": "tun"}, "pool.forwarding"),
        ({"forwarding": "udp"}, "pool.forwarding"),
    ],
)
def test_what_hosts_could_not_decide_alike_is_refused(
    spread: Control, spec: dict[str, Any], field: str
) -> None:
    network = spread.get("/v1/networks").json["networks"][0]["id"]
    base = {"network_id": network, "name": "x", "ports": [{"protocol": "tcp", "port": 80}]}
    answer = spread.post("/v1/pools", {"pool": base | SPEC | spec})
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json["errors"]] == [field]


def test_a_pool_changes_from_and_to_a_director_of_its_own(spread: Control) -> None:
    pool = spread.pool(scheduler="maglev", members=[{"server": "a1"}, {"server": "b1"}])
    path = f"/v1/pools/{pool['id']}"
    there = spread.patch(path, {"pool": {"data_plane": "dpr"}}).json["pool"]
    assert (there["directors"], there["forwarding"]) == (["c1", "c2"], "dr")
    back = spread.patch(path, {"pool": {"data_plane": "dr"}}).json["pool"]
    assert (back["directors"], back["forwarding"]) == (["d1"], None)
    assert back["virtual_router"] == 0


def test_a_dead_host_can_be_declared_gone_though_it_directed(spread: Control) -> None:
    pool = distributed(spread, "a1", "b1")
    spread.all_work()
    spread.clock.pass_seconds(40)
    for name in ("c2", "d1"):
        spread.agents[name].tell_inventory()
    assert spread.delete("/v1/hosts/c1").status_code == 204
    assert show(spread, pool)["directors"] == ["c2"]


@pytest.mark.requirement("D6")
def test_members_hosts_get_the_keys_of_their_messages(spread: Control) -> None:
    distributed(spread, "a1", "b1")
    spread.rung.clear()
    spread.conductor.renew_keys()
    assert {"c1", "c2"} <= set(spread.rung[-1])
    assert spread.agents["c1"].pull().keys == spread.agents["c2"].pull().keys != ()


def entered(cloud: Control, *names: str, host: str | None = "c2", **spec: Any) -> dict[str, Any]:
    """A pool of these servers, which its clients reach by a host."""
    return distributed(cloud, *names, entry_host=host, **spec)


@pytest.mark.requirement("D13")
def test_the_entry_host_stands_first_whoever_directed_before(spread: Control) -> None:
    pool = entered(spread, "a1")
    assert (pool["directors"], pool["entry_host"]) == (["c1"], "c2")
    path = f"/v1/pools/{pool['id']}"
    spread.post(f"{path}/members", {"member": {"server": "b1"}})
    assert show(spread, pool)["directors"] == ["c2", "c1"]
    (view,) = spread.agents["c1"].pull().pools
    assert (view.pool.directors, view.pool.entry_host) == (("c2", "c1"), "c2")


@pytest.mark.requirement("D13")
def test_two_addresses_have_elections_of_their_own(spread: Control) -> None:
    first = entered(spread, "a1", "b1", host="c1")
    second = entered(spread, "a1", "b1", host="c2", name="second")
    assert [first["directors"], second["directors"]] == [["c1", "c2"], ["c2", "c1"]]
    assert len({first["virtual_router"], second["virtual_router"]}) == 2


@pytest.mark.requirement("D13")
def test_others_take_the_address_while_the_entry_host_has_no_member(spread: Control) -> None:
    pool = entered(spread, "a1", "b1")
    spread.agents["c2"].lost("b1")
    assert show(spread, pool)["directors"] == ["c1"]
    spread.agents["c2"].found(server("b1", nic(101)))
    assert show(spread, pool)["directors"] == ["c2", "c1"]


def test_the_entry_host_can_be_changed_and_left_out(spread: Control) -> None:
    pool = distributed(spread, "a1", "b1")
    path = f"/v1/pools/{pool['id']}"
    there = spread.patch(path, {"pool": {"entry_host": "c2"}}).json["pool"]
    assert (there["directors"], there["entry_host"]) == (["c2", "c1"], "c2")
    none = spread.patch(path, {"pool": {"entry_host": None}}).json["pool"]
    assert (none["directors"], none["entry_host"]) == (["c2", "c1"], None)


def test_a_pool_that_gets_directors_of_its_own_has_no_entry_host(spread: Control) -> None:
    pool = entered(spread, "a1")
    path = f"/v1/pools/{pool['id']}"
    assert spread.patch(path, {"pool": {"data_plane": "dr"}}).json["pool"]["entry_host"] is None


def test_an_entry_host_that_is_gone_holds_up_no_other_change(spread: Control) -> None:
    pool = entered(spread, "a1", "b1")
    spread.all_work()
    spread.clock.pass_seconds(40)
    for name in ("c1", "d1"):
        spread.agents[name].tell_inventory()
    assert spread.delete("/v1/hosts/c2").status_code == 204
    path = f"/v1/pools/{pool['id']}"
    changed = spread.patch(path, {"pool": {"description": "x"}}).json["pool"]
    assert (changed["directors"], changed["entry_host"]) == (["c1"], "c2")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"entry_host": "c9"}, "known are: c1, c2"),
        ({"entry_host": "d1"}, "known are: c1, c2"),
        ({"data_plane": "dr", "entry_host": "c1"}, "with which they do: dpr"),
        ({"entry_host": ""}, "must not be empty"),
    ],
    ids=["unknown", "no guests", "data plane", "empty"],
)
def test_what_cannot_be_an_entry_host_is_refused_with_the_reason(
    spread: Control, method: str, spec: dict[str, Any], words: str
) -> None:
    pool = distributed(spread, "a1")
    path = f"/v1/pools/{pool['id']}"
    if method == "POST":
        rest = {name: pool[name] for name in ("network_id", "ports")}
        path, spec = "/v1/pools", rest | SPEC | {"name": "x"} | spec
    answer = spread.call(method, path, {"pool": spec})
    assert answer.status_code == 400
    (problem,) = answer.json["errors"]
    assert problem["field"] == "pool.entry_host"
    assert words in problem["message"]


@pytest.mark.requirement("D11")
def test_each_host_shows_its_load_its_table_and_what_it_served_and_passed_on(
    spread: Control,
) -> None:
    pool = distributed(spread, "a1", "b1", "b2", scheduler="round_robin")
    ids = {m["server_name"]: m["id"] for m in pool["members"]}

    def counted(name: str, connections: int, active: int, inactive: int = 0) -> dict[str, Any]:
        counts = {"connections": connections, "active": active, "inactive": inactive}
        return {"member_id": ids[name], **counts, "packets_in": connections * 5}

    first = [counted("a1", 7, 3, 1), counted("b1", 2, 2), counted("b2", 1, 0, 1)]
    spread.agents["c1"].counters = {"members": first, "load": {"value": 3.5, "limit": 10.0}}
    spread.agents["c2"].counters = {"members": [counted("b1", 4, 4)], "load": None}
    stats = spread.get(f"/v1/pools/{pool['id']}/stats").json["stats"]
    one, two = stats["hosts"]
    assert one == {
        "host": "c1",
        "load": 3.5,
        "load_limit": 10.0,
        "served": 7,
        "serving": 3,
        "passed_on": 3,
        "packets_served": 35,
        "packets_passed_on": 15,
        "table": 7,
    }
    assert (two["host"], two["load"], two["served"], two["passed_on"]) == ("c2", None, 4, 0)
    assert sum(host["served"] + host["passed_on"] for host in (one, two)) == stats["connections"]


def test_a_host_that_does_not_answer_has_no_row(spread: Control) -> None:
    pool = distributed(spread, "a1", "b1")
    spread.agents["c2"].counters = {"members": []}
    stats = spread.get(f"/v1/pools/{pool['id']}/stats").json["stats"]
    assert ([host["host"] for host in stats["hosts"]], stats["missing"]) == (["c2"], ["c1"])
