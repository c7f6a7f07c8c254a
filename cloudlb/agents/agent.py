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
from cloudlb.agents.pools import Pools
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
        self._libvirt = (
            Libvirt(settings.libvirt_uri, self._stirred.set) if settings.libvirt_uri else None
        )
        self._inventory = HostInventory(
            settings.roles, settings.engine, engine, self._lock, self._ports, self._libvirt
        )
        self._prober = Prober(self._judged)
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
            _wait_any(self._bell, stopping, wait)

    def _pull(self) -> None:
        have = self._generation if self._complete else 0
        snapshot = self._conductor.get_desired(self._settings.host, have)
        if snapshot is None:
            return
        self._take(snapshot)
        self._complete = True
        try:
            self._store.save(snapshot, time.time())
        except OSError as error:
            LOG.warning("snapshot=%d not saved: %s", snapshot.generation, error)

    def _start_from_disk(self) -> None:
        loaded = self._store.load()
        if loaded is None:
            return
        snapshot, saved_at = loaded
        fresh = time.time() - saved_at <= self._settings.snapshot_max_age
        LOG.info("snapshot=%d source=disk fresh=%s", snapshot.generation, fresh)
        self._take(snapshot, adds=fresh)

    def _take(self, snapshot: Snapshot, adds: bool = True) -> None:
        self._generation = snapshot.generation
        self._reporter.set_generation(snapshot.generation)
        networks = {n.name: n.number for n in snapshot.networks}
        networks |= {view.network.name: view.network.number for view in snapshot.pools}
        self._ports.set_numbers(networks)
        for pool_id in self._pools.want(snapshot, adds):
            self._queue.add(pool_id)
        self._retarget()

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
        """Others on the link may still know another director's Ethernet address."""
        link = self._ports.uplink_of(plane.network)
        if link is None:
            return
        try:
            send_frame(link.name, announcement(plane.address, link.mac))
        except OSError as error:
            LOG.warning("address=%s not announced: %s", plane.address, error)

    def _judged(self, verdict: Verdict) -> None:
        self._reporter.health(verdict.member_id, verdict.health, verdict.reason)
        self._pools.set_down(self._prober.down())
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
        self._pools.set_down(self._prober.down())

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


def _pool_id(args: dict[str, Any]) -> UUID:
    try:
        return UUID(args["pool_id"])
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise InvalidRequest("The question needs pool_id, the UUID of a pool.") from error


def _wait_any(first: threading.Event, stopping: threading.Event, timeout: float) -> None:
    """Wait for an event, but notice a stop within half a second."""
    deadline = time.monotonic() + timeout
    while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
        if first.wait(min(left, 0.5)):
            return
