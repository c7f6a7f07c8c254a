# SPDX-License-Identifier: Apache-2.0
"""Members that are on no host with an agent, by their address alone (L21)."""

from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from cloudlb.model.pool import Health
from tests.functional.control import NETWORK, Control, nic, server

pytestmark = pytest.mark.requirement("L21")
FAR = "203.0.113.9"
NEAR = "192.0.2.77"


def _remote(address: str = FAR, **more: Any) -> dict[str, Any]:
    return {"address": address, "remote": True, **more}


def test_it_is_shown_for_what_it_is_and_the_director_is_told(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", members=[_remote(port=8080, weight=1), {"server": "web1"}])
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}"
    member = cloud.get(path).json["member"]
    named = ("name", "server", "server_name", "remote", "prepared", "host", "mac", "tap")
    assert {n: member[n] for n in named} == {
        "name": FAR,
        "server": None,
        "server_name": FAR,
        "remote": True,
        "prepared": False,
        "host": None,
        "mac": None,
        "tap": None,
    }
    assert (member["placement"], member["addresses"], member["port"]) == ("remote", [FAR], 8080)
    view = cloud.agents["d1"].pull().pools[0]
    (told,) = [m for m in view.members if m.member.remote]
    assert told.member.remote == ip_address(FAR)
    assert told.place is not None
    assert told.place.is_remote
    hosts = cloud.get(f"/v1/pools/{pool['id']}/status").json["status"]["hosts"]
    assert {host["host"] for host in hosts} == {"d1", "c1"}


