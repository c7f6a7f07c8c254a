# SPDX-License-Identifier: Apache-2.0
"""Pools with several directors: who they are, how they elect, and who announces."""

from ipaddress import ip_address
from typing import Any

import pytest

from cloudlb.model.pool import Failover
from tests.functional.control import Control

PAIR = ["d1", "d2"]


@pytest.fixture
def pairs(cloud: Control) -> Control:
    """A network with the directors d1, d2 and d3."""
    for number, name in enumerate(("d2", "d3"), 4):
        cloud.agent(name, "director", address=f"192.0.2.{number}")
    for name, agent in cloud.agents.items():
        if name.startswith("d"):
            agent.management = f"198.51.100.{name[1:]}"
            agent.tell_inventory()
    cloud.all_work()
    return cloud


def _router(cloud: Control, *directors: str, **spec: Any) -> int:
    number: int = cloud.pool(directors=list(directors), **spec)["virtual_router"]
    return number


def _announcing(cloud: Control, pool: dict[str, Any]) -> dict[str, bool]:
    hosts = cloud.get(f"/v1/pools/{pool['id']}/status").json["status"]["hosts"]
    return {host["host"]: host["announcing"] for host in hosts}


@pytest.mark.requirement("L14")
def test_every_director_of_a_pool_is_told_of_it_and_of_the_others(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR, failover="stay", members=[{"server": "web1"}])
    assert (pool["directors"], pool["failover"]) == (PAIR, "stay")
    for name in PAIR:
        snapshot = pairs.agents[name].pull()
        (view,) = snapshot.pools
        assert view.pool.directors == tuple(PAIR)
        assert view.pool.failover is Failover.STAY
        assert view.pool.virtual_router == pool["virtual_router"] > 0
        peers = {peer.host: peer for peer in snapshot.peers}
        assert [*peers] == ["c1", *PAIR]
        assert peers["d2"].management == ip_address("198.51.100.2")
        assert peers["d2"].uplinks[0].addresses == (ip_address("192.0.2.4"),)


def test_the_host_of_a_guest_is_told_of_its_directors(pairs: Control) -> None:
    pairs.pool(members=[{"server": "web1"}])
    pairs.conductor.renew_keys()
    snapshot = pairs.agents["c1"].pull()
    assert [peer.host for peer in snapshot.peers] == ["c1", "d1"]
    assert snapshot.keys
    assert snapshot.keys == pairs.agents["d1"].pull().keys


def test_a_pool_has_one_director_unless_several_are_named(pairs: Control) -> None:
    pool = pairs.pool()
    assert (pool["directors"], pool["virtual_router"]) == (["d1"], 0)
    assert pairs.agents["d1"].pull().peers == ()


def test_pools_with_the_same_directors_in_the_same_order_share_an_election(
    pairs: Control,
) -> None:
    number = _router(pairs, "d1", "d2")
    assert _router(pairs, "d1", "d2") == number
    assert _router(pairs, "d2", "d1") != number
    assert _router(pairs, "d1", "d2", failover="stay") != number


def test_groups_without_a_common_director_may_have_the_same_number(pairs: Control) -> None:
    pairs.agent("d4", "director", address="192.0.2.6")
    assert _router(pairs, "d1", "d2") == _router(pairs, "d3", "d4")


def test_a_number_that_no_pool_has_any_more_is_given_again(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR)
    pairs.delete(f"/v1/pools/{pool['id']}")
    pairs.all_work()
    pairs.agents["d1"].work(announcing=False)
    assert _router(pairs, "d2", "d1") == pool["virtual_router"]


def test_a_pool_gets_another_election_with_other_directors(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR)
    path = f"/v1/pools/{pool['id']}"
    keep = pairs.patch(path, {"pool": {"description": "new"}}).json["pool"]
    assert keep["virtual_router"] == pool["virtual_router"]
    other = pairs.patch(path, {"pool": {"directors": ["d3", "d1"]}}).json["pool"]
    assert other["virtual_router"] > 0
    alone = pairs.patch(path, {"pool": {"directors": ["d3"]}}).json["pool"]
    assert alone["virtual_router"] == 0


@pytest.mark.parametrize("directors", [["d1", "d1"], [], [f"d{n}" for n in range(9)]])
def test_directors_are_up_to_eight_different_hosts(pairs: Control, directors: list[str]) -> None:
    network = pairs.get("/v1/networks").json["networks"][0]["id"]
    spec = {"network_id": network, "name": "x", "ports": [{"protocol": "tcp", "port": 80}]}
    assert pairs.post("/v1/pools", {"pool": spec | {"directors": directors}}).status_code == 400


