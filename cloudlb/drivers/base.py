# SPDX-License-Identifier: Apache-2.0
"""The contract of a data-plane driver.

A driver is pure: it may be loaded by the API, and a pool compiles to the same plane on every
call. To add a data plane, subclass `DataPlaneDriver` and name the class under the entry point
group ``cloudlb.dataplane``.
"""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from uuid import UUID

from cloudlb.model.dataplane import Plane
from cloudlb.model.pool import MonitorType, Protocol, Scheduler, Translation
from cloudlb.model.snapshot import PoolView


@dataclass(frozen=True, slots=True)
class RemoteServers:
    """What a data plane needs of a server that is on no host with an agent (L21).

    ``preparation`` is what its user has to see to, empty for nothing. ``same_family``: its address
    is of the pool's family. ``on_link``: it is in a prefix of the pool's network.
    """

    preparation: str = ""
    same_family: bool = True
    on_link: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do; the API refuses the rest and names the drivers that can.

    ``weighted_schedulers`` share by weight; with the others a weight is 0 or 1.
    ``persistence``: clients may be bound to members. ``members_direct``: the hosts of a pool's
    members direct it, and its ``forwarding`` says how these pass packets on.
    ``port_translation``: a member's port may differ from the virtual one. ``translations``: where
    that may happen, as the pool says. ``remote_members``: members need not be guests of a host
    with an agent, if they are as it says.
    """

    description: str
    protocols: frozenset[Protocol]
    address_families: frozenset[int]
    schedulers: frozenset[Scheduler]
    monitors: frozenset[MonitorType]
    weighted_schedulers: frozenset[Scheduler] = frozenset(
        scheduler for scheduler in Scheduler if scheduler.shares_by_weight
    )
    persistence: bool = True
    members_direct: bool = False
    port_translation: bool = False
    translations: frozenset[Translation] = frozenset()
    remote_members: RemoteServers | None = None


class DataPlaneDriver(ABC):
    """One way to bring a pool's packets to its members."""

    name: str

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this driver can do."""

    @abstractmethod
    def compile(self, view: PoolView, host: str, down: Set[UUID]) -> Plane | None:
        """The plane of a pool on a host, None when the host has nothing to do for it.

        ``down`` are the members that probes found dead: they get no new connections.
        """
