# SPDX-License-Identifier: Apache-2.0
"""Who may do what: by role, by the project of the object, and by a policy file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.functional.control import Control

AS_READER = {"X_Roles": "reader"}
AS_MEMBER = {"X_Roles": "member"}
AS_OTHER = {"X_Roles": "member", "X_Project_Id": "theirs"}


@pytest.fixture
def rules(request: pytest.FixtureRequest, conf: cfg.ConfigOpts, tmp_path: Path) -> Iterator[None]:
    """A policy file with the rules that the test gives as parameters."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(request.param))
    conf.set_override("policy_file", str(path), "oslo_policy")
    yield
    conf.clear_override("policy_file", "oslo_policy")


def _spec(cloud: Control, **more: Any) -> dict[str, Any]:
    network = cloud.get("/v1/networks").json["networks"][0]
    ports = [{"protocol": "tcp", "port": 80}]
    return {"pool": {"network_id": network["id"], "name": "p", "ports": ports} | more}


def _writes(pool: dict[str, Any]) -> list[tuple[str, str, Any]]:
    path = f"/v1/pools/{pool['id']}"
    member = f"{path}/members/{pool['members'][0]['id']}"
    return [
        ("PUT", path, {"pool": {"name": "p", "ports": pool["ports"]}}),
        ("PATCH", path, {"pool": {"name": "p"}}),
        ("POST", f"{path}/members", {"member": {"server": "web2"}}),
        ("PUT", f"{path}/members", {"members": []}),
        ("PATCH", f"{path}/members", {"members": []}),
        ("PUT", member, {"member": {}}),
        ("PATCH", member, {"member": {}}),
        ("DELETE", member, None),
        ("DELETE", path, None),
    ]


def _reads(pool: dict[str, Any]) -> list[str]:
    path = f"/v1/pools/{pool['id']}"
    member = f"{path}/members/{pool['members'][0]['id']}"
    return [path, f"{path}/status", f"{path}/stats", f"{path}/members", member]


def test_a_reader_sees_the_projects_objects_and_writes_nothing(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    for path in _reads(pool):
        assert cloud.get(path, **AS_READER).status_code == 200
    for method, path, body in [*_writes(pool), ("POST", "/v1/pools", _spec(cloud))]:
        assert cloud.call(method, path, body, **AS_READER).status_code == 403, path


def test_a_member_of_another_project_finds_nothing(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    for path in _reads(pool):
        assert cloud.get(path, **AS_OTHER).status_code == 404
    for method, path, body in _writes(pool):
        assert cloud.call(method, path, body, **AS_OTHER).status_code == 404, path


def test_a_member_writes_the_projects_objects(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    for method, path, body in _writes(pool):
        assert cloud.call(method, path, body, **AS_MEMBER).status_code in (200, 202), path


OWN = {
    name: "role:reader and project_id:%(project_id)s"
    for name in (
        "network:show",
        "network:update",
        "network:delete",
        "pool:show",
        "pool:update",
        "pool:delete",
        "member:list",
        "member:show",
        "member:create",
        "member:update",
        "member:replace",
        "member:delete",
    )
}


@pytest.mark.parametrize("rules", [OWN], indirect=True)
def test_a_rule_is_about_the_project_of_the_object(rules: None, cloud: Control) -> None:
    """The caller sees all projects, and its own project is not that of the pool."""
    pool = cloud.pool(members=[{"server": "web1"}])
    as_admin = {"X_Roles": "admin", "X_Project_Id": "theirs"}
    network = f"/v1/networks/{pool['network_id']}"
    for path in [*_reads(pool), network]:
        assert cloud.get(path, **as_admin).status_code == 403, path
        assert cloud.get(path).status_code == 200, path
    writes = [
        ("PATCH", network, {"network": {"vip_range": ["192.0.2.128/28"]}}),
        ("DELETE", network, None),
        *_writes(pool),
    ]
    for method, path, body in writes:
        assert cloud.call(method, path, body, **as_admin).status_code == 403, path


@pytest.mark.parametrize("rules", [{"member:create": "role:manager"}], indirect=True)
def test_every_way_of_adding_a_member_needs_the_rule_for_it(rules: None, cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    path = f"/v1/pools/{pool['id']}/members"
    one = f"{path}/{pool['members'][0]['id']}"
    web2 = {"server": "web2"}
    assert cloud.patch(one, {"member": {"weight": 0}}, **AS_MEMBER).status_code == 202
    assert cloud.delete(one, **AS_MEMBER).status_code == 202
    for method, url, body in (
        ("POST", "/v1/pools", _spec(cloud, members=[web2])),
        ("POST", path, {"member": web2}),
        ("PUT", path, {"members": [web2]}),
        ("PATCH", path, {"members": [web2]}),
        ("PATCH", path, {"members": [{"server": "web1"}]}),
        ("PATCH", one, {"member": {"weight": 1}}),
    ):
        answer = cloud.call(method, url, body, **AS_MEMBER)
        assert answer.status_code == 403, f"{method} {url} {body}"
        assert "member:create" in answer.json["detail"]
    assert cloud.post("/v1/pools", _spec(cloud), **AS_MEMBER).status_code == 202
    as_manager = {"X_Roles": "manager"}
    assert cloud.patch(path, {"members": [web2]}, **as_manager).status_code == 202


@pytest.mark.parametrize(
    ("rules", "body"),
    [
        ({"member:delete": "role:manager"}, []),
        ({"member:update": "role:manager"}, [{"server": "web1", "weight": 0}]),
    ],
    indirect=["rules"],
)
def test_replacing_all_members_needs_the_rules_for_what_it_does(
    rules: None, cloud: Control, body: list[Any]
) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    path = f"/v1/pools/{pool['id']}/members"
    assert cloud.put(path, {"members": body}, **AS_MEMBER).status_code == 403
    same = [{"server": "web1"}, {"server": "web2"}]
    assert cloud.put(path, {"members": same}, **AS_MEMBER).status_code == 202
    assert cloud.put(path, {"members": body}, X_Roles="manager").status_code == 202
