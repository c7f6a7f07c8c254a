# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to whatever route: an answer that names the field, never a failure."""

import copy
import json
import random
from typing import Any
from uuid import uuid4

import pytest

from cloudlb.api.app import ROUTES
from cloudlb.api.openapi import operations
from tests.functional.control import Control
from tests.soak import count

SEED = 20261120
BODIES = count(200, 10000)
WRITES = ("post", "put", "patch")
JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    65536,
    1e308,
    10**400,
    0.5,
    "",
    "x",
    "\0",
    "\ud800",
    "a\n",
    "x" * 5000,
    "fe80::1%eth0",
    "::ffff:192.0.2.1",
    "192.0.2.130",
    "192.0.2.130/24",
    "' OR 1=1 --",
    "../../etc/passwd",
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
    {"\ud800": 1},
    str(uuid4()),
]


def _mutated(rng: random.Random, body: Any) -> Any:
    """The body with one to three places replaced, removed, added or doubled."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        node, parent, key = body, None, None
        while isinstance(node, dict | list) and node and (parent is None or rng.random() < 0.75):
            parent = node
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            node = node[key]
        if parent is None:
            return rng.choice(JUNK)
        what = rng.randrange(4)
        if what == 0:
            parent[key] = rng.choice(JUNK)
        elif what == 1:
            del parent[key]
        elif what == 2 and isinstance(parent, dict):
            parent[rng.choice(["extra", "id", "generation", "status", "\ud800"])] = rng.choice(
                JUNK
            )
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(rng.choice([*parent, *JUNK])))
    return body


def _valid(path: str, cloud: Control) -> Any:
    network = cloud.get("/v1/networks").json["networks"][0]
    member = {"server": "web2", "weight": 2, "name": "second", "admin_state_up": True}
    if "networks" in path:
        return {"network": {k: network[k] for k in ("name", "prefixes", "vip_range")}}
    if path.endswith("/members"):
        return {"members": [member, {"address": "192.0.2.13"}]}
    if "member_id" in path:
        return {"member": {"weight": 2, "name": "first", "port": None}}
    return {
        "pool": {
            "network_id": network["id"],
            "name": "fuzzed",
            "ports": [{"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53}],
            "monitor": {"type": "tcp", "interval": 1, "port": 80},
            "scheduler": "source_hash",
            "directors": ["d1"],
            "members": [member],
        }
    }


def _routes() -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, resource in ROUTES
        for method, contract in operations(resource)
        if contract.body is not None
    ]


@pytest.mark.parametrize(("method", "path"), _routes())
def test_generated_bodies_are_refused_with_the_field_or_taken(
    cloud: Control, method: str, path: str
) -> None:
    pool = cloud.pool(name="target", members=[{"server": "web1"}])
    network = cloud.get("/v1/networks").json["networks"][0]
    url = path.format(
        network_id=network["id"], pool_id=pool["id"], member_id=pool["members"][0]["id"]
    )
    rng = random.Random(f"{SEED}{method}{path}")
    template = _valid(path, cloud)
    taken = 0
    for _ in range(BODIES):
        body = json.dumps(_mutated(rng, template))
        answer = cloud.call(method.upper(), url, body)
        assert answer.status_code < 500, f"{body}: {answer.text}"
        if answer.status_code < 300:
            taken += 1
            continue
        _check_problem(answer, body)
    assert taken < BODIES


def _check_problem(answer: Any, body: str) -> None:
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["errors"], f"{body}: {problem}"
    assert all(error["field"] and error["message"] for error in problem["errors"])
    assert len(problem["detail"]) < 20_000


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for path, resource in ROUTES for method, _ in operations(resource)],
)
def test_odd_paths_and_parameters_never_fail(cloud: Control, method: str, path: str) -> None:
    rng = random.Random(f"{SEED}{method}{path}")
    odd = ["%00", "%F0%9F%92%A9", "x" * 2000, "..", "%2e%2e", "'", "{}", str(uuid4())]
    for _ in range(20):
        url = path
        while "{" in url:
            start, end = url.index("{"), url.index("}")
            url = url[:start] + rng.choice(odd).replace("{}", "%7B%7D") + url[end + 1 :]
        query = rng.choice(
            ["", "?limit=1", "?limit=%00", "?marker=%00", "?name=%ED%A0%80", "?wait=-1"]
        )
        body = "{}" if method in WRITES else None
        answer = cloud.call(method.upper(), url + query, body)
        assert answer.status_code < 500, f"{method} {url}{query}: {answer.text}"
