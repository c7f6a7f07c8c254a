# SPDX-License-Identifier: Apache-2.0
"""A guest, its host and its director, which both probe it, on one clock within this process."""

import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

import pytest

from cloudlb.agents import probe, wires
from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Verdict
from cloudlb.agents.witness import Witness
from cloudlb.model.pool import Health, Monitor
from tests.planes import member_id
from tests.unit.agents.clock import Clock
from tests.unit.agents.wire import target

STEP = 0.05
_NEAR, _FAR = "host", "director"


def _echo(frame: bytes) -> bytes:
    """The answer to an echo request (IPv4)."""
    swapped = frame[6:12] + frame[:6] + frame[12:26] + frame[30:34] + frame[26:30]
    return swapped + struct.pack("!B", 0) + frame[35:]


class _Socket:
    """A way to the guest from one of both."""

    def __init__(self, scene: "Scene", interface: str) -> None:
        self._scene, self._interface = scene, interface
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._near.setblocking(False)

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, frames: list[bytes]) -> int:
        self._scene.asked[self._interface] += len(frames)
        if self._scene.answers(self._interface):
            for frame in frames:
                self._far.send(_echo(frame))
        return len(frames)

    def receive(self) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self._near.recv(256))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        self._near.close()
        self._far.close()


@dataclass
class Scene:
    """What a test changes: who lives, and which ways are whole."""

    monitor: Monitor
    monkeypatch: pytest.MonkeyPatch
    guest_lives: bool = True
    path_is_whole: bool = True
    agent_lives: bool = True
    verdicts: list[Verdict] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    reports_of_host: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr(wires, "ProbeSocket", lambda name, _port: _Socket(self, name))
        self.monkeypatch.setattr(probe, "_LONGEST_WAIT", 0.0)
        self.clock, self._chance = Clock(), random.Random(17).random
        self.witness = Witness(self.clock)
        self.host = Prober(
            lambda _verdict: None, self.clock, spread=self._chance, witness=self.witness
        )
        here = target(monitor=self.monitor, interface=_NEAR, is_directed=False, listeners=("d1",))
        self.host.set_targets({here.member_id: here})
        self.restart_director()

    def restart_director(self) -> None:
        """A new process, which knows nothing."""
        self.director = Prober(lambda _verdict: None, self.clock, spread=self._chance)
        there = target(monitor=self.monitor, interface=_FAR, home="c1")
        self.director.set_targets({there.member_id: there})

    def answers(self, interface: str) -> bool:
        return self.guest_lives and (self.path_is_whole or interface == _NEAR)

    @property
    def health(self) -> Health:
        """What the director finds."""
        return self.director.health()[member_id(1)]

    def probes_of_the_director(self) -> int:
        """How many since the last question."""
        count, self.asked[_FAR] = self.asked[_FAR], 0
        return count

    def step(self) -> None:
        self.clock.pass_seconds(STEP)
        if self.agent_lives:
            self.reports_of_host += self.host._turn()
            for told in self.witness.due().values():
                self.director.hear("c1", told)
        for _ in range(2):  # send, and hear what came at once
            self.verdicts += self.director._turn()

    def pass_seconds(self, seconds: float) -> None:
        """Let both work so long."""
        for _ in range(round(seconds / STEP)):
            self.step()

    def until(self, health: Health, within: float) -> float:
        """The seconds until the director finds this, or ``within`` and more."""
        began = self.clock()
        while self.health is not health and self.clock() - began <= within + 1:
            self.step()
        return self.clock() - began

    def close(self) -> None:
        self.host.close()
        self.director.close()
