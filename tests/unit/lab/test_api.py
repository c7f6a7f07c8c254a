# SPDX-License-Identifier: Apache-2.0
"""The lab's API by curl: status and body, failures, and the network that is made once."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from cloudlb.lab.api import Api
from cloudlb.lab.errors import LabError


class Control:
    """A control host whose curl gets the answers that were given."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self._answers = list(answers)
        self.commands: list[Sequence[str]] = []

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        status, body = self._answers.pop(0)
        text = "" if body is None else json.dumps(body)
        return subprocess.CompletedProcess(command, 0, f"{text}\n{status}")


def _api(*answers: tuple[int, Any]) -> tuple[Api, Control]:
    control = Control(*answers)
    return Api(control), control  # type: ignore[arg-type]


def test_an_answer_is_its_status_and_body() -> None:
    api, control = _api((200, {"hosts": []}), (204, None))
    assert api.request("GET", "/hosts") == (200, {"hosts": []})
    assert api.request("DELETE", "/hosts/h1") == (204, None)
    assert control.commands[0][-1] == "http://127.0.0.1:9890/v1/hosts"


def test_a_body_is_sent_as_json() -> None:
    api, control = _api((202, {}))
    api.request("POST", "/pools", {"pool": {"name": "web"}})
    command = list(control.commands[0])
    assert json.loads(command[command.index("-d") + 1]) == {"pool": {"name": "web"}}


def test_an_answer_that_must_be_a_success_is_an_error_otherwise() -> None:
    api, _ = _api((404, {"title": "Not Found"}))
    with pytest.raises(LabError, match=r"GET /pools/x: 404 .*Not Found"):
        api.ok("GET", "/pools/x")


def test_the_network_that_is_there_is_taken() -> None:
    api, control = _api((200, {"networks": [{"id": "n1"}]}))
    assert api.network() == "n1"
    assert len(control.commands) == 1


def test_a_network_that_is_missing_is_made() -> None:
    api, control = _api((200, {"networks": []}), (201, {"network": {"id": "n2"}}))
    assert api.network() == "n2"
    assert "POST" in control.commands[1]
