# SPDX-License-Identifier: Apache-2.0
"""An API on loopback that gives prepared answers, and the clients that ask it."""

import json
import logging
import threading
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import openstack
import pytest
from openstackclient.shell import OpenStackShell
from osc_lib.clientmanager import ClientManager

from cloudlb.client.osc import plugin
from cloudlb.client.service import TrafficPlacement
from cloudlb.schemas.version import SERVICE_TYPE


@dataclass
class Asked:
    request: str
    query: str
    body: Any
    if_match: str | None


@dataclass
class Api:
    """Answers by "METHOD /path": several are used up one by one, the last one stays."""

    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, request: str, *bodies: Any, status: int = 200) -> None:
        self.answers[request] = [(status, body) for body in bodies]

    def refuse(self, request: str, status: int, sentence: str, **errors: str) -> None:
        fields = [{"field": name, "message": message} for name, message in errors.items()]
        problem = {"title": "Wrong", "status": status, "faultstring": sentence, "errors": fields}
        self.answers[request] = [(status, problem)]

    def bodies(self, request: str) -> list[Any]:
        return [each.body for each in self.asked if each.request == request]

    def application(self, environ, start_response):
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(size)) if size else None
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query, match = environ["QUERY_STRING"], environ.get("HTTP_IF_MATCH")
        self.asked.append(Asked(f"{method} {path}", query, body, match))
        status, answer = self._answer(f"{method} {path}")
        kind = "application/problem+json" if status >= 400 else "application/json"
        token = ("X-Subject-Token", "secret")
        start_response(f"{status} Answer", [("Content-Type", kind), token])
        return [] if status == 204 else [json.dumps(answer).encode()]

    def _answer(self, request: str) -> tuple[int, Any]:
        links = [{"rel": "self", "href": f"{self.url}/v1/"}]
        version = {"id": "v1.0", "status": "CURRENT", "version": "1.0", "min_version": "1.0"}
        usual = {
            "GET /": (300, {"versions": [{**version, "links": links}]}),
            "GET /v1/": (200, {"version": {**version, "links": links}}),
        }
        missing = (404, {"faultstring": f"No answer to {request}."})
        left = self.answers.get(request, [usual.get(request, missing)])
        return left.pop(0) if len(left) > 1 else left[0]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def api():
    api = Api()
    with make_server("127.0.0.1", 0, api.application, handler_class=_Quiet) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield api
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(api):
    connection = openstack.connection.Connection(auth_type="none", auth={"endpoint": api.url})
    connection.add_service(TrafficPlacement(SERVICE_TYPE))
    yield connection.traffic_placement
    connection.close()


@pytest.fixture
def run(api, monkeypatch, capsys):
    """Run an ``openstack anycast`` command in this process: exit code, output, errors."""
    # in the place of a cache that would keep the first test's client for the whole process
    ClientManager.anycast = property(plugin.make_client)
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setenv("OS_AUTH_TYPE", "none")
    monkeypatch.setenv("OS_ENDPOINT", api.url)

    def run(line, *words):
        try:
            code = OpenStackShell().run(["anycast", *line.split(), *words])
        except SystemExit as stop:
            code = stop.code
        logging.getLogger().handlers[:] = handlers
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def cloud(api, run, monkeypatch):
    """A cloud whose identity service gives a token with the catalog that is asked for."""

    def cloud(*catalog):
        links = [{"rel": "self", "href": f"{api.url}/v3/"}]
        version = {"id": "v3.14", "status": "stable", "links": links}
        domain = {"id": "default", "name": "Default"}
        token = {
            "methods": ["password"],
            "user": {"id": "u", "name": "u", "domain": domain},
            "project": {"id": "p", "name": "p", "domain": domain},
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [
                {"type": kind, "endpoints": [{"interface": "public", "url": url, "id": "e"}]}
                for kind, url in catalog
            ],
        }
        api.answer("GET /v3", {"version": version})
        api.answer("POST /v3/auth/tokens", {"token": token}, status=201)
        monkeypatch.delenv("OS_ENDPOINT")
        for name, value in {
            "OS_AUTH_TYPE": "password",
            "OS_AUTH_URL": f"{api.url}/v3",
            "OS_USERNAME": "u",
            "OS_PASSWORD": "p",
            "OS_PROJECT_NAME": "p",
            "OS_DEFAULT_DOMAIN": "default",
        }.items():
            monkeypatch.setenv(name, value)
        return run

    return cloud


@pytest.fixture
def pool():
    """A pool as the API shows it."""
    return {
        "id": "11111111-1111-4111-8111-111111111111",
        "project_id": "p",
        "network_id": "22222222-2222-4222-8222-222222222222",
        "name": "web",
        "description": "",
        "address": "192.0.2.1",
        "ports": [{"protocol": "tcp", "port": 80}],
        "data_plane": "dr",
        "scheduler": "round_robin",
        "rotation_order": "interleaved",
        "connection_count": "active",
        "persistence": None,
        "timeouts": None,
        "directors": ["h1"],
        "forwarding": None,
        "translation": None,
        "masquerade": False,
        "client_address": None,
        "down_action": "keep",
        "entry_host": None,
        "failover": "preempt",
        "virtual_router": 0,
        "monitor": None,
        "panic_threshold": 0,
        "drain_timeout": 300,
        "admin_state_up": True,
        "status": {
            "admin": {"state": "up", "reason": ""},
            "realized": {"state": "yes", "reason": ""},
            "health": {"state": "unknown", "reason": "nothing is probed"},
        },
        "removing": False,
        "generation": 4,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "members": [],
    }


@pytest.fixture
def pending(pool):
    """The same pool while a host has yet to realize it."""
    realized = {"state": "pending", "reason": "h1 has generation 3 of 4"}
    return {**pool, "status": {**pool["status"], "realized": realized}}


@pytest.fixture
def existing(api, pool):
    """The path of a pool that exists."""
    path = f"/v1/pools/{pool['id']}"
    api.answer("GET /v1/pools", {"pools": [pool]})
    api.answer(f"GET {path}", {"pool": pool})
    return path
