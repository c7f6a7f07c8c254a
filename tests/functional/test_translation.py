# SPDX-License-Identifier: Apache-2.0
"""Where pools are translated: the default, what it needs, and changes of it."""

from typing import Any

import pytest

from cloudlb.model.pool import ClientAddress, Translation
from tests.functional.control import Control

BY_DIRECTOR = ["director", "full"]


def test_the_edge_is_the_default_where_there_is_nat(cloud: Control) -> None:
    assert cloud.pool(name="a", data_plane="nat")["translation"] == "edge"
    assert cloud.pool(name="b", data_plane="dr")["translation"] is None


@pytest.mark.parametrize("translation", BY_DIRECTOR)
def test_hosts_are_told(cloud: Control, translation: str) -> None:
    cloud.pool(data_plane="nat", translation=translation, members=[{"server": "web1"}])
    (view,) = cloud.agents["d1"].pull().pools
    assert view.pool.translation is Translation(translation)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"data_plane": "dr", "translation": "full"}, "data plane that translates: nat"),
        ({"data_plane": "nat", "translation": "tap"}, "must be one of edge, director, full"),
    ],
)
def test_what_makes_no_sense_is_refused(cloud: Control, spec: dict[str, Any], words: str) -> None:
    network = cloud.get("/v1/networks").json["networks"][0]["id"]
    base = {"network_id": network, "name": "x", "ports": [{"protocol": "tcp", "port": 80}]}
    answer = cloud.post("/v1/pools", {"pool": base | spec})
    assert answer.status_code == 400
    (problem,) = answer.json["errors"]
    assert problem["field"] == "pool.translation"
    assert words in problem["message"]


def test_it_goes_and_comes_with_the_data_plane(cloud: Control) -> None:
    pool = cloud.pool(data_plane="nat", translation="full")
    path = f"/v1/pools/{pool['id']}"
    there = cloud.patch(path, {"pool": {"data_plane": "dr"}})
    assert there.json["pool"]["translation"] is None
    back = cloud.patch(path, {"pool": {"data_plane": "nat"}})
    assert back.json["pool"]["translation"] == "edge"
    again = cloud.patch(path, {"pool": {"translation": "director"}})
    assert again.json["pool"]["translation"] == "director"
    same = {name: again.json["pool"][name] for name in ("name", "ports", "data_plane")}
    put = cloud.put(path, {"pool": same | {"translation": "director"}})
    assert put.json["pool"]["generation"] == again.json["pool"]["generation"]


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("translation", BY_DIRECTOR)
def test_several_directors_may_translate(cloud: Control, translation: str) -> None:
    cloud.agent("d2", "director", address="192.0.2.9")
    fields = {"translation": translation, "directors": ["d1", "d2"]}
    pool = cloud.pool(data_plane="nat", **fields)
    assert {name: pool[name] for name in fields} == fields
    assert pool["virtual_router"] > 0


def test_members_keep_their_ports_when_it_changes(cloud: Control) -> None:
    member = {"server": "web1", "port": 8080}
    pool = cloud.pool(data_plane="nat", members=[member])
    answer = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"translation": "full"}})
    assert answer.json["pool"]["members"][0]["port"] == 8080


def test_drivers_tell_where_they_translate(cloud: Control) -> None:
    drivers = {d["name"]: d["translations"] for d in cloud.get("/v1/drivers").json["drivers"]}
    assert drivers["nat"] == ["director", "edge", "full"]
    assert drivers["dr"] == []


@pytest.mark.requirement("L22")
@pytest.mark.parametrize("translation", BY_DIRECTOR)
def test_a_director_that_translates_may_masquerade(cloud: Control, translation: str) -> None:
    pool = cloud.pool(data_plane="nat", translation=translation, masquerade=True)
    assert pool["masquerade"] is True
    path = f"/v1/pools/{pool['id']}"
    answer = cloud.patch(path, {"pool": {"translation": "edge"}})
    assert answer.status_code == 400
    (problem,) = answer.json["errors"]
    assert problem["field"] == "pool.masquerade"
    assert "director or full" in problem["message"]
    body = {"pool": {"translation": "edge", "masquerade": False}}
    assert cloud.patch(path, body).json["pool"]["masquerade"] is False


@pytest.mark.requirement("L22")
@pytest.mark.parametrize("data_plane", ["dr", "tun", "nat"])
def test_others_cannot_masquerade(cloud: Control, data_plane: str) -> None:
    pool = cloud.pool(data_plane=data_plane)
    answer = cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"masquerade": True}})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["errors"]] == ["pool.masquerade"]


@pytest.mark.requirement("L19")
@pytest.mark.parametrize("translation", ["full", "edge"])
def test_members_may_be_told_of_clients(cloud: Control, translation: str) -> None:
    pool = cloud.pool(data_plane="nat", translation=translation, client_address="tcp_option")
    assert pool["client_address"] == "tcp_option"
    (view,) = cloud.agents["d1"].pull().pools
    assert view.pool.client_address is ClientAddress.TCP_OPTION
    path = f"/v1/pools/{pool['id']}"
    none = cloud.patch(path, {"pool": {"client_address": None}})
    assert none.json["pool"]["client_address"] is None


@pytest.mark.requirement("L19")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"data_plane": "nat", "translation": "director"}, "stands in for clients"),
        ({"data_plane": "dr"}, "stands in for clients"),
        (
            {"data_plane": "nat", "ports": [{"protocol": "udp", "port": 53}]},
            "the pool has no port of TCP",
        ),
        ({"data_plane": "nat", "client_address": "proxy"}, "must be one of"),
    ],
)
def test_members_are_not_told_what_they_see_or_cannot_hear(
    cloud: Control, spec: dict[str, Any], words: str
) -> None:
    network = cloud.get("/v1/networks").json["networks"][0]["id"]
    base = {"network_id": network, "name": "x", "ports": [{"protocol": "tcp", "port": 80}]}
    answer = cloud.post("/v1/pools", {"pool": base | {"client_address": "tcp_option"} | spec})
    assert answer.status_code == 400
    (problem,) = answer.json["errors"]
    assert problem["field"] == "pool.client_address"
    assert words in problem["message"]
