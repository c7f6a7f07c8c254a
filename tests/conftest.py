# SPDX-License-Identifier: Apache-2.0
"""What all layers share: the table of requirements, the time of each layer, ``--require``."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import requirements, soak

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
    """Quick layers first, so that a simple fault is told at once; reports carry requirements."""
    items.sort(key=lambda item: _LAYERS.index(layer) if (layer := _layer(item.nodeid)) else 0)
    for item in items:
        shown = (mark.args[0] for mark in item.iter_markers("requirement"))
        item.user_properties += [("requirement", name) for name in shown]


def _layer(test: str) -> str:
    part = test.split("/")[1]
    return part if part in _LAYERS else ""


class Requirements:
    """Gathers which tests show which requirement, and how long each layer takes.

    With several processes (``-n``) the one that runs no test gathers what the others report.
    """

    def __init__(self) -> None:
        self._run = requirements.Run()
        self._tests_of: dict[str, set[str]] = defaultdict(set)
        self._seconds: dict[str, float] = defaultdict(float)
        self._is_selective = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._is_selective = _is_selective(session.config)
        self._collected(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        self._collected(ids)

    def _collected(self, tests: Iterable[str]) -> None:
        for test in () if self._is_selective else tests:
            self._tests_of[test.split("::")[0]].add(test)

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
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[_layer(report.nodeid)] += report.duration
        if report.when == "call" or report.outcome != "passed":
            shown = (name for kind, name in report.user_properties if kind == "requirement")
            self._run.note(report.nodeid, report.outcome, map(str, shown))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._run.tests:
            return
        terminalreporter.section("requirements, with what earlier runs have shown")
        for line in requirements.table(self._merge(), width=79):
            terminalreporter.write_line(line)
        terminalreporter.section("seconds by layer")
        for layer in _LAYERS:
            if layer in self._seconds:
                terminalreporter.write_line(f"{layer:>12} {self._seconds[layer]:7.1f}")

    def _merge(self) -> requirements.Shown:
        """Put what this run has found into the file."""
        target = ROOT / "build" / "requirements.json"
        names = requirements.documented(ROOT / "doc" / "source" / "requirements")
        ran = self._run.tests
        whole = [file for file, tests in self._tests_of.items() if tests <= ran]
        with requirements.alone_with(target):
            earlier = requirements.load(target)
            gone = requirements.gone(earlier, ran, whole, ROOT)
            shown = self._run.merge(earlier, names, gone)
            requirements.save(target, shown)
        return shown


def _is_selective(config: pytest.Config) -> bool:
    """Whether a file's tests may be left out of the run; ``lf`` goes with pytest's cache."""
    options = ("keyword", "markexpr", "lf", "deselect")
    chosen = any(config.getoption(option, None) for option in options)
    return chosen or any("::" in word for word in config.args)