def test_it_is_probed_changed_and_removed_as_any(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", monitor={"type": "tcp"}, members=[_remote()])
    key = pool["members"][0]["id"]
    path = f"/v1/pools/{pool['id']}/members/{key}"
    cloud.all_work()
    cloud.agents["d1"].probed((key, Health.OFFLINE))
    assert cloud.get(path).json["member"]["health"] == "offline"
    changed = cloud.patch(path, {"member": {"weight": 0}})
    assert changed.status_code == 202, changed.text
    assert changed.json["member"]["weight"] == 0
    same = cloud.put(path, {"member": _remote(weight=0)})
    assert same.json["member"]["generation"] == changed.json["member"]["generation"]
    whole = cloud.put(f"/v1/pools/{pool['id']}/members", {"members": [_remote(weight=0)]})
    assert [m["id"] for m in whole.json["members"]] == [key]
    assert cloud.call("DELETE", path).status_code == 202
    back = cloud.put(path, {"member": _remote()})
    assert back.status_code == 202, back.text
    assert (back.json["member"]["removing"], back.json["member"]["id"]) == (False, key)


def test_its_counters_are_estimates(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", members=[_remote(), {"server": "web1"}])
    cloud.all_work()
    stats = cloud.get(f"/v1/pools/{pool['id']}/stats").json["stats"]
    assert [m["estimated"] for m in stats["members"]] == [True, False]


@pytest.mark.parametrize(
    ("data_plane", "spec", "field", "words"),
    [
        ("nat", {"server": "web1", "remote": True}, "server", "by its address alone"),
        ("nat", {"server": "web1", "prepared": True}, "prepared", "only remote servers"),
        ("nat", _remote("192.0.2.129"), "address", "leaves to pools"),
        ("nat", _remote("127.0.0.1"), "address", "loopback"),
        ("nat", _remote("224.0.0.5"), "address", "multicast"),
        ("nat", _remote("0.0.0.0"), "address", "unspecified"),  # noqa: S104
        ("nat", _remote("2001:db8:7::1"), "remote", "IPv4 pool"),
        ("dr", _remote(NEAR), "remote", "that it is prepared; if not, give the pool"),
        ("dr", _remote(FAR, prepared=True), "remote", "link alone"),
        ("dr", _remote("2001:db8::7", prepared=True), "remote", "IPv4 pool"),
        ("tun", _remote(), "remote", "unpacks tunnels"),
        ("dpr", _remote(prepared=True), "remote", "these can: dr, nat, tun"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(
    cloud: Control, data_plane: str, spec: dict[str, Any], field: str, words: str
) -> None:
    pool = cloud.pool(data_plane=data_plane)
    answer = cloud.post(f"/v1/pools/{pool['id']}/members", {"member": spec})
    assert answer.status_code == 400, answer.text
    assert answer.json["errors"][0]["field"] == f"member.{field}"
    assert words in answer.json["faultstring"]


@pytest.mark.parametrize(
    ("data_plane", "spec"),
    [
        ("dr", _remote(NEAR, prepared=True)),
        ("tun", _remote(FAR, prepared=True)),
        ("tun", _remote("2001:db8:7::1", prepared=True)),
    ],
)
def test_a_prepared_server_is_taken(cloud: Control, data_plane: str, spec: dict[str, Any]) -> None:
    (member,) = cloud.pool(data_plane=data_plane, members=[spec])["members"]
    assert member["prepared"]


def test_one_address_is_one_member_however_it_is_named(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", members=[_remote(), {"server": "web3"}])
    path = f"/v1/pools/{pool['id']}/members"
    for spec in (_remote(), _remote("192.0.2.13")):
        answer = cloud.post(path, {"member": spec})
        assert answer.status_code == 409, answer.text
    assert "not remote" in cloud.post(path, {"member": _remote("192.0.2.13")}).text
    lists = {"members": [{"address": FAR, "remote": False}]}
    assert cloud.call("PUT", path, lists).status_code == 409
    assert cloud.patch(path, lists).status_code == 409
    one = f"{path}/{pool['members'][0]['id']}"
    for change in ({"remote": False}, {"address": "203.0.113.10"}):
        assert cloud.put(one, {"member": _remote() | change}).status_code == 400


def test_a_pool_with_one_takes_no_data_plane_that_cannot_reach_it(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", members=[_remote()])
    answer = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"data_plane": "dr"}})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "pool.data_plane"


def test_two_pools_know_it_by_one_identifier(cloud: Control) -> None:
    """So an inventory cannot be mistaken for it, and a database of an older revision has one."""
    assert cloud.get("/v1/networks").json["networks"][0]["name"] == NETWORK
    one, two = (cloud.pool(name=n, data_plane="nat", members=[_remote()]) for n in "ab")
    views = {v.pool.id: v for v in cloud.agents["d1"].pull().pools}
    servers = {views[UUID(p["id"])].members[0].member.server for p in (one, two)}
    assert len(servers) == 1


def test_a_server_that_is_reported_later_is_no_second_member(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", members=[_remote("192.0.2.66")])
    cloud.agents["c1"].found(server("late", nic(66, NETWORK, "192.0.2.66")))
    answer = cloud.post(f"/v1/pools/{pool['id']}/members", {"member": {"server": "late"}})
    assert answer.status_code == 409
    assert "remote member already" in answer.json["faultstring"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.11", "is in use on host c1"),
        ("192.0.2.255", "broadcasts"),
        ("192.0.2.0", "whole prefix"),
    ],
)
def test_what_is_somebodys_or_nobodys_is_no_remote_server(
    cloud: Control, address: str, words: str
) -> None:
    pool = cloud.pool(data_plane="nat")
    answer = cloud.post(f"/v1/pools/{pool['id']}/members", {"member": _remote(address)})
    assert words in answer.json["faultstring"]
    assert answer.json["errors"][0]["field"] == "member.address"


def test_no_pool_claims_its_address(cloud: Control) -> None:
    cloud.pool(data_plane="nat", members=[_remote("192.0.2.66")])
    network = cloud.get("/v1/networks").json["networks"][0]
    wider = {"network": {"vip_range": ["192.0.2.128/29", "192.0.2.64/29"]}}
    assert cloud.patch(f"/v1/networks/{network['id']}", wider).status_code == 200
    spec = {"network_id": network["id"], "name": "x", "ports": [{"protocol": "tcp", "port": 80}]}
    answer = cloud.post("/v1/pools", {"pool": spec | {"address": "192.0.2.66"}})
    assert answer.status_code == 409
    assert "remote member" in answer.json["faultstring"]
