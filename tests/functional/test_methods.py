# SPDX-License-Identifier: Apache-2.0
"""HEAD and OPTIONS, which every route answers beside its own methods."""

import pytest

from cloudlb.api.app import ROUTES
from tests.functional.control import Control

_ABSENT = "00000000-0000-4000-8000-000000000000"
READABLE = [path for path, resource in ROUTES if hasattr(resource, "on_get")]


@pytest.fixture
def paths(cloud: Control) -> dict[str, str]:
    """The routes, of a pool with a member and of a host that exist."""
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    return {
        "pool_id": pool["id"],
        "member_id": pool["members"][0]["id"],
        "network_id": pool["network_id"],
        "name": "c1",
    }


@pytest.mark.parametrize("route", READABLE)
def test_head_is_get_without_its_body(cloud: Control, paths: dict[str, str], route: str) -> None:
    path = route.format(**paths)
    seen, head = cloud.get(path), cloud.call("HEAD", path)
    assert (head.status_code, head.content) == (seen.status_code, b"")
    told = ("content-type", "content-length", "etag")
    assert [head.headers.get(name) for name in told] == [seen.headers.get(name) for name in told]


def test_head_of_what_is_not_there_has_no_body_either(cloud: Control) -> None:
    head = cloud.call("HEAD", f"/v1/pools/{_ABSENT}")
    assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthcheck", "GET, HEAD"),
        ("/v1/pools", "GET, HEAD, POST"),
        (f"/v1/pools/{_ABSENT}", "DELETE, GET, HEAD, PATCH, PUT"),
    ],
)
def test_options_tells_the_allowed_methods(control: Control, path: str, allowed: str) -> None:
    answer = control.call("OPTIONS", path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["allow"] == allowed
    refused = control.call("TRACE", path)
    assert refused.status_code == 405
    assert refused.headers["allow"] == f"{allowed}, OPTIONS"
