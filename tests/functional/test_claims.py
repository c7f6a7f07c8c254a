# SPDX-License-Identifier: Apache-2.0
"""Who may claim what: refused with the reason and the remedy."""

from dataclasses import replace
from typing import Any

import pytest

from tests.functional.control import Control, nic, server, server_id

AS_MEMBER = {"X_Roles": "member"}


def _refused(cloud: Control, status: int, field: str, **spec: Any) -> str:
    network = cloud.get("/v1/networks").json["networks"][0]
    base = {
        "network_id": network["id"],
        "name": "web",
        "ports": [{"protocol": "tcp", "port": 80}],
    }
    answer = cloud.post("/v1/pools", {"pool": base | spec}, **AS_MEMBER)
    assert answer.status_code == status, answer.text
    assert answer.json["errors"][0]["field"] == field, answer.text
    return str(answer.json["detail"])


@pytest.mark.parametrize("address", ["198.51.100.1", "192.0.2.11", "192.0.2.136", "2001:db8::99"])
def test_an_address_outside_the_range_is_refused(cloud: Control, address: str) -> None:
    text = _refused(cloud, 400, "pool.address", address=address)
    assert "192.0.2.128/29, 2001:db8::100/125" in text


def test_an_address_of_a_family_that_the_network_lacks_is_refused(cloud: Control) -> None:
    network = cloud.get("/v1/networks").json["networks"][0]
    cloud.patch(f"/v1/networks/{network['id']}", {"network": {"vip_range": ["192.0.2.128/29"]}})
    assert "no IPv6" in _refused(cloud, 400, "pool.address", address="2001:db8::101")
    assert "no IPv6" in _refused(cloud, 400, "pool.ip_version", ip_version=6)


def test_an_address_of_another_pool_is_refused(cloud: Control) -> None:
    cloud.pool(address="192.0.2.130")
    text = _refused(cloud, 409, "pool.address", address="192.0.2.130")
    assert "another pool" in text
    assert "leave the address out" in text


def test_an_address_that_a_guest_or_a_host_holds_is_refused_and_not_given(cloud: Control) -> None:
    cloud.agents["c1"].found(server("thief", nic(9, "net1", "192.0.2.128")))
    assert "in use on host c1" in _refused(cloud, 409, "pool.address", address="192.0.2.128")
    assert cloud.pool()["address"] == "192.0.2.129"


def test_a_gateways_address_is_refused_and_not_given(cloud: Control) -> None:
    agent = cloud.agents["d1"]
    agent.gateways = ("192.0.2.128", "2001:db8::101")
    agent.tell_inventory()
    for gateway in agent.gateways:
        text = _refused(cloud, 409, "pool.address", address=gateway)
        assert f"{gateway} is the gateway of host d1" in text
    assert cloud.pool()["address"] == "192.0.2.129"
    agent.gateways = ()
    agent.tell_inventory()
    assert cloud.pool()["address"] == "192.0.2.128"


@pytest.mark.parametrize("members", [[], [{"server": "web1"}]])
def test_an_address_of_another_projects_server_of_the_same_name_is_refused(
    cloud: Control, members: list[dict[str, Any]]
) -> None:
    theirs = server("theirs", nic(9, "net1", "192.0.2.128"), project="theirs")
    cloud.agents["c2"].found(replace(theirs, name="web1"))
    text = _refused(cloud, 409, "pool.address", address="192.0.2.128", members=members)
    assert "in use on host c2" in text


def test_an_address_that_only_the_members_hold_is_taken(cloud: Control) -> None:
    cloud.agents["c1"].found(server("web1", nic(1, "net1", "192.0.2.11", "192.0.2.128")))
    for reference in ({"server": "web1"}, {"address": "192.0.2.11"}):
        made = cloud.pool(address="192.0.2.128", members=[reference])
        cloud.delete(f"/v1/pools/{made['id']}")
        cloud.all_work()


def _removed_member(cloud: Control) -> str:
    """The path of a removed member whose server has another project by now."""
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}/members"
    cloud.delete(f"{path}/{pool['members'][0]['id']}")
    cloud.agents["c1"].found(server("web1", nic(1, "net1", "192.0.2.11"), project="theirs"))
    return f"{path}/{pool['members'][0]['id']}"


