# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to whatever route: an answer that names the field, never a failure."""

import copy
import json
import random
import re
from typing import Any
from uuid import uuid4

import pytest

from cloudlb.api.app import ROUTES
from cloudlb.api.openapi import operations
from tests.functional.control import Control
from tests.soak import choose, count

SEED = 20261120
BODIES = count(200, 10000)
REFUSED = 0.5
"""The share of generated bodies that every route refuses at least."""
WEB_SETTINGS = ("method", "path", "expected_codes", "host")
CONTRADICTIONS = {
    ("pool.scheduler", "pool.members[].weight"),
    ("pool.monitor.interval", "pool.monitor.timeout"),
    ("pool.monitor.type", "pool.monitor.port"),
    ("pool.ports", "pool.monitor.port"),
    *(("pool.monitor.type", f"pool.monitor.{name}") for name in WEB_SETTINGS),
    ("pool.members[].address", "pool.members[].server"),
    ("members[].address", "members[].server"),
    ("network.prefixes", "network.vip_range[]"),
    ("network.prefixes[]", "network.vip_range[]"),
    ("network.prefixes", "network.vip_range"),
    ("network.prefixes[]", "network.vip_range"),
}
"""Pairs of a field and another one that may be at fault once it has changed."""
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
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


def _junk(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(JUNK))


def _mutated(rng: random.Random, body: Any) -> tuple[Any, list[str]]:
    """The body with one to three places replaced, removed, added or doubled, and these places."""
    body = copy.deepcopy(body)
    places = []
    for _ in range(rng.randint(1, 3)):
        body, place = _mutate(rng, body)
        places.append(place)
    return body, places


def _mutate(rng: random.Random, body: Any) -> tuple[Any, str]:
    node, parent, key = body, None, None
    above, path = "", ""
    while isinstance(node, dict | list) and node and (parent is None or rng.random() < 0.75):
        parent = node
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node = node[key]
        above, path = path, _step(path, key)
    if parent is None:
        return _junk(rng), ""
    what = rng.randrange(4)
    if what == 0:
        parent[key] = _junk(rng)
        return body, path
    if what == 1:
        del parent[key]
        return body, path if isinstance(parent, dict) else above
    if isinstance(parent, list):
        parent.append(copy.deepcopy(rng.choice([*parent, *JUNK])))
        return body, above
    name = rng.choice(["extra", "id", "generation", "status", "\ud800"])
    parent[name] = _junk(rng)
    return body, _step(above, name)


