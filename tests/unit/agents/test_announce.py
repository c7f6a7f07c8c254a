# SPDX-License-Identifier: Apache-2.0
"""A new director says three times who has the address, as long as it is its own."""

import threading

import pytest

from cloudlb.agents import announce
from cloudlb.agents.announce import Announcer
from cloudlb.agents.ports import Ports
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.ether import Mac
from cloudlb.model.host import Role
from cloudlb.net.link import Link
from tests.planes import NETWORK, backends, director

PLANE = director(backends(1))
UPLINK = Link(2, "eth0", Mac("02:00:00:00:00:02"))


@pytest.fixture
def ports() -> Ports:
    made = Ports(
        {"lan": "eth0"},
        frozenset({Role.DIRECTOR}),
        MemoryEngine(),
        threading.RLock(),
        lambda: None,
    )
    made.link_changed(UPLINK)
    made.set_numbers({"lan": NETWORK})
    return made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Frames by the name of the interface."""
    frames: list[tuple[str, bytes]] = []
    monkeypatch.setattr(announce, "send_frame", lambda name, frame: frames.append((name, frame)))
    return frames


def test_an_address_is_announced_three_times(ports: Ports, sent: list[tuple[str, bytes]]) -> None:
    announcer = Announcer(ports)
    announcer.announce(PLANE)
    for _ in range(4):
        announcer.again({PLANE.pool_id})
    assert len(sent) == 3
    assert {(name, frame[6:12]) for name, frame in sent} == {("eth0", UPLINK.mac.packed)}


def test_one_that_is_directed_elsewhere_by_now_is_not_announced_again(
    ports: Ports, sent: list[tuple[str, bytes]]
) -> None:
    announcer = Announcer(ports)
    announcer.announce(PLANE)
    announcer.again(())
    announcer.again({PLANE.pool_id})
    assert len(sent) == 1


def test_without_the_networks_link_nothing_is_sent(
    ports: Ports, sent: list[tuple[str, bytes]]
) -> None:
    ports.link_gone(UPLINK.index)
    Announcer(ports).announce(PLANE)
    assert sent == []


def test_a_link_that_takes_no_frame_is_told(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_name: str, _frame: bytes) -> None:
        raise OSError(100, "Network is down")

    monkeypatch.setattr(announce, "send_frame", refuse)
    Announcer(ports).announce(PLANE)
    assert f"address={PLANE.address} not announced" in caplog.text
