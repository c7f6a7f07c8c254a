# SPDX-License-Identifier: Apache-2.0
"""Claimed addresses are guarded; only the conductor frees one, and a refusal is made good."""

import threading
from collections.abc import Collection
from dataclasses import replace

import pytest

from cloudlb.agents.guards import Guards
from cloudlb.agents.pools import Source
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.errors import EngineError
from cloudlb.model.network import Address
from cloudlb.model.snapshot import Claim, Snapshot
from tests.planes import NETWORK, VIP4, VIP6
from tests.views import snapshot

OTHER = NETWORK + 1


class Kernel(MemoryEngine):
    """Counts what it is asked for; can refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False
        self.asked = 0

    def guard(self, network: int, addresses: Collection[Address]) -> None:
        self.asked += 1
        if self.refuses:
            raise EngineError("The kernel takes no more.")
        super().guard(network, addresses)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def guards(kernel: Kernel) -> Guards:
    return Guards(kernel, threading.RLock())


def claims(*found: tuple[int, Address]) -> Snapshot:
    return replace(snapshot(), claims=tuple(Claim(*claim) for claim in found))


def bring(guards: Guards, wanted: Snapshot, source: Source = Source.CONDUCTOR) -> None:
    guards.want(wanted, source)
    guards.bring_about()


def test_each_network_has_its_own(guards: Guards, kernel: Kernel) -> None:
    bring(guards, claims((NETWORK, VIP4), (NETWORK, VIP6), (OTHER, VIP4)))
    assert kernel.guarded() == {NETWORK: {VIP4, VIP6}, OTHER: {VIP4}}


def test_the_conductor_frees_what_it_does_not_name(guards: Guards, kernel: Kernel) -> None:
    bring(guards, claims((NETWORK, VIP4), (OTHER, VIP4)))
    bring(guards, claims((NETWORK, VIP6)))
    assert kernel.guarded() == {NETWORK: {VIP6}}


@pytest.mark.parametrize("source", [Source.DISK, Source.EXPIRED])
def test_the_disk_only_adds(guards: Guards, kernel: Kernel, source: Source) -> None:
    bring(guards, claims((NETWORK, VIP4), (OTHER, VIP4)))
    bring(guards, claims((NETWORK, VIP6)), source)
    assert kernel.guarded() == {NETWORK: {VIP4, VIP6}, OTHER: {VIP4}}


def test_what_is_done_is_not_done_again(guards: Guards, kernel: Kernel) -> None:
    bring(guards, claims((NETWORK, VIP4)))
    guards.bring_about()
    bring(guards, claims((NETWORK, VIP4)))
    assert kernel.asked == 1


def test_what_was_refused_is_brought_about_by_the_next_call(
    guards: Guards, kernel: Kernel
) -> None:
    kernel.refuses = True
    with pytest.raises(EngineError):
        bring(guards, claims((NETWORK, VIP4)))
    kernel.refuses = False
    guards.bring_about()
    assert kernel.guarded() == {NETWORK: {VIP4}}
