# SPDX-License-Identifier: Apache-2.0
"""However the demo ends, it leaves nothing, and touches no lab that others have brought up."""

import sys

import pytest

from cloudlb.lab import demo
from cloudlb.lab.errors import AlreadyRunningError
from cloudlb.lab.lab import Lab


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demo does with its lab; its second chapter fails in a way that nobody foresaw."""
    calls: list[str] = []

    def fail(_: demo.Demo) -> None:
        raise IndexError("unforeseen")

    monkeypatch.setattr(Lab, "up", lambda *_, **__: calls.append("up"))
    monkeypatch.setattr(Lab, "down", lambda _: calls.append("down"))
    monkeypatch.setattr(demo.Demo, "make_pools", fail)
    return calls


def test_a_failure_that_nobody_foresaw_removes_the_lab(calls: list[str]) -> None:
    with pytest.raises(IndexError):
        demo.Demo(Lab("never")).run()
    assert calls == ["up", "down"]


def test_a_lab_that_was_there_before_is_left_alone(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(lab: Lab, **_: object) -> None:
        raise AlreadyRunningError(lab.name)

    monkeypatch.setattr(Lab, "up", refuse)
    monkeypatch.setattr(sys, "argv", ["demo", "--name", "never"])
    assert demo.main() == 1
    assert "is running already" in capsys.readouterr().err
    assert calls == []