@pytest.mark.parametrize(
    "reference",
    [{"server": "web1"}, {"server": str(server_id("web1"))}, {"address": "192.0.2.11"}],
)
def test_a_removed_member_is_taken_back_only_by_who_may_use_its_server(
    cloud: Control, reference: dict[str, str]
) -> None:
    one = _removed_member(cloud)
    path = one.rpartition("/")[0]
    for answer in (
        cloud.post(path, {"member": reference}, **AS_MEMBER),
        cloud.put(path, {"members": [reference]}, **AS_MEMBER),
        cloud.patch(path, {"members": [reference]}, **AS_MEMBER),
        cloud.put(one, {"member": {}}, **AS_MEMBER),
        cloud.patch(one, {"member": {"weight": 0}}, **AS_MEMBER),
    ):
        assert answer.status_code == 403, answer.text
        assert "not of project default" in answer.json["detail"]
    assert cloud.get(one).json["member"]["removing"]
    back = cloud.post(path, {"member": reference})
    assert back.status_code == 202
    assert not back.json["member"]["removing"]


def test_a_full_range_is_told(cloud: Control) -> None:
    for _ in range(8):
        cloud.pool()
    assert "is taken" in _refused(cloud, 409, "pool.address")


def test_a_host_that_is_no_director_is_refused(cloud: Control) -> None:
    text = _refused(cloud, 400, "pool.directors", directors=["c1"])
    assert "known are: d1" in text


def test_a_driver_that_does_not_exist_is_refused_naming_those_that_do(cloud: Control) -> None:
    assert "known: anycast_mac, dpr, dr, nat, tun" in _refused(
        cloud, 400, "pool.data_plane", data_plane="nix"
    )


def test_an_unknown_server_is_refused_naming_some_that_are_known(cloud: Control) -> None:
    text = _refused(cloud, 400, "pool.members[0].server", members=[{"server": "nope"}])
    assert "cloudlb-agent" in text
    assert "web1" in text
    assert "other" not in text.split("Known: ")[1], "other projects' names are not told"


@pytest.mark.parametrize("name", ["other", "plain"])
def test_a_server_of_another_project_or_of_none_is_for_administrators(
    cloud: Control, name: str
) -> None:
    for reference in (name, str(server_id(name))):
        text = _refused(cloud, 403, "pool.members[0].server", members=[{"server": reference}])
        assert "not of project default" in text
    assert cloud.pool(members=[{"server": name}])["members"][0]["server_name"] == name


def test_an_address_of_another_projects_server_is_refused(cloud: Control) -> None:
    _refused(cloud, 403, "pool.members[0].address", members=[{"address": "192.0.2.14"}])


def test_an_address_that_no_server_holds_is_refused(cloud: Control) -> None:
    _refused(cloud, 400, "pool.members[0].address", members=[{"address": "192.0.2.99"}])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1", "224.0.0.1"])
def test_loopback_and_link_local_addresses_name_no_member(cloud: Control, address: str) -> None:
    _refused(cloud, 400, "pool.members[0].address", members=[{"address": address}])


def test_a_server_without_or_with_two_interfaces_in_the_network_is_refused(
    cloud: Control,
) -> None:
    none = _refused(cloud, 400, "pool.members[0].server", members=[{"server": "lonely"}])
    assert "no interfaces in network net1" in none
    two = _refused(cloud, 400, "pool.members[0].server", members=[{"server": "twin"}])
    assert "52:54:00:00:00:06 (net1), 52:54:00:00:00:07 (net1)" in two


def test_a_name_that_means_several_servers_is_refused_naming_their_uuids(cloud: Control) -> None:
    copy = server("web1-copy", nic(20))
    cloud.agents["c2"].found(
        type(copy)(copy.id, "web1", copy.owner, True, "default", copy.interfaces)
    )
    text = _refused(cloud, 409, "pool.members[0].server", members=[{"server": "web1"}])
    assert str(server_id("web1")) in text
    assert str(server_id("web1-copy")) in text


def test_a_port_that_the_data_plane_cannot_translate_is_refused(cloud: Control) -> None:
    members = [{"server": "web1", "port": 8080}]
    text = _refused(cloud, 400, "pool.members[0].port", members=members)
    assert "dr cannot do port translation" in text
    cloud.pool(members=[{"server": "web1", "port": 80}])


def test_networks_are_written_by_administrators_only(cloud: Control) -> None:
    body = {"network": {"name": "mine", "prefixes": ["10.0.0.0/8"]}}
    assert cloud.post("/v1/networks", body, **AS_MEMBER).status_code == 403
    assert cloud.get("/v1/networks", X_Roles="reader").status_code == 200
