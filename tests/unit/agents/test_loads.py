# SPDX-License-Identifier: Apache-2.0
"""A host weighs itself, tells the others, and gives its pools away when it has too much."""

import threading
from collections.abc import Mapping
from uuid import UUID

import pytest

from cloudlb.agents.loads import Scales
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.load import Load, Measures
from cloudlb.model.pool import Forwarding, Scheduler
from cloudlb.model.snapshot import PoolView
from tests.planes import member_id
from tests.views import member, view

pytestmark = pytest.mark.requirement("D5")
OTHER = Load(1, 5)


class Kernel(MemoryEngine):
    """Has counted what a test says, of member 1 here and member 2 elsewhere."""

    active, total = (0, 0), (0, 0)

    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        both = zip((1, 2), self.active, self.total, strict=True)
        return tuple(MemberCounters(member_id(n), t, a) for n, a, t in both)


class Host:
    """c1, which has a pool together with c2 and takes five."""

    def __init__(self, weights: Measures, **spec: object) -> None:
        self.kernel = Kernel()
        self.others: dict[str, Load] = {"c2": OTHER}
        self.told: list[Load] = []
        self.given: list[UUID] = []
        one = {"directors": ("c1", "c2"), "forwarding": Forwarding.DR} | spec
        pool = view(member(1, "c1"), member(2, "c2"), **one)
        self.views: dict[UUID, PoolView] = {pool.pool.id: pool}
        self.scales = Scales(
            "c1",
            weights,
            5.0,
            self.kernel,
            threading.RLock(),
            lambda: self.views,
            self._exchange,
            self.given.append,
        )

    def _exchange(self, load: Load) -> Mapping[str, Load]:
        self.told.append(load)
        return self.others

    def weigh(self) -> int:
        """How many pools may have to be given to another host."""
        before = len(self.given)
        self.scales.weigh()
        return len(self.given) - before


def test_open_connections_of_members_here_count() -> None:
    host = Host(Measures(connections=1))
    host.kernel.active = (3, 40)
    host.weigh()
    assert host.told == [Load(3, 5)]
    assert host.scales.loads() == {"c1": Load(3, 5), "c2": OTHER}


def test_connections_that_were_passed_on_count_for_a_period() -> None:
    host = Host(Measures(passed_on=1))
    for total in ((9, 4), (12, 10), (20, 10)):
        host.kernel.total = total
        host.weigh()
    assert [load.value for load in host.told] == [4, 6, 0]


def test_processors_and_sockets_count() -> None:
    host = Host(Measures(cpu=1, sockets=1))
    host.weigh()
    assert host.told[0].value >= 0


def test_pools_are_looked_at_when_somebody_else_is_to_take_connections() -> None:
    host = Host(Measures(connections=1))
    assert host.weigh() == 1, "nothing was known before"
    host.kernel.active = (4, 0)
    assert host.weigh() == 0, "it has room yet"
    host.kernel.active = (5, 0)
    assert host.weigh() == 1
    host.kernel.active = (6, 0)
    assert host.weigh() == 0, "the same other one"
    host.others = {}
    assert host.weigh() == 1, "it is dead"
    host.kernel.active = (0, 0)
    assert host.weigh() == 1


@pytest.mark.parametrize(
    "spec", [{"scheduler": Scheduler.MAGLEV}, {"forwarding": None}, {"directors": ("c2",)}]
)
def test_where_no_pool_goes_by_load_nobody_is_told(spec: dict[str, object]) -> None:
    host = Host(Measures(connections=1), **spec)
    assert host.weigh() == 0
    assert (host.told, host.scales.loads()) == ([], {})