@pytest.mark.requirement("L14")
def test_the_status_shows_who_announces(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR)
    pairs.agents["d1"].work()
    pairs.agents["d2"].work(announcing=True)
    assert _announcing(pairs, pool) == {"d1": False, "d2": True}


def test_a_host_that_is_silent_does_not_count_as_announcing(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR)
    pairs.agents["d2"].work(announcing=True)
    pairs.clock.pass_seconds(40)
    pairs.agents["d1"].work(announcing=True)
    assert _announcing(pairs, pool) == {"d1": True, "d2": False}


def test_the_death_of_one_director_leaves_the_others_in_place(pairs: Control) -> None:
    pool = pairs.pool(directors=PAIR)
    pairs.clock.pass_seconds(40)
    pairs.agents["d2"].work()
    pairs.agents["d3"].work()
    spec = {"name": "web", "ports": pool["ports"]}
    answer = pairs.put(f"/v1/pools/{pool['id']}", {"pool": spec})
    assert answer.json["pool"]["directors"] == PAIR


@pytest.mark.requirement("L14")
def test_directors_in_groups_get_the_keys_of_their_messages(pairs: Control) -> None:
    pairs.pool(directors=PAIR)
    pairs.conductor.renew_keys()
    (key,) = pairs.agents["d1"].pull().keys
    assert pairs.agents["d2"].pull().keys == (key,)
    assert len(bytes.fromhex(key.secret)) == 32
    assert pairs.agents["d3"].pull().keys == (), "it has nobody to talk with"


MONITOR = {"type": "tcp"}


@pytest.fixture
def watched(pairs: Control) -> dict[str, Any]:
    """A pool of d1 and d2 with a monitor and a member on c1, which can be reached."""
    pairs.agents["c1"].management = "198.51.100.9"
    pairs.agents["c1"].tell_inventory()
    pool = pairs.pool(directors=PAIR, monitor=MONITOR, members=[{"server": "web1"}])
    pairs.conductor.renew_keys()
    return pool


@pytest.mark.requirement("L13")
def test_the_host_of_a_probed_member_and_its_directors_know_each_other(
    pairs: Control, watched: dict[str, Any]
) -> None:
    snapshots = [pairs.agents[name].pull() for name in ("c1", "d1", "d2")]
    for snapshot in snapshots:
        assert [peer.host for peer in snapshot.peers] == ["c1", "d1", "d2"]
        assert snapshot.peers[0].management == ip_address("198.51.100.9")
        assert snapshot.keys == snapshots[0].keys != ()
    (view,) = snapshots[0].pools
    assert view.pool.monitor is not None
    assert pairs.agents["d3"].pull().peers == ()


def test_a_director_hears_from_the_host_to_which_a_member_has_moved(
    pairs: Control, watched: dict[str, Any]
) -> None:
    pairs.agents["c2"].management = "198.51.100.10"
    (moved,) = [s for s in pairs.agents["c1"].servers.values() if s.name == "web1"]
    pairs.agents["c1"].lost("web1")
    pairs.agents["c2"].found(moved)
    assert [peer.host for peer in pairs.agents["d1"].pull().peers] == ["c2", "d1", "d2"]
    assert pairs.agents["c1"].pull().peers == ()


def test_a_key_is_exchanged_when_it_is_old_and_the_one_before_stays_good(pairs: Control) -> None:
    pairs.pool(directors=PAIR)
    numbers = []
    for _ in range(4):
        pairs.conductor.renew_keys()
        pairs.conductor.renew_keys()
        numbers.append([key.number for key in pairs.agents["d1"].pull().keys])
        pairs.clock.pass_seconds(86400)
    assert numbers == [[1], [1, 2], [2, 3], [3, 4]]


def test_a_new_key_is_told_to_every_host_at_once(pairs: Control) -> None:
    """Hosts with guests may direct pools, too."""
    pairs.pool(directors=PAIR)
    pairs.rung.clear()
    pairs.conductor.renew_keys()
    assert set(pairs.rung[-1]) == {"c1", "c2", "d1", "d2", "d3"}


def test_keys_are_as_old_as_they_are(pairs: Control) -> None:
    pairs.pool(directors=PAIR)
    pairs.conductor.renew_keys()
    pairs.clock.pass_seconds(400)
    assert [key.age for key in pairs.agents["d1"].pull().keys] == [400]
