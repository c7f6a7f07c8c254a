# SPDX-License-Identifier: Apache-2.0
"""How long a member has been leaving travels from the API through the conductor to agents."""

import threading
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.pools import Pools
from cloudlb.drivers.dr import DirectRouting
from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.pool import Port, Protocol
from cloudlb.model.snapshot import Realization
from tests.functional.control import Clock, Control
from tests.functional.servers import on_all


@pytest.fixture
def pool(cloud: Control) -> dict[str, Any]:
    """A realized pool with two members, which may drain for half a minute."""
    made = cloud.pool(members=[{"server": "web1"}, {"server": "web3"}], drain_timeout=30)
    cloud.all_work()
    return made


def _ages(cloud: Control, host: str) -> list[float]:
    """How long removed members have been leaving, by what the conductor tells a host now."""
    told = cloud.conductor.get_desired(host, 0)
    assert told is not None
    return [m.removed_for for view in told.pools for m in view.members if m.removing]


@on_all
def test_every_snapshot_tells_the_age_of_a_removal(cloud: Control, pool: dict[str, Any]) -> None:
    path = f"/v1/pools/{pool['id']}/members"
    cloud.delete(f"{path}/{pool['members'][0]['id']}")
    assert _ages(cloud, "d1") == [0]
    cloud.clock.pass_seconds(20.5)
    assert _ages(cloud, "d1") == _ages(cloud, "c1") == pytest.approx([20.5])
    cloud.delete(f"{path}/{pool['members'][0]['id']}")
    assert _ages(cloud, "d1") == pytest.approx([20.5]), "removing it again is no other removal"
    cloud.post(path, {"member": {"server": "web1"}})
    assert _ages(cloud, "d1") == []
    cloud.delete(f"{path}/{pool['members'][0]['id']}")
    assert _ages(cloud, "d1") == [0]


def test_a_clock_that_is_behind_makes_no_removal_of_the_future(
    cloud: Control, pool: dict[str, Any]
) -> None:
    cloud.delete(f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}")
    cloud.clock.pass_seconds(-5)
    assert _ages(cloud, "d1") == [0]


class Director:
    """The part of d1's agent that brings pools about, with a clock of its own, on one kernel."""

    def __init__(self, cloud: Control) -> None:
        self.cloud, self.agent, self.kernel = cloud, cloud.agents["d1"], MemoryEngine()
        self.started = cloud.clock.now
        self.start()

    def start(self) -> None:
        """A new agent: it knows what is in the kernel, and pulls."""
        clock: Clock = self.cloud.clock
        self.started = clock.now
        self.pools = Pools(
            "d1",
            {"dr": DirectRouting()},
            self.kernel,
            threading.RLock(),
            self._report,
            lambda _plane: None,
            lambda *_: None,
            lambda: clock.now - self.started,
        )
        self.agent.generation = 0
        self.pull()

    def pull(self) -> None:
        """Do what the conductor wants."""
        for pool_id in self.pools.want(self.agent.pull()):
            self.pools.reconcile(pool_id)

    def _report(self, word: Realization) -> None:
        self.agent.report(realizations=(word,))

    def members(self, pool_id: UUID) -> int:
        """How many members there are in the kernel."""
        frontend = self.kernel.observe()[pool_id].frontend
        return len(frontend.backends) if frontend else 0


@pytest.mark.requirement("L9")
def test_an_agent_that_starts_again_ends_a_drain_when_it_would_have(
    cloud: Control, pool: dict[str, Any]
) -> None:
    director, key = Director(cloud), UUID(pool["id"])
    clients = [ip_address(f"198.51.100.{n}") for n in range(2)]
    number = cloud.agents["d1"].pull().networks[0].number
    address, port = ip_address(pool["address"]), Port(Protocol.TCP, 80)
    for client in clients:
        director.kernel.connect(Connection(number, client, 40000, address, port))
    path = f"/v1/pools/{pool['id']}/members"
    cloud.delete(f"{path}/{pool['members'][0]['id']}")
    cloud.agents["c1"].work()
    cloud.agents["c2"].work()
    cloud.clock.pass_seconds(10)
    director.pull()
    cloud.clock.pass_seconds(10)
    director.start()
    cloud.clock.pass_seconds(9)
    director.pools.reconcile(key)
    assert director.members(key) == 2
    assert len(cloud.get(path).json["members"]) == 2
    cloud.clock.pass_seconds(1)
    director.pools.reconcile(key)
    assert director.members(key) == 1
    assert len(cloud.get(path).json["members"]) == 1
