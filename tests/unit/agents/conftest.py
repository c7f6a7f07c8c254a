# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still until told, and a director that probes by it."""

from collections.abc import Iterator

import pytest

from cloudlb.agents import probe, wires
from tests.unit.agents.clock import Clock
from tests.unit.agents.wire import Director, Wire


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def director(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Director]:
    monkeypatch.setattr(wires, "ProbeSocket", Wire)
    monkeypatch.setattr(probe, "_LONGEST_WAIT", 0.0)
    Wire.opened = []
    made = Director(clock)
    yield made
    for wire in Wire.opened:
        wire.close()
    made.prober.close()