def _step(path: str, key: str | int) -> str:
    """The path of an item, as the API writes it."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key.encode("ascii", "backslashreplace").decode()
    return f"{path}.{shown}" if path else shown


def _valid(method: str, path: str, cloud: Control) -> Any:
    """A body that is taken, with all that the schema has; see the test of that."""
    network = cloud.get("/v1/networks").json["networks"][0]
    member = {
        "server": "web2",
        "weight": 2,
        "name": "second",
        "port": None,
        "backup": False,
        "remote": False,
        "prepared": False,
        "admin_state_up": True,
    }
    if "networks" in path:
        body = {k: network[k] for k in ("name", "prefixes", "vip_range")}
        return {"network": body | ({"name": "fuzzed"} if method == "post" else {})}
    if path.endswith("/members"):
        return {"members": [member, {"address": "192.0.2.13"}]}
    if "member_id" in path:
        return {"member": {k: v for k, v in member.items() if k != "server"} | {"name": "first"}}
    spec = {
        "name": "fuzzed",
        "description": "what it is for",
        "data_plane": "dr",
        "forwarding": None,
        "translation": None,
        "masquerade": False,
        "client_address": None,
        "down_action": "keep",
        "entry_host": None,
        "scheduler": "source_hash",
        "rotation_order": "interleaved",
        "connection_count": "active",
        "persistence": {"timeout": 300, "prefix": 24},
        "timeouts": {"opening": 60, "established": 900, "closing": 120, "udp": 30},
        "failover": "preempt",
        "panic_threshold": 50,
        "drain_timeout": 60,
        "admin_state_up": True,
        "ports": [{"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53}],
        "monitor": {
            "type": "http",
            "interval": 1,
            "port": 80,
            "method": "HEAD",
            "path": "/up",
            "expected_codes": "200,204-206",
            "host": "shop.example",
        },
        "directors": ["d1"],
    }
    created = {"network_id": network["id"], "address": "192.0.2.133", "members": [member]}
    return {"pool": spec | (created if method == "post" else {})}


NOT_TOGETHER = {"ip_version", "network_id", "address", "server"}
"""Fields that say what another one says, or what is fixed after creation."""


def _reset(cloud: Control, method: str, url: str, template: Any, answer: Any) -> None:
    """Undo what a body did that was taken, so that the next one finds the same."""
    if method != "post":
        assert cloud.call(method.upper(), url, template).status_code < 300
    elif url.endswith("/members"):
        cloud.put(url, {"members": [{"server": "web1"}]})
    else:
        cloud.delete(answer.headers["location"].split("falconframework.org")[1])
    cloud.all_work()


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
    pool = cloud.pool(name="target", members=[{"server": "web1"}], scheduler="source_hash")
    network = cloud.get("/v1/networks").json["networks"][0]
    url = path.format(
        network_id=network["id"], pool_id=pool["id"], member_id=pool["members"][0]["id"]
    )
    rng = random.Random(f"{SEED}{method}{path}")
    template = _valid(method, path, cloud)
    answer = cloud.call(method.upper(), url, template)
    assert answer.status_code < 300, answer.text
    _reset(cloud, method, url, template, answer)
    schema = _schema(method, path)
    refused = 0
    for _ in range(BODIES):
        body, places = _mutated(rng, template)
        text = json.dumps(body)
        answer = cloud.call(method.upper(), url, text)
        assert answer.status_code < 500, f"{text}: {answer.text}"
        if answer.status_code >= 300:
            refused += 1
            _check_problem(answer, text)
            _check_fields(answer, body, schema, places)
        else:
            _reset(cloud, method, url, template, answer)
    assert refused >= BODIES * REFUSED, f"{refused} of {BODIES}"


@pytest.mark.parametrize(("method", "path"), _routes())
def test_the_body_from_which_others_are_made_has_all_fields(
    cloud: Control, method: str, path: str
) -> None:
    (kind, body), *_ = _valid(method, path, cloud).items()
    schema = _schema(method, path)["properties"][kind]
    first = body[0] if isinstance(body, list) else body
    missing = schema.get("items", schema)["properties"].keys() - first.keys()
    assert missing <= NOT_TOGETHER


@pytest.mark.parametrize("path", [path for _, path in _routes() if path.endswith("/members")][:1])
def test_a_single_member_is_refused_like_one_of_many(cloud: Control, path: str) -> None:
    pool = cloud.pool(name="target", members=[{"server": "web1"}], scheduler="source_hash")
    url = path.format(pool_id=pool["id"])
    rng = random.Random(SEED)
    template = {"member": _valid("post", path, cloud)["members"][0]}
    schema = _schema("post", path)
    for _ in range(BODIES):
        body, places = _mutated(rng, template)
        answer = cloud.call("POST", url, json.dumps(body))
        assert answer.status_code < 500, f"{body}: {answer.text}"
        if answer.status_code >= 300:
            _check_problem(answer, json.dumps(body))
            _check_fields(answer, body, schema, places)
        else:
            _reset(cloud, "post", url, template, answer)


def _schema(method: str, path: str) -> Any:
    resource = dict(ROUTES)[path]
    return dict(operations(resource))[method].body


def _check_fields(answer: Any, body: Any, schema: Any, places: list[str]) -> None:
    """Each named field exists, and is the one that was spoilt, something in it, or its parent."""
    for error in answer.json["errors"]:
        field = "" if error["field"] == "body" else error["field"]
        assert _exists(field, body) or _known(field, schema), answer.text
        if len(places) == 1:
            assert _is_about(field, places[0]), f"{places}: {answer.text}"


def _exists(field: str, body: Any) -> bool:
    """Whether a request has a field."""
    for key, index in _PART.findall(field):
        if index:
            if not isinstance(body, list) or int(index) >= len(body):
                return False
            body = body[int(index)]
        else:
            named = {_step("", k): v for k, v in body.items()} if isinstance(body, dict) else {}
            if key not in named:
                return False
            body = named[key]
    return True


def _known(field: str, schema: Any) -> bool:
    """Whether a schema has a field."""
    for key, index in _PART.findall(field):
        schema = schema.get("items") if index else schema.get("properties", {}).get(key)
        if schema is None:
            return False
    return True


def _is_about(field: str, place: str) -> bool:
    parent = re.sub(r"(\[\d+\]|\.?[^.\[]*)$", "", place)
    pair = tuple(re.sub(r"\[\d+\]", "[]", each) for each in (place, field))
    return (
        field in (place, parent)
        or field.startswith((f"{place}.", f"{place}["))
        or pair in CONTRADICTIONS
    )


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
            [
                *("", "?limit=1", "?limit=%00", "?marker=%00", "?name=%ED%A0%80", "?wait=-1"),
                *(f"?{name}={'9' * 309}" for name in ("limit", "wait", "client_port", "port")),
            ]
        )
        body = "{}" if method in WRITES else None
        answer = cloud.call(method.upper(), url + query, body)
        assert answer.status_code < 500, f"{method} {url}{query}: {answer.text}"


@pytest.mark.parametrize(
    "depth", choose([33, 970, 985, 200_000], [500, *range(971, 985), *range(986, 1000), 5000])
)
@pytest.mark.parametrize("body", ['{"pool": {"name": %s}}', "%s"])
def test_deeply_nested_bodies_are_refused(cloud: Control, body: str, depth: int) -> None:
    answer = cloud.call("POST", "/v1/pools", body % ("[" * depth + "]" * depth))
    assert answer.status_code == 400, answer.text
    assert "nested" in answer.json["detail"]


def test_a_list_that_is_too_long_is_refused_at_once(cloud: Control) -> None:
    """To compare each of its items with all others takes minutes for a body of this size."""
    ports = [{"protocol": "tcp", "port": 1 + number % 65535} for number in range(25_000)]
    answer = cloud.call("POST", "/v1/pools", json.dumps({"pool": {"name": "x", "ports": ports}}))
    assert answer.status_code == 400
    assert "at most 64 items" in answer.json["detail"]


def test_every_field_that_is_missing_is_named(cloud: Control) -> None:
    answer = cloud.call("POST", "/v1/pools", '{"pool": {}}')
    named = {problem["field"] for problem in answer.json["errors"]}
    assert named == {"pool.network_id", "pool.name", "pool.ports"}
