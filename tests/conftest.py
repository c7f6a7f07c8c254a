# SPDX-License-Identifier: Apache-2.0
"""What all layers share: the table of requirements, the time of each layer, ``--require``."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import soak

ROOT = Path(__file__).parent.parent
_LAYERS = ("unit", "property", "packet", "functional", "contract", "lab", "guest")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require", action="store_true", help="a skipped test fails: nothing may be missing"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Requirements(), "requirements")
    settings.register_profile("soak", max_examples=2000, deadline=None)
    settings.register_profile("usual", deadline=None)
    settings.load_profile("soak" if soak.IS_SOAK else "usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick layers first, so that a simple fault is told at once."""
    items.sort(key=lambda item: _LAYERS.index(layer) if (layer := _layer(item)) else 0)


def _layer(item: pytest.Item) -> str:
    part = item.path.relative_to(ROOT / "tests").parts[0]
    return part if part in _LAYERS else ""


class Requirements:
    """Gathers which tests show which requirement, and how long each layer takes."""

    def __init__(self) -> None:
        self._shown: dict[str, dict[str, list[str]]] = defaultdict(
            lambda: {"passed": [], "failed": [], "skipped": []}
        )
        self._seconds: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        started = time.monotonic()
        result = yield
        self._seconds[_layer(item)] += time.monotonic() - started
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report = yield
        if (
            report.skipped
            and item.config.getoption("--require")
            and not hasattr(report, "wasxfail")
        ):
            report.outcome = "failed"
            report.longrepr = f"skipped, but --require was given: {report.longrepr}"
        if report.when == "call" or report.outcome != "passed":
            for mark in item.iter_markers("requirement"):
                self._note(mark.args[0], report.outcome, item.nodeid)
        return report

    def _note(self, requirement: str, outcome: str, test: str) -> None:
        if test not in self._shown[requirement][outcome]:
            self._shown[requirement][outcome].append(test)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        target = ROOT / "build" / "requirements.json"
        target.parent.mkdir(exist_ok=True)
        ordered = dict(sorted(self._shown.items(), key=lambda item: _natural(item[0])))
        target.write_text(json.dumps(ordered, indent=1) + "\n")
        terminalreporter.section("requirements")
        for name, shown in ordered.items():
            state = "passed" if shown["passed"] and not shown["failed"] else "MISSING"
            tests = sum(map(len, shown.values()))
            terminalreporter.write_line(f"{name:>5}  {tests:3d} tests  {state}")
        terminalreporter.section("seconds by layer")
        for layer in _LAYERS:
            if layer in self._seconds:
                terminalreporter.write_line(f"{layer:>12} {self._seconds[layer]:7.1f}")


def _natural(name: str) -> tuple[str, int]:
    return name[0], int(name[1:])
