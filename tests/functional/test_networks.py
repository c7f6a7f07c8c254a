# SPDX-License-Identifier: Apache-2.0
"""Networks through the API."""

from typing import Any

import pytest

from tests.functional.control import Control


def test_networks_are_numbered_and_no_number_is_given_twice(control: Control) -> None:
    def create(name: str) -> dict[str, Any]:
        body = {"network": {"name": name, "prefixes": ["10.0.0.0/8"]}}
        answer = control.post("/v1/networks", body)
        assert answer.status_code == 201
        assert answer.headers["location"].endswith(answer.json["network"]["id"])
        network: dict[str, Any] = answer.json["network"]
        return network

    assert create("a")["number"] == 1
    second = create("b")
    assert second["number"] == 2
    assert control.delete(f"/v1/networks/{second['id']}").status_code == 204
    assert create("c")["number"] == 3


def test_a_name_is_taken_once(control: Control, network: dict[str, Any]) -> None:
    body = {"network": {"name": "net1", "prefixes": ["10.0.0.0/8"]}}
    assert control.post("/v1/networks", body).status_code == 409


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"prefixes": ["10.0.0.1/8"]}, "network.prefixes[0]"),
        ({"prefixes": []}, "network.prefixes"),
        ({"prefixes": ["fe80::/64"]}, "network.prefixes[0]"),
        ({"prefixes": ["10.0.0.0/8", "0.0.0.0/0"]}, "network.prefixes[1]"),
        ({"prefixes": ["::/0"]}, "network.prefixes[0]"),
        ({"prefixes": ["2001:db8::%1/64"]}, "network.prefixes[0]"),
        ({"prefixes": ["::ffff:192.0.2.0/120"]}, "network.prefixes[0]"),
        ({"prefixes": ["127.0.0.0/8"], "vip_range": ["127.0.0.1/32"]}, "network.prefixes[0]"),
        ({"vip_range": ["224.0.0.0/24"]}, "network.vip_range[0]"),
        ({"vip_range": ["10.0.0.0/24", "::1/128"]}, "network.vip_range[1]"),
        ({"vip_range": ["192.0.2.0/24"]}, "network.vip_range[0]"),
        ({"vip_range": ["2001:db8::/64"]}, "network.vip_range[0]"),
        ({"name": "a:b"}, "network.name"),
        ({"name": "a\n"}, "network.name"),
        ({"number": 7}, "network.number"),
    ],
)
def test_a_wrong_field_is_named(control: Control, spec: dict[str, Any], field: str) -> None:
    answer = control.post(
        "/v1/networks", {"network": {"name": "n", "prefixes": ["10.0.0.0/8"]} | spec}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json["errors"][0]["field"] == field


def test_a_network_with_pools_keeps_their_addresses_and_its_name(cloud: Control) -> None:
    cloud.pool()
    network = cloud.get("/v1/networks").json["networks"][0]
    path = f"/v1/networks/{network['id']}"
    assert cloud.delete(path).status_code == 409
    assert cloud.patch(path, {"network": {"name": "other"}}).status_code == 409
    narrow = {"network": {"vip_range": ["192.0.2.132/30"]}}
    assert "192.0.2.128" in cloud.patch(path, narrow).json["detail"]
    wide = {"network": {"vip_range": ["192.0.2.128/28"]}}
    answer = cloud.patch(path, wide, If_Match='"1"')
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert cloud.patch(path, wide, If_Match='"1"').status_code == 412


def test_a_host_is_told_of_its_networks_before_there_is_a_pool(control: Control) -> None:
    agent = control.agent("c1", "compute")
    assert agent.pull().networks == ()
    body = {"network": {"name": "net1", "prefixes": ["192.0.2.0/24"]}}
    control.post("/v1/networks", body)
    assert set(control.rung[-1]) == {"c1"}
    assert [(n.name, n.number) for n in agent.pull().networks] == [("net1", 1)]


def test_networks_are_listed_by_name_and_page(control: Control) -> None:
    for name in ("a", "b"):
        control.post("/v1/networks", {"network": {"name": name, "prefixes": ["10.0.0.0/8"]}})
        control.clock.pass_seconds(1)
    assert [n["name"] for n in control.get("/v1/networks?name=b").json["networks"]] == ["b"]
    page = control.get("/v1/networks?limit=1").json
    assert page["networks_links"][0]["rel"] == "next"
