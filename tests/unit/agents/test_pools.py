# SPDX-License-Identifier: Apache-2.0
"""Pools on a host: what is wanted arrives in the engine, members drain, nothing else is lost."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.pools import Pools, Source
from cloudlb.drivers.dr import DirectRouting
from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import BackendState, Plane
from cloudlb.model.errors import CloudlbError, EngineError
from cloudlb.model.pool import DownAction
from cloudlb.model.snapshot import PoolView, Realization, RealizationState
from tests.planes import NETWORK, PORTS, VIP4, guest, member_id
from tests.unit.agents.clock import Clock
from tests.views import member, snapshot, tcp_monitor, view

POOL = UUID(int=1)
CLIENT = Connection(NETWORK, IPv4Address("198.51.100.9"), 40000, VIP4 + 1, PORTS[0])


class Kernel(MemoryEngine):
    """The engine without a kernel, which counts what is asked of it and can refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[UUID] = []
        self.refusal = ""
        self.mastered: set[int] = set()

    def announces(self, router: int) -> bool:
        return not router or router in self.mastered

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        if self.refusal:
            raise EngineError(self.refusal)
        self.applied.append(pool_id)
        super().apply(pool_id, plane)

    def states(self) -> Mapping[UUID, BackendState]:
        """The backends of the pool by member."""
        frontend = self.observe()[POOL].frontend
        assert frontend
        return {b.member_id: b.state for b in frontend.backends}


def realized(generation: int) -> Realization:
    """What the only director of a pool says when it has brought it about."""
    return Realization(POOL, generation, RealizationState.REALIZED, announcing=True)


