# SPDX-License-Identifier: Apache-2.0
"""The agent of a host, put together: who tells whom.

* doorbell or timer: pull, snapshot, queue of pools, driver, engine, report
* netlink: ports, engine, inventory
* libvirt: inventory, report
* probes: health, queue of pools, and report
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from cloudlb.agents.inventory import HostInventory
from cloudlb.agents.pools import Pools, Source
from cloudlb.agents.ports import Ports
from cloudlb.agents.probe import Prober, Verdict
from cloudlb.agents.reconcile import ReconcileQueue
from cloudlb.agents.reporter import Reporter, Revisions
from cloudlb.agents.stats import Stats
from cloudlb.agents.store import SnapshotStore
from cloudlb.agents.targets import switched_off, targets
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine
from cloudlb.model.dataplane import Plane
from cloudlb.model.errors import InvalidRequest, Unavailable
from cloudlb.model.host import Role
from cloudlb.model.network import Address
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import Report, Snapshot
from cloudlb.net.frame import announcement
from cloudlb.net.link import LinkMonitor
from cloudlb.net.packet import send_frame
from cloudlb.virt.host import Libvirt

LOG = logging.getLogger(__name__)
_SWEEP_INTERVAL = 2.0
_INVENTORY_INTERVAL = 5.0
_RETRY_PULL = 1.0
_ANNOUNCEMENTS = 3


class Conductor(Protocol):
    """Where truth is pulled from; methods raise `Unavailable`."""

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        """The snapshot of the host, None when it has the current one."""

    def report(self, host: str, report: Report) -> None:
        """Take facts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How an agent behaves; the fields are the options of group ``[agent]``."""

    host: str
    roles: tuple[Role, ...]
    network_mappings: Mapping[str, str]
    engine: str
    libvirt_uri: str
    state_dir: Path
    pull_interval: float = 60.0
    report_interval: float = 10.0
    resync_interval: float = 60.0
    snapshot_max_age: float = 86400.0


class Agent:
    """One host's agent. `threads` are to be run by a service, `changed` and `ask` by RPC."""

    def __init__(
        self,
        settings: Settings,
        conductor: Conductor,
        drivers: Mapping[str, DataPlaneDriver],
        engine: Engine,
    ) -> None:
        self._settings, self._conductor, self._engine = settings, conductor, engine
        self._lock = threading.RLock()
        self._bell = threading.Event()
        self._stirred = threading.Event()
        self._listed = threading.Event()
        self._generation = 0
        self._complete = False
        self._off: frozenset[UUID] = frozenset()
        self._announcing: dict[UUID, tuple[Plane, int]] = {}
        self._revisions = Revisions()
        self._store = SnapshotStore(settings.state_dir)
        self._queue: ReconcileQueue[UUID] = ReconcileQueue(self._reconcile)
        self._reporter = Reporter(
            lambda report: conductor.report(settings.host, report),
            self._revisions,
            settings.report_interval,
        )
        self._pools = Pools(
            settings.host,
            drivers,
            engine,
            self._lock,
            realized=self._reporter.realized,
            announce=self._announce,
            later=self._queue.add,
        )
        self._ports = Ports(
            settings.network_mappings,
            frozenset(settings.roles),
            engine,
            self._lock,
            changed=self._stirred.set,
        )
        self._libvirt = _libvirt(settings, self._stirred.set)
        self._inventory = HostInventory(
            settings.roles, settings.engine, engine, self._lock, self._ports, self._libvirt
        )
        self._prober = Prober(self._judged, suspects=self._pools.idle_backends())
        self._stats = Stats(engine, self._lock)

    def threads(self) -> dict[str, Callable[[threading.Event], None]]:
        """What must run, by name."""
        wanted: dict[str, Callable[[threading.Event], None]] = {
            "links": LinkMonitor(
                self._ports.link_changed, self._ports.link_gone, self._links_listed
            ).run,
            "pull": self._pull_forever,
            "reconcile": self._reconcile_forever,
            "report": self._reporter.run,
            "inventory": self._watch_inventory,
            "upkeep": self._upkeep,
            "probe": self._prober.run,
        }
        if self._libvirt:
            wanted["libvirt"] = self._libvirt.run
        return wanted

    def changed(self, generation: int) -> None:
        """The doorbell: something is wanted anew."""
        if generation > self._generation:
            self._bell.set()

    def ask(self, question: str, args: dict[str, Any]) -> Any:
        """Answer ``stats`` (args: pool_id) and ``events``; InvalidRequest for anything else."""
        if question == "stats":
            return self._stats.of_pool(_pool_id(args))
        if question == "events":
            with self._lock:
                return self._engine.events()
        raise InvalidRequest(f"An agent does not answer {question!r}; it answers stats, events.")

    def _pull_forever(self, stopping: threading.Event) -> None:
        self._start_from_disk()
        while not stopping.is_set():
            self._bell.clear()
            wait = self._settings.pull_interval * random.uniform(0.8, 1.2)  # noqa: S311
            try:
                self._pull()
            except Unavailable as error:
                LOG.debug("pull failed: %s", error.detail)
                wait = _RETRY_PULL
            if not _wait_any(self._bell, stopping, wait):
                self._reporter.repeat_inventory()

    def _pull(self) -> None:
        have = self._generation if self._complete else 0
        snapshot = self._conductor.get_desired(self._settings.host, have)
        if snapshot is not None:
            self._take(snapshot, Source.CONDUCTOR)
            self._complete = True
        try:
            if snapshot is None:
                self._store.confirm(time.time())
            else:
                self._store.save(snapshot, time.time())
        except OSError as error:
            LOG.warning("snapshot=%d not saved: %s", self._generation, error)

    def _start_from_disk(self) -> None:
        loaded = self._store.load()
        if loaded is None:
            return
        snapshot, saved_at = loaded
        fresh = time.time() - saved_at <= self._settings.snapshot_max_age
        source = Source.DISK if fresh else Source.EXPIRED
        LOG.info("snapshot=%d source=%s", snapshot.generation, source)
        self._take(snapshot, source)

    def _take(self, snapshot: Snapshot, source: Source) -> None:
        self._generation = snapshot.generation
        self._reporter.set_generation(snapshot.generation)
        networks = {n.name: n.number for n in snapshot.networks}
        networks |= {view.network.name: view.network.number for view in snapshot.pools}
        self._guard(snapshot, source)
        self._ports.set_numbers(networks)
        for pool_id in self._pools.want(snapshot, source):
            self._queue.add(pool_id)
        self._retarget()

    def _guard(self, snapshot: Snapshot, source: Source) -> None:
        """Have the guards know all pools' addresses; only the conductor's word frees one."""
        wanted: dict[int, set[Address]] = {}
        for claim in snapshot.claims:
            wanted.setdefault(claim.network, set()).add(claim.address)
        with self._lock:
            there = self._engine.guarded()
            for network in there.keys() | wanted.keys():
                addresses = frozenset(wanted.get(network, ()))
                if source is not Source.CONDUCTOR:
                    addresses |= there.get(network, frozenset())
                if addresses != there.get(network):
                    self._engine.guard(network, addresses)

    def _links_listed(self) -> None:
        self._ports.links_listed()
        self._listed.set()

    def _reconcile_forever(self, stopping: threading.Event) -> None:
        """Once the links are known: a new director announces its addresses on them."""
        while not stopping.is_set() and not self._listed.wait(0.5):
            pass
        self._queue.run(stopping)

    def _reconcile(self, pool_id: UUID) -> None:
        self._pools.reconcile(pool_id)

    def _announce(self, plane: Plane) -> None:
        """Others on the link may still know another's Ethernet address; told again by `_upkeep`.

        Once is not enough: Linux ignores what contradicts an entry younger than a second.
        """
        self._tell(plane)
        self._announcing[plane.pool_id] = plane, _ANNOUNCEMENTS - 1

    def _tell(self, plane: Plane) -> None:
        link = self._ports.uplink_of(plane.network)
        if link is None:
            return
        try:
            send_frame(link.name, announcement(plane.address, link.mac))
        except OSError as error:
            LOG.warning("address=%s not announced: %s", plane.address, error)

    def _announce_again(self) -> None:
        """Repeat announcements of addresses that are still directed here."""
        for pool_id, (plane, left) in list(self._announcing.items()):
            del self._announcing[pool_id]
            if pool_id in self._pools.views():
                self._tell(plane)
                if left > 1:
                    self._announcing[pool_id] = plane, left - 1

    def _judged(self, verdict: Verdict) -> None:
        self._reporter.health(verdict.member_id, verdict.health, verdict.reason)
        self._pools.set_down(self._prober.down(), self._prober.suspects())
        self._queue.add(verdict.pool_id)

    def _retarget(self) -> None:
        """Probe the members of the pools that this host directs; those that are off are dead."""
        with self._lock:
            views = self._pools.views().values()
            found = targets(self._settings.host, views, self._ports, self._inventory)
            off = switched_off(self._settings.host, views)
        self._prober.set_targets(found)
        for member_id in off - self._off:
            self._reporter.health(member_id, Health.OFFLINE, "its server is switched off")
        self._off = off
        self._pools.set_down(self._prober.down(), self._prober.suspects())

    def _watch_inventory(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._stirred.clear()
            inventory = self._inventory.take(self._revisions.next())
            if inventory is not None:
                self._reporter.inventory(inventory)
                self._retarget()
            _wait_any(self._stirred, stopping, _INVENTORY_INTERVAL)
            stopping.wait(0.02)

    def _upkeep(self, stopping: threading.Event) -> None:
        """Forget old connections, and now and then compare everything with the kernel."""
        is_settled = False
        resync_at = time.monotonic() + self._settings.resync_interval
        while not stopping.wait(_SWEEP_INTERVAL):
            self._announce_again()
            with self._lock:
                self._engine.sweep()
                if self._complete and not is_settled:
                    self._engine.settle()
                    is_settled = True
            if time.monotonic() >= resync_at:
                resync_at = time.monotonic() + self._settings.resync_interval
                for pool_id in self._pools.resync():
                    self._queue.add(pool_id)
                self._ports.resync()


def _libvirt(settings: Settings, changed: Callable[[], None]) -> Libvirt | None:
    """libvirt, where guests are to be looked for."""
    if Role.COMPUTE in settings.roles and settings.libvirt_uri:
        return Libvirt(settings.libvirt_uri, changed)
    return None


def _pool_id(args: dict[str, Any]) -> UUID:
    try:
        return UUID(args["pool_id"])
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise InvalidRequest("The question needs pool_id, the UUID of a pool.") from error


def _wait_any(first: threading.Event, stopping: threading.Event, timeout: float) -> bool:
    """Whether an event came in time; notices a stop within half a second."""
    deadline = time.monotonic() + timeout
    while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
        if first.wait(min(left, 0.5)):
            return True
    return False
