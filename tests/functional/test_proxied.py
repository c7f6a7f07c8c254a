# SPDX-License-Identifier: Apache-2.0
"""Behind a proxy that ends TLS: links are those of its callers, and nobody gets in by a header."""

from collections.abc import Iterator

import pytest
from oslo_config import cfg

from cloudlb.api import forwarded
from tests.functional.control import Control

OUTSIDE = "https://lb.example.org:8443"
LEGACY = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "lb.example.org:8443"}
RFC7239 = {"Forwarded": 'for=127.0.0.1;proto=https;host="lb.example.org:8443", for=10.0.0.1'}
either = pytest.mark.parametrize("headers", [LEGACY, RFC7239], ids=["x-forwarded", "rfc-7239"])


@pytest.fixture
def believing(conf: cfg.ConfigOpts) -> Iterator[None]:
    """A configuration that says that there is a proxy; to be asked for before the API."""
    assert not forwarded.is_believed(conf)
    conf.set_override("enable_proxy_headers_parsing", True, "oslo_middleware")
    yield
    conf.clear_override("enable_proxy_headers_parsing", "oslo_middleware")


def _links(cloud: Control, headers: dict[str, str]) -> dict[str, str]:
    """Each kind of link that the API gives."""
    network = cloud.get("/v1/networks").json["networks"][0]["id"]
    spec = {"name": "web", "network_id": network, "ports": [{"protocol": "tcp", "port": 80}]}
    written = [cloud.post("/v1/pools", {"pool": spec}, **headers) for _ in range(2)]
    page = cloud.get("/v1/pools?limit=1", **headers).json
    versions = cloud.get("/", **headers).json["versions"]
    return {
        "Location": written[0].headers["location"],
        "next": page["pools_links"][0]["href"],
        "/": versions[0]["links"][0]["href"],
        "/v1": cloud.get("/v1", **headers).json["version"]["links"][0]["href"],
    }


@either
def test_links_are_those_of_the_proxys_callers(
    believing: None, cloud: Control, headers: dict[str, str]
) -> None:
    links = _links(cloud, headers)
    assert {name for name, url in links.items() if url.startswith(f"{OUTSIDE}/v1/")} == set(links)


def test_a_proxy_may_serve_the_api_below_a_path(believing: None, cloud: Control) -> None:
    links = _links(cloud, {**LEGACY, "X_Forwarded_Prefix": "/placement"})
    assert all(url.startswith(f"{OUTSIDE}/placement/v1/") for url in links.values())


@either
def test_without_the_option_headers_mean_nothing(cloud: Control, headers: dict[str, str]) -> None:
    assert not [url for url in _links(cloud, headers).values() if "example.org" in url]


def test_head_and_errors_pass_as_they_are(believing: None, cloud: Control) -> None:
    head = cloud.call("HEAD", "/v1/pools", **LEGACY)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(cloud.get("/v1/pools", **LEGACY).content)
    assert cloud.get("/v1/nothing", **LEGACY).json["code"] == "not-found"


@pytest.mark.parametrize("name", ["203.0.113.5", "unknown", "127.0.0.1, 203.0.113.5"])
def test_a_caller_that_the_proxy_names_must_be_local_too(
    believing: None, cloud: Control, name: str
) -> None:
    assert cloud.get("/v1/pools", X_Forwarded_For="127.0.0.1").status_code == 200
    assert cloud.get("/v1/pools", X_Forwarded_For=name).status_code == 403


def test_no_header_makes_a_connection_from_elsewhere_local(
    believing: None, cloud: Control
) -> None:
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        answer = cloud.call("GET", "/v1/pools", peer="203.0.113.5", **headers)
        assert answer.status_code == 403