@dataclass
class Host:
    """A host's pools with everything around them."""

    clock: Clock
    name: str = "d1"
    kernel: Kernel = field(default_factory=Kernel)
    said: list[Realization] = field(default_factory=list)
    announced: list[Plane] = field(default_factory=list)
    awaited: list[tuple[UUID, float]] = field(default_factory=list)
    pools: Pools = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new agent on the same kernel."""
        self.pools = Pools(
            self.name,
            {"dr": DirectRouting()},
            self.kernel,
            threading.RLock(),
            self.said.append,
            self.announced.append,
            lambda pool_id, seconds: self.awaited.append((pool_id, seconds)),
            self.clock,
        )

    def take(
        self, *views: PoolView, generation: int = 1, source: Source = Source.CONDUCTOR
    ) -> None:
        """Take a snapshot and do all the work that it makes."""
        for pool_id in self.pools.want(snapshot(*views, generation=generation), source):
            self.pools.reconcile(pool_id)

    def find_dead(self, *numbers: int) -> None:
        """Probes find exactly these members dead."""
        self.pools.set_down(frozenset(map(member_id, numbers)))
        self.pools.reconcile(POOL)

    @property
    def last(self) -> Realization:
        return self.said[-1]


@pytest.fixture
def host(clock: Clock) -> Host:
    return Host(clock)


BOTH = view(member(1), member(2))
PROBED = view(member(1), member(2), monitor=tcp_monitor())
REMOVED = view(member(1, removing=True), member(2))


def removed_for(seconds: float, **spec: Any) -> PoolView:
    """The view in which member 1 has been removed for so long."""
    return view(member(1, removing=True, removed_for=seconds), member(2), **spec)


@pytest.fixture
def draining(host: Host) -> Host:
    """A director whose removed member 1 has a connection."""
    host.take(view(member(1)))
    assert host.kernel.connect(CLIENT) == member_id(1)
    host.take(REMOVED, generation=2)
    return host


def crowd(*generations: int) -> list[PoolView]:
    """Pools by number from 1, each wanted at a generation."""
    return [
        replace(view(member(number, pool_number=number), number=number), generation=wanted)
        for number, wanted in enumerate(generations, 1)
    ]


@pytest.mark.requirement("L17")
def test_a_change_of_one_pool_is_work_for_one(host: Host) -> None:
    host.take(*crowd(*[1] * 50), generation=1)
    assert len(host.said) == 50
    host.said.clear()
    changed = host.pools.want(snapshot(*crowd(1, 2, *[1] * 48), generation=2))
    assert changed == {UUID(int=2)}
    host.pools.reconcile(UUID(int=2))
    assert host.said == [replace(realized(2), pool_id=UUID(int=2))]


def test_a_pool_that_is_not_wanted_any_more_is_work_too(host: Host) -> None:
    host.take(*crowd(1, 1), generation=1)
    assert host.pools.want(snapshot(*crowd(1), generation=2)) == {UUID(int=2)}


@pytest.mark.parametrize("earlier", [Source.DISK, Source.EXPIRED])
def test_all_pools_are_work_when_the_conductor_speaks_after_the_disk(
    host: Host, earlier: Source
) -> None:
    host.take(*crowd(1, 1), generation=1, source=earlier)
    assert len(host.pools.want(snapshot(*crowd(1, 1), generation=1))) == 2


def test_all_pools_are_work_when_the_conductor_counts_anew(host: Host) -> None:
    host.take(*crowd(1, 1), generation=9)
    assert len(host.pools.want(snapshot(*crowd(1, 1), generation=2))) == 2


def test_pools_of_a_conductor_that_tells_no_generations_are_always_work(host: Host) -> None:
    host.take(*crowd(0, 0), generation=1)
    assert len(host.pools.want(snapshot(*crowd(0, 0), generation=2))) == 2


def test_what_is_wanted_is_applied_and_said(host: Host) -> None:
    host.take(BOTH, generation=5)
    assert host.kernel.states() == dict.fromkeys(map(member_id, (1, 2)), BackendState.ACTIVE)
    assert host.said == [realized(5)]


def test_what_is_there_already_is_said_without_touching_the_kernel(host: Host) -> None:
    host.take(BOTH)
    host.take(BOTH, generation=2)
    assert host.kernel.applied == [POOL]
    assert host.last == realized(2)


@pytest.mark.requirement("L18")
def test_an_agent_that_starts_again_adopts_what_is_there(host: Host) -> None:
    host.take(BOTH)
    host.start()
    host.take(BOTH)
    assert host.kernel.applied == [POOL]
    assert len(host.announced) == 1
    assert host.said == [realized(1)] * 2


def test_a_new_agent_removes_nothing_before_it_was_told_what_is_wanted(host: Host) -> None:
    host.take(BOTH)
    host.start()
    host.pools.set_down(frozenset({member_id(1)}))
    assert host.kernel.applied == [POOL]


@pytest.mark.requirement("L18")
def test_what_a_complete_view_no_longer_names_is_pruned(host: Host) -> None:
    host.take(BOTH, view(member(3, pool_number=2), number=2))
    host.start()
    host.take(view(member(3, pool_number=2), number=2), generation=2)
    assert set(host.kernel.observe()) == {UUID(int=2)}
    assert host.last.pool_id == UUID(int=2)


def test_a_pool_that_is_being_removed_goes_and_that_is_said(host: Host) -> None:
    host.take(BOTH)
    host.take(replace(BOTH, removing=True), generation=2)
    assert host.kernel.observe() == {}
    assert host.last == Realization(POOL, 2, RealizationState.GONE)


def test_a_host_without_business_in_a_pool_says_that_it_has_nothing(host: Host) -> None:
    host.take(view(member(1), directors=("d2",)))
    assert host.kernel.applied == []
    assert host.last.state is RealizationState.GONE


class TestDrain:
    def test_a_removed_member_keeps_its_connections_and_gets_no_new(self, draining: Host) -> None:
        assert draining.kernel.states() == {
            member_id(1): BackendState.IDLE,
            member_id(2): BackendState.ACTIVE,
        }
        assert draining.kernel.connect(CLIENT) == member_id(1)
        assert draining.last.draining == (member_id(1),)
        assert draining.awaited == [(POOL, 1.0)]

    def test_it_goes_with_its_last_connection(self, draining: Host) -> None:
        draining.kernel.close_connection(CLIENT)
        draining.pools.reconcile(POOL)
        assert set(draining.kernel.states()) == {member_id(2)}
        assert draining.last == realized(2)

    def test_without_connections_it_goes_at_once(self, host: Host) -> None:
        host.take(BOTH)
        host.take(REMOVED, generation=2)
        assert set(host.kernel.states()) == {member_id(2)}
        assert (host.last.draining, host.awaited) == ((), [])

    @pytest.mark.requirement("L9")
    def test_it_goes_at_the_deadline(self, draining: Host) -> None:
        draining.clock.pass_seconds(29.9)
        draining.pools.reconcile(POOL)
        assert member_id(1) in draining.kernel.states()
        draining.clock.pass_seconds(0.1)
        draining.pools.reconcile(POOL)
        assert set(draining.kernel.states()) == {member_id(2)}
        assert draining.last.draining == ()
        assert draining.kernel.connect(CLIENT) == member_id(2)

    def test_a_newer_view_does_not_put_the_deadline_off(self, draining: Host) -> None:
        draining.clock.pass_seconds(20)
        draining.take(removed_for(20), generation=3)
        draining.clock.pass_seconds(10)
        draining.pools.reconcile(POOL)
        assert set(draining.kernel.states()) == {member_id(2)}

    def test_a_director_that_hears_of_it_late_ends_it_with_the_others(self, host: Host) -> None:
        host.take(view(member(1)))
        host.kernel.connect(CLIENT)
        host.take(removed_for(25), generation=2)
        assert host.kernel.states()[member_id(1)] is BackendState.IDLE
        host.clock.pass_seconds(5)
        host.pools.reconcile(POOL)
        assert set(host.kernel.states()) == {member_id(2)}

    def test_one_that_was_removed_long_ago_goes_at_once(self, host: Host) -> None:
        host.take(view(member(1)))
        host.kernel.connect(CLIENT)
        host.take(removed_for(30), generation=2)
        assert set(host.kernel.states()) == {member_id(2)}
        assert host.last.draining == ()

    def test_a_timeout_that_is_changed_counts_from_the_removal(self, draining: Host) -> None:
        draining.clock.pass_seconds(29)
        draining.take(removed_for(29, drain_timeout=60), generation=3)
        draining.clock.pass_seconds(30)
        draining.pools.reconcile(POOL)
        assert draining.kernel.states()[member_id(1)] is BackendState.IDLE
        draining.take(removed_for(59, drain_timeout=10), generation=4)
        assert set(draining.kernel.states()) == {member_id(2)}

    def test_a_kernel_that_refuses_does_not_put_the_deadline_off(self, draining: Host) -> None:
        draining.clock.pass_seconds(30)
        draining.kernel.refusal = "no memory"
        with pytest.raises(EngineError):
            draining.pools.reconcile(POOL)
        draining.kernel.refusal = ""
        draining.pools.reconcile(POOL)
        assert set(draining.kernel.states()) == {member_id(2)}

    @pytest.mark.requirement("L9")
    def test_it_goes_at_once_when_probes_find_it_dead(self, draining: Host) -> None:
        draining.find_dead(1)
        assert set(draining.kernel.states()) == {member_id(2)}

    @pytest.mark.requirement("L9")
    def test_it_goes_at_once_when_its_server_is_off(self, draining: Host) -> None:
        draining.take(view(member(1, removing=True, running=False), member(2)), generation=3)
        assert set(draining.kernel.states()) == {member_id(2)}

    def test_it_goes_at_once_when_its_server_is_nowhere(self, draining: Host) -> None:
        lost = replace(member(1, removing=True), placement=None)
        draining.take(view(lost, member(2)), generation=3)
        assert set(draining.kernel.states()) == {member_id(2)}

    def test_one_that_is_taken_back_is_active_and_may_drain_anew(self, draining: Host) -> None:
        draining.clock.pass_seconds(29)
        draining.take(BOTH, generation=3)
        assert draining.kernel.states()[member_id(1)] is BackendState.ACTIVE
        draining.clock.pass_seconds(100)
        draining.take(REMOVED, generation=4)
        draining.clock.pass_seconds(29)
        draining.pools.reconcile(POOL)
        assert draining.kernel.states()[member_id(1)] is BackendState.IDLE
        draining.clock.pass_seconds(1)
        draining.pools.reconcile(POOL)
        assert member_id(1) not in draining.kernel.states()

    def test_after_a_restart_it_drains_on(self, draining: Host) -> None:
        draining.start()
        draining.take(REMOVED, generation=2)
        assert draining.kernel.states()[member_id(1)] is BackendState.IDLE
        assert draining.last.draining == (member_id(1),)

    @pytest.mark.requirement("L9")
    def test_a_restart_gives_it_no_more_time(self, draining: Host) -> None:
        draining.clock.pass_seconds(20)
        draining.start()
        draining.take(removed_for(20), generation=2)
        draining.clock.pass_seconds(9)
        draining.pools.reconcile(POOL)
        assert draining.kernel.states()[member_id(1)] is BackendState.IDLE
        draining.clock.pass_seconds(1)
        draining.pools.reconcile(POOL)
        assert set(draining.kernel.states()) == {member_id(2)}

    def test_a_pool_that_is_removed_waits_for_nobody(self, draining: Host) -> None:
        draining.take(replace(REMOVED, removing=True), generation=3)
        assert draining.kernel.observe() == {}
        assert draining.last == Realization(POOL, 3, RealizationState.GONE)

    def test_the_members_own_host_guards_until_the_conductor_forgets_it(
        self, clock: Clock
    ) -> None:
        host = Host(clock, "c1")
        host.take(REMOVED)
        assert host.kernel.observe()[POOL].guests == (guest(1), guest(2))
        assert host.last == Realization(POOL, 1, RealizationState.REALIZED)

    def test_another_members_host_forgets_it_at_once(self, clock: Clock) -> None:
        host = Host(clock, "c1")
        host.take(view(member(1, "c2", removing=True), member(2)))
        assert host.kernel.observe()[POOL].guests == (guest(2),)


def test_a_member_that_probes_find_dead_gets_no_new_connections(host: Host) -> None:
    host.take(PROBED)
    host.find_dead(1)
    assert host.kernel.states()[member_id(1)] is BackendState.IDLE
    host.find_dead()
    assert host.kernel.states()[member_id(1)] is BackendState.ACTIVE


GIVEN_UP = pytest.mark.parametrize(
    ("action", "state"),
    [
        (DownAction.KEEP, BackendState.IDLE),
        (DownAction.RESCHEDULE, BackendState.DESERTED),
        (DownAction.RESET, BackendState.CUT),
    ],
)


@pytest.mark.requirement("A17")
@GIVEN_UP
def test_the_pool_says_what_becomes_of_a_dead_members_connections(
    host: Host, action: DownAction, state: BackendState
) -> None:
    probed = view(member(1), member(2), monitor=tcp_monitor(), down_action=action)
    host.take(probed)
    host.find_dead(1)
    assert host.kernel.states() == {member_id(1): state, member_id(2): BackendState.ACTIVE}
    host.find_dead()
    assert host.kernel.states()[member_id(1)] is BackendState.ACTIVE


@GIVEN_UP
def test_a_restarted_agent_leaves_dead_members_as_they_are_until_they_have_answered(
    host: Host, action: DownAction, state: BackendState
) -> None:
    probed = view(member(1), member(2), monitor=tcp_monitor(), down_action=action)
    host.take(probed)
    host.find_dead(1)
    host.start()
    assert host.pools.idle_backends() == {member_id(1)}
    host.take(probed, generation=2)
    assert host.kernel.states()[member_id(1)] is state


def test_what_drains_is_not_dead_after_a_restart(host: Host) -> None:
    """An agent that starts suspects whoever takes nothing new; it gives up nobody for that."""
    kept: dict[str, Any] = {"monitor": tcp_monitor(), "down_action": DownAction.RESET}
    removed = view(member(1, removing=True), member(2), **kept)
    host.take(view(member(1), **kept))
    assert host.kernel.connect(CLIENT) == member_id(1)
    host.take(removed, generation=2)
    assert host.kernel.states()[member_id(1)] is BackendState.IDLE
    host.start()
    host.pools.set_down(frozenset(), host.pools.idle_backends())
    host.take(removed, generation=3)
    assert host.kernel.states()[member_id(1)] is BackendState.IDLE


def test_a_member_whose_server_is_off_is_dead_without_probes(host: Host) -> None:
    host.take(view(member(1, running=False), member(2), down_action=DownAction.RESET))
    assert host.kernel.states()[member_id(1)] is BackendState.CUT


def test_a_dead_member_that_takes_connections_in_a_panic_keeps_its_own(host: Host) -> None:
    host.take(
        view(
            member(1),
            member(2),
            monitor=tcp_monitor(),
            down_action=DownAction.RESET,
            panic_threshold=50,
        )
    )
    host.find_dead(1, 2)
    assert set(host.kernel.states().values()) == {BackendState.ACTIVE}


def test_a_member_that_was_dead_before_a_restart_must_answer_first(host: Host) -> None:
    host.take(PROBED)
    host.find_dead(1)
    host.start()
    host.take(PROBED, generation=2)
    assert host.kernel.states()[member_id(1)] is BackendState.IDLE
    host.find_dead()
    assert host.kernel.states()[member_id(1)] is BackendState.ACTIVE


class TestViewFromDisk:
    """What is on disk may be older than what is in the kernel: it removes nothing."""

    def test_it_adds_pools_that_are_missing(self, host: Host) -> None:
        host.take(BOTH, source=Source.DISK)
        assert set(host.kernel.states()) == {member_id(1), member_id(2)}
        assert host.said == []

    def test_newer_members_and_pools_in_the_kernel_stay(self, host: Host) -> None:
        host.take(view(member(1), member(2), member(3)), view(member(4), number=2))
        before = host.kernel.observe()
        host.start()
        host.take(view(member(1)), source=Source.DISK)
        assert host.kernel.observe() == before

    def test_the_conductors_word_ends_it(self, host: Host) -> None:
        host.take(view(member(1), member(2)))
        host.start()
        host.take(view(member(1)), source=Source.DISK)
        host.take(view(member(1)), generation=2)
        assert set(host.kernel.states()) == {member_id(1)}


class TestExpiredView:
    def test_it_adds_no_pool_and_says_nothing(self, host: Host) -> None:
        host.take(BOTH, source=Source.EXPIRED)
        assert (host.kernel.observe(), host.said, host.announced) == ({}, [], [])

    def test_it_adds_no_pool_for_any_other_reason(self, host: Host) -> None:
        host.take(BOTH, source=Source.EXPIRED)
        host.find_dead(1)
        assert host.kernel.observe() == {}
        assert host.pools.resync() == frozenset()

    def test_it_removes_no_pool(self, host: Host) -> None:
        host.take(BOTH)
        host.start()
        host.take(source=Source.EXPIRED)
        host.pools.reconcile(POOL)
        assert set(host.kernel.observe()) == {POOL}

    def test_it_removes_no_pool_that_was_to_be_removed_long_ago(self, host: Host) -> None:
        host.take(BOTH)
        host.start()
        host.take(replace(BOTH, removing=True), source=Source.EXPIRED)
        assert set(host.kernel.observe()) == {POOL}

    def test_it_makes_no_director(self, host: Host) -> None:
        here = view(member(1, "d1"), directors=("d2",))
        host.take(here)
        host.start()
        host.take(view(member(1, "d1")), source=Source.EXPIRED)
        assert host.kernel.observe()[POOL].frontend is None
        assert host.announced == []

    def test_what_is_there_follows_its_probes(self, host: Host) -> None:
        host.take(PROBED)
        host.start()
        host.take(PROBED, source=Source.EXPIRED)
        host.find_dead(1)
        assert host.kernel.states()[member_id(1)] is BackendState.IDLE

    def test_a_fresh_one_ends_it(self, host: Host) -> None:
        host.take(BOTH, source=Source.EXPIRED)
        host.take(BOTH, generation=2)
        assert host.last == realized(2)


class TestFailure:
    def test_it_is_said_with_its_reason_and_raised_for_the_queue(self, host: Host) -> None:
        host.kernel.refusal = "The kernel has no room for more pools."
        with pytest.raises(EngineError):
            host.take(BOTH, generation=3)
        assert host.said == [
            Realization(
                POOL, 3, RealizationState.FAILING, "The kernel has no room for more pools."
            )
        ]

    def test_the_next_try_realizes(self, host: Host) -> None:
        host.kernel.refusal = "busy"
        with pytest.raises(EngineError):
            host.take(BOTH)
        host.kernel.refusal = ""
        host.pools.reconcile(POOL)
        assert host.last == realized(1)
        assert host.announced == [host.kernel.observe()[POOL]]

    def test_a_removal_that_fails_is_not_said_to_be_done(self, host: Host) -> None:
        host.take(BOTH)
        host.kernel.refusal = "busy"
        with pytest.raises(EngineError):
            host.take(replace(BOTH, removing=True), generation=2)
        assert host.last.state is RealizationState.FAILING
        host.kernel.refusal = ""
        host.pools.reconcile(POOL)
        assert host.last == Realization(POOL, 2, RealizationState.GONE)

    def test_an_unknown_data_plane_is_named(self, host: Host) -> None:
        with pytest.raises(CloudlbError, match="Host d1 has no data plane 'tun'; it has dr"):
            host.take(view(member(1), data_plane="tun"))
        assert host.last.state is RealizationState.FAILING


def test_a_new_director_announces_the_address_once(host: Host) -> None:
    host.take(BOTH)
    host.take(view(member(1)), generation=2)
    assert [plane.address for plane in host.announced] == [VIP4 + 1]


def test_a_host_of_members_announces_nothing(clock: Clock) -> None:
    host = Host(clock, "c1")
    host.take(BOTH)
    assert set(host.kernel.observe()) == {POOL}
    assert host.announced == []


def test_what_somebody_removed_from_the_kernel_is_put_back(host: Host) -> None:
    host.take(BOTH)
    host.kernel.apply(POOL, None)
    host.pools.reconcile(POOL)
    assert host.kernel.observe() == {}
    for pool_id in host.pools.resync():
        host.pools.reconcile(pool_id)
    assert set(host.kernel.states()) == {member_id(1), member_id(2)}

    def test_a_pool_that_was_refused_half_way_is_removed_all_the_same(self, host: Host) -> None:
        host.kernel.refusal = "no memory"
        with pytest.raises(EngineError):
            host.take(view(member(1)))
        host.kernel.refusal = ""
        host.take(replace(view(member(1)), removing=True), generation=2)
        assert host.kernel.applied == [POOL]
        assert host.said[-1].state is RealizationState.GONE


class TestSeveralDirectors:
    @pytest.mark.requirement("L14")
    def test_one_that_is_not_elected_forwards_and_announces_nothing(self, clock: Clock) -> None:
        host = Host(clock)
        host.take(view(member(1), directors=("d1", "d2"), virtual_router=9))
        assert host.kernel.states() == {member_id(1): BackendState.ACTIVE}
        assert host.announced == []
        assert not host.last.announcing

    @pytest.mark.requirement("L14")
    def test_a_new_pool_of_an_elected_one_is_announced(self, clock: Clock) -> None:
        host = Host(clock)
        host.kernel.mastered.add(9)
        host.take(view(member(1), directors=("d1", "d2"), virtual_router=9))
        assert [plane.pool_id for plane in host.announced] == [POOL]
        assert host.last.announcing

    @pytest.mark.requirement("L14")
    def test_a_take_over_is_told_at_the_next_reconcile(self, clock: Clock) -> None:
        host = Host(clock)
        host.take(view(member(1), directors=("d1", "d2"), virtual_router=9))
        host.kernel.mastered.add(9)
        host.pools.reconcile(POOL)
        assert host.last.announcing
        assert host.announced == [], "who elects has told the link"
