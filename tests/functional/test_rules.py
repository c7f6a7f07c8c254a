# SPDX-License-Identifier: Apache-2.0
"""What holds for every route: discovery, errors, headers, the loopback rule."""

import json
from typing import Any

import pytest
from falcon.testing import TestClient

from cloudlb.api.app import ROUTES
from cloudlb.api.openapi import matches, operations
from tests.functional.control import Control


def test_versions_are_discovered_with_and_without_a_slash(control: Control) -> None:
    root = control.get("/")
    assert root.status_code == 300
    version = root.json["versions"][0]
    assert (version["id"], version["status"]) == ("v1.0", "CURRENT")
    assert version["links"][0]["href"].endswith("/v1/")
    for path in ("/v1", "/v1/"):
        assert control.get(path).json["version"] == version


def test_every_answer_names_its_request_and_the_version(control: Control) -> None:
    for path in ("/", "/v1/pools", "/nothing"):
        headers = control.get(path).headers
        assert headers["x-openstack-request-id"].startswith("req-")
        assert headers["openstack-api-version"] == "traffic-placement 1.0"


def test_a_version_that_does_not_exist_is_refused(control: Control) -> None:
    answer = control.get("/v1/pools", OpenStack_API_Version="traffic-placement 1.7")
    assert answer.status_code == 406
    ok = control.get("/v1/pools", OpenStack_API_Version="traffic-placement latest")
    assert ok.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/v1/pools/nothing", None, {}, 404),
        ("GET", "/v1/pools/6b4ad17e-7a68-4b5b-b2ab-a1ae1f2a5e5a/status", None, {}, 404),
        ("PUT", "/v1/pools", "{}", {}, 405),
        ("POST", "/v1/pools", "{", {}, 400),
        ("POST", "/v1/pools", "", {}, 400),
        ("POST", "/v1/pools", "[" * 100_000, {}, 400),
        ("POST", "/v1/pools", '{"pool": NaN}', {}, 400),
        ("POST", "/v1/pools", "1" * 5000, {}, 400),
        ("POST", "/v1/pools", b"\xff\xfe", {}, 400),
        ("POST", "/v1/pools", "{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v1/pools", " " * (1 << 20) + "{}", {}, 413),
        ("GET", "/v1/pools?limit=0", None, {}, 400),
        ("GET", "/v1/pools?limit=x", None, {}, 400),
        ("GET", "/v1/pools?color=red", None, {}, 400),
        ("GET", "/v1/pools?name=a&name=b", None, {}, 400),
        ("GET", "/v1/pools", None, {"X_Project_Id": "x" * 300}, 400),
        ("DELETE", "/v1/pools/6b4ad17e-7a68-4b5b-b2ab-a1ae1f2a5e5a?wait=nan", None, {}, 400),
        ("DELETE", "/v1/pools/6b4ad17e-7a68-4b5b-b2ab-a1ae1f2a5e5a?wait=31", None, {}, 400),
    ],
)
def test_errors_are_problems_with_a_faultstring(
    control: Control,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str],
    status: int,
) -> None:
    answer = control.call(method, path, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["faultstring"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-openstack-request-id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for path, resource in ROUTES
        for method, _ in operations(resource)
        if matches(path, method)
    ],
)
def test_whatever_changes_an_object_heeds_if_match(cloud: Control, method: str, path: str) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    url = path.format(
        network_id=pool["network_id"],
        pool_id=pool["id"],
        member_id=pool["members"][0]["id"],
        name="c1",
    )
    noun = "member" if path.endswith("{member_id}") else "network" if "network" in path else "pool"
    body: dict[str, Any] = {noun: {"name": "x"}}
    if path.endswith("/members"):
        body = {"members": [{"server": "web2"}]}
    elif method == "put" and noun == "pool":
        body["pool"]["ports"] = pool["ports"]
    elif method == "put" and noun == "network":
        body["network"]["prefixes"] = ["192.0.2.0/24"]
    sent = None if method == "delete" else body
    answer = cloud.call(method.upper(), url, sent, If_Match='"999"')
    assert answer.status_code == 412, answer.text
    assert answer.json["errors"][0]["field"] == "If-Match"


def test_a_host_is_declared_gone_as_it_was_seen(cloud: Control) -> None:
    tag = cloud.get("/v1/hosts/c2").headers["etag"]
    cloud.pool(members=[{"server": "web3"}])
    cloud.clock.pass_seconds(1000)
    assert cloud.delete("/v1/hosts/c2", If_Match=tag).status_code == 412
    tag = cloud.get("/v1/hosts/c2").headers["etag"]
    assert cloud.delete("/v1/hosts/c2", If_Match=tag).status_code == 204


def test_a_merge_patch_may_say_what_it_is(cloud: Control) -> None:
    pool = cloud.pool()
    answer = cloud.patch(
        f"/v1/pools/{pool['id']}",
        {"pool": {"name": "x"}},
        Content_Type="application/merge-patch+json; charset=utf-8",
    )
    assert answer.status_code == 202


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", "", "localhost"])
def test_without_authentication_only_loopback_is_answered(control: Control, peer: str) -> None:
    client: TestClient = control._client
    answer = client.simulate_get("/v1/pools", extras={"REMOTE_ADDR": peer})
    assert answer.status_code == 403
    assert "loopback" in json.loads(answer.text)["detail"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_every_form_of_loopback_is_answered(control: Control, peer: str) -> None:
    answer = control._client.simulate_get("/v1/pools", remote_addr=peer)
    assert answer.status_code == 200


def test_the_health_check_asks_the_database(control: Control) -> None:
    assert control.get("/healthcheck").json == {"status": "ok"}


def test_drivers_tell_what_they_can(control: Control) -> None:
    drivers = {d["name"]: d for d in control.get("/v1/drivers").json["drivers"]}
    assert drivers["dr"]["port_translation"] is False
    assert drivers["nat"]["port_translation"] is True
    assert drivers["dr"]["address_families"] == [4, 6]
