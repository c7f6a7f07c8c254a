# SPDX-License-Identifier: Apache-2.0
"""Transactions lock in one order and raise hosts last, all at once: see cloudlb.db.locks."""

from collections.abc import Iterator
from typing import Any

import pytest

from cloudlb.model.pool import Health
from cloudlb.model.snapshot import RealizationState
from tests.functional.control import NETWORK, Control, nic, server
from tests.functional.servers import on_all
from tests.functional.transactions import Transaction, recorded

pytestmark = on_all


@pytest.fixture
def transactions(cloud: Control) -> Iterator[list[Transaction]]:
    """What the database is asked from now on; all of it must keep the order."""
    with recorded(cloud.conductor._sessions.engine) as found:
        yield found
    assert found
    for transaction in found:
        transaction.check()


@pytest.fixture
def pools(cloud: Control) -> list[dict[str, Any]]:
    """Two realized pools with the same members on c1 and c2."""
    made = [cloud.pool(name=n, members=[{"server": "web1"}, {"server": "web3"}]) for n in "ab"]
    cloud.all_work()
    return made


def _raised(transactions: list[Transaction]) -> list[list[str]]:
    """The hosts that each transaction raised, where it did."""
    return [one.raised for one in transactions if one.raised]


def test_a_new_pool(cloud: Control, transactions: list[Transaction]) -> None:
    cloud.pool(members=[{"server": "web1"}, {"server": "web3"}])
    assert _raised(transactions) == [["c1", "c2", "d1"]]


def test_a_changed_pool_and_its_members(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    path = f"/v1/pools/{pools[0]['id']}"
    assert cloud.patch(path, {"pool": {"name": "c"}}).status_code == 202
    body = {"members": [{"server": "web3", "weight": 0}, {"server": "web2"}]}
    assert cloud.put(f"{path}/members", body).status_code == 202
    assert cloud.delete(path).status_code == 202
    assert _raised(transactions) == [["c1", "c2", "d1"]] * 3


def test_a_network_with_several_pools(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    path = f"/v1/networks/{pools[0]['network_id']}"
    body = {"network": {"vip_range": ["192.0.2.128/28"]}}
    assert cloud.patch(path, body).status_code == 200
    assert _raised(transactions) == [["c1", "c2", "d1"]]
    wanted = cloud.agents["c1"].pull()
    progress = [cloud.get(f"/v1/pools/{p['id']}/status").json["status"]["hosts"] for p in pools]
    generations = {host["host"]: host["generation"] for host in progress[0]}
    assert generations == {host["host"]: host["generation"] for host in progress[1]}
    assert generations["c1"] == wanted.generation


def test_a_server_that_moves_with_two_pools(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    before = cloud.agents["d1"].generation
    cloud.agents["c2"].found(server("web1", nic(1, NETWORK, "192.0.2.11")))
    cloud.agents["c1"].lost("web1")
    assert _raised(transactions) == [["c1", "c2", "d1"]], "for both pools at once"
    views = cloud.agents["d1"].pull()
    assert views.generation == before + 1
    places = [view.members[0].placement for view in views.pools]
    assert [place.host for place in places if place] == ["c2", "c2"]


def test_members_that_drain_and_are_gone(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    path = f"/v1/pools/{pools[0]['id']}/members"
    cloud.delete(f"{path}/{pools[0]['members'][0]['id']}")
    cloud.all_work()
    assert len(cloud.get(path).json["members"]) == 1
    assert _raised(transactions) == [["c1", "c2", "d1"]] * 2


def test_pools_that_end_at_once_with_a_silent_host(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    for pool in pools:
        cloud.delete(f"/v1/pools/{pool['id']}")
    cloud.agents["c1"].work()
    cloud.agents["d1"].work()
    for _ in range(4):
        cloud.clock.pass_seconds(10)
        cloud.agents["c1"].report()
        cloud.agents["d1"].report()
    transactions.clear()
    cloud.conductor.sweep()
    assert cloud.get("/v1/pools").json["pools"] == []
    assert _raised(transactions) == [["c1", "c2", "d1"]], "one transaction, one statement"
    assert {v.removing for v in cloud.agents["c2"].pull().pools} == {True}


def test_a_network_that_goes_with_the_quarantines_in_it(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    for pool in pools:
        cloud.delete(f"/v1/pools/{pool['id']}")
    cloud.clock.pass_seconds(40)
    for name in ("c1", "d1"):
        cloud.agents[name].work()
    cloud.conductor.sweep()
    transactions.clear()
    assert cloud.delete(f"/v1/networks/{pools[0]['network_id']}").status_code == 204
    assert _raised(transactions) == [["c1", "c2", "d1"]]
    assert cloud.agents["c2"].pull().pools == ()


def test_a_host_that_is_forgotten(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    cloud.clock.pass_seconds(40)
    cloud.agents["d1"].report()
    assert cloud.delete("/v1/hosts/c1").status_code == 204
    assert _raised(transactions) == [["c2", "d1"]]


def test_a_host_that_comes_back_with_an_old_generation(
    cloud: Control, pools: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    agent = cloud.agents["c1"]
    agent.generation += 100
    agent.tell_inventory()
    assert agent.pull().generation > agent.generation - 1
    assert len(agent.pull().pools) == 2


@pytest.mark.parametrize("state", RealizationState)
def test_reports_of_probes_and_realizations(
    cloud: Control,
    pools: list[dict[str, Any]],
    transactions: list[Transaction],
    state: RealizationState,
) -> None:
    for name in cloud.agents:
        cloud.agents[name].work(state=state, revision=99)
    cloud.agents["d1"].probed((pools[1]["members"][0]["id"], Health.ONLINE))
    assert _raised(transactions) == []
