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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from cloudlb.agents import candidacy
from cloudlb.agents.announce import Announcer
from cloudlb.agents.candidacy import VirtualRouter
from cloudlb.agents.circle import circle
from cloudlb.agents.eastwest import EastWest
from cloudlb.agents.elections import Elections
from cloudlb.agents.guards import Guards
from cloudlb.agents.hops import Hops
from cloudlb.agents.inventory import HostInventory
from cloudlb.agents.loads import Scales
from cloudlb.agents.metrics import HostMetrics, MetricsServer, Standing
from cloudlb.agents.pools import Pools, Source
from cloudlb.agents.ports import Ports, Xdp, directed
from cloudlb.agents.probe import Prober
from cloudlb.agents.questions import Questions
from cloudlb.agents.reconcile import ReconcileQueue
from cloudlb.agents.reporter import Reporter, Revisions
from cloudlb.agents.store import SnapshotStore
from cloudlb.agents.target import Verdict
from cloudlb.agents.targets import switched_off, targets
from cloudlb.agents.upkeep import Attempts, Chore, Upkeep
from cloudlb.agents.witness import Witness
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine
from cloudlb.model.errors import EngineError, Unavailable
from cloudlb.model.host import Role
from cloudlb.model.load import Load, Measures
from cloudlb.model.network import Address
from cloudlb.model.pool import Health
from cloudlb.model.snapshot import Peer, Report, Snapshot
from cloudlb.net.link import LinkMonitor, link_with
from cloudlb.virt.host import Libvirt

LOG = logging.getLogger(__name__)
_INVENTORY_INTERVAL = 5.0
_RETRY_PULL = 1.0
ELECTION = "election"
"""The directory of elections below ``state_dir``."""


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
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    management: Address | None = None
    east_west_port: int = 9893
    election_interval: float = 1.0
    max_load: float = 1000.0
    load_weights: Measures = field(default=Measures(connections=1.0))
    xdp: Xdp = Xdp.AUTO


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
        self._drivers = drivers
        self._lock = threading.RLock()
        self._bell, self._stirred, self._listed = (threading.Event() for _ in range(3))
        self._generation, self._answered_at = 0, 0.0
        self._complete = self._is_settled = False
        self._off: frozenset[UUID] = frozenset()
        self._hops = Hops()
        self._peers: tuple[Peer, ...] | None = None
        self._management_link = ""
        self._revisions = Revisions()
        self._store = SnapshotStore(settings.state_dir)
        self._questions = Questions(engine, self._lock, self._own_load)
        self._guards = Guards(engine, self._lock)
        self._queue: ReconcileQueue[UUID] = ReconcileQueue(self._reconcile)
        self._reporter = self._make_reporter()
        self._ports = self._make_ports()
        self._announcer = Announcer(self._ports)
        self._pools = self._make_pools()
        self._libvirt = _libvirt(settings, self._stirred.set)
        self._inventory = self._make_inventory()
        self._witness, suspects = Witness(), self._pools.idle_backends()
        self._prober = Prober(self._judged, suspects=suspects, witness=self._witness)
        self._east_west = self._make_east_west()
        self._scales = self._make_scales()
        self._elections = self._make_elections()

    def _make_reporter(self) -> Reporter:
        return Reporter(
            lambda report: self._conductor.report(self._settings.host, report),
            self._revisions,
            self._settings.report_interval,
        )

    def _make_ports(self) -> Ports:
        return Ports(
            self._settings.network_mappings,
            frozenset(self._settings.roles),
            self._engine,
            self._lock,
            changed=self._stirred.set,
            xdp=self._settings.xdp,
        )

    def _make_pools(self) -> Pools:
        return Pools(
            self._settings.host,
            self._drivers,
            self._engine,
            self._lock,
            realized=self._reporter.realized,
            announce=self._announcer.announce,
            later=self._queue.add,
            loads=self._loads,
            shared=self._begin_to_share,
        )

    def _make_inventory(self) -> HostInventory:
        return HostInventory(
            self._settings.roles,
            self._settings.engine,
            self._engine,
            self._lock,
            self._ports,
            self._libvirt,
            self._settings.management,
        )

    def _make_east_west(self) -> EastWest:
        return EastWest(
            self._settings.host,
            self._settings.management,
            self._settings.east_west_port,
            self._engine.sharing,
            self._lock,
            self._prober.hurry,
            witness=self._witness,
            heard=self._prober.hear,
        )

    def _make_scales(self) -> Scales:
        return Scales(
            self._settings.host,
            self._settings.load_weights,
            self._settings.max_load,
            self._engine,
            self._lock,
            views=self._pools.views,
            exchange=self._east_west.exchange_loads,
            changed=self._queue.add,
        )

    def _begin_to_share(self) -> None:
        self._east_west.begin_anew()

    def _loads(self) -> Mapping[str, Load]:
        return self._scales.loads()

    def _own_load(self) -> Load | None:
        return self._loads().get(self._settings.host)

    def _make_elections(self) -> Elections:
        return Elections(
            self._settings.state_dir / ELECTION,
            self._settings.election_interval,
            self._engine.pins,
            self._candidacies,
            self._say_who_announces,
        )

    def threads(self) -> dict[str, Callable[[threading.Event], None]]:
        """What must run, by name."""
        wanted: dict[str, Callable[[threading.Event], None]] = {
            "links": LinkMonitor(
                self._ports.link_changed,
                self._ports.link_gone,
                self._links_listed,
                self._ports.readdressed,
            ).run,
            "pull": self._pull_forever,
            "reconcile": self._reconcile_forever,
            "report": self._reporter.run,
            "inventory": self._watch_inventory,
            "upkeep": Upkeep(self._chores()).run,
            "probe": self._prober.run,
            "elections": self._elections.run,
            "loads": self._scales.run,
            "east-west": self._east_west.run,
        }
        if self._libvirt:
            wanted["libvirt"] = self._libvirt.run
        if self._settings.metrics_port:
            wanted["metrics"] = self._make_metrics().run
        return wanted

    def _make_metrics(self) -> MetricsServer:
        metrics = HostMetrics(
            self._engine,
            self._lock,
            self._pools.views,
            self._prober.health,
            self._standing,
            self._loads,
        )
        return MetricsServer(self._settings.metrics_host, self._settings.metrics_port, metrics)

    def _standing(self) -> Standing:
        return Standing(self._generation, self._answered_at, self._queue.failing())

    def changed(self, generation: int) -> None:
        """The doorbell: something is wanted anew."""
        if generation > self._generation:
            self._bell.set()

    def ask(self, question: str, args: dict[str, Any]) -> Any:
        """Answer what only this host knows; see `Questions`."""
        return self._questions.answer(question, args)

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
                self._tell_all()

    def _pull(self) -> None:
        have = self._generation if self._complete else 0
        snapshot = self._conductor.get_desired(self._settings.host, have)
        self._answered_at = time.time()
        if snapshot is not None:
            self._take(snapshot, Source.CONDUCTOR)
            self._complete = True
            if not snapshot.networks:  # a host that was forgotten has none
                self._tell_all()
        try:
            if snapshot is None:
                self._store.confirm(time.time())
            else:
                self._store.save(snapshot, time.time())
        except OSError as error:
            LOG.warning("snapshot=%d not saved: %s", self._generation, error)

    def _tell_all(self) -> None:
        """The conductor may have lost what it was told."""
        self._reporter.repeat()
        self._stirred.set()

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
        self._peers = snapshot.peers
        self._guards.want(snapshot, source)
        with suppress(EngineError):  # upkeep tells it and tries again
            self._guards.bring_about()
        self._ports.set_numbers(networks, directed(self._settings.host, snapshot.pools))
        for pool_id in self._pools.want(snapshot, source):
            self._queue.add(pool_id)
        self._east_west.want(
            circle(self._settings.host, snapshot.pools, snapshot.peers, snapshot.keys)
        )
        self._retarget()

    def _links_listed(self) -> None:
        self._ports.links_listed()
        self._listed.set()

    def _wait_listed(self, stopping: threading.Event) -> None:
        while not stopping.is_set() and not self._listed.wait(0.5):
            pass

    def _reconcile_forever(self, stopping: threading.Event) -> None:
        """Once the links are known: a new director announces its addresses on them."""
        self._wait_listed(stopping)
        self._queue.run(stopping)

    def _reconcile(self, pool_id: UUID) -> None:
        self._guards.bring_about()  # a pool is not realized while its guests may be heard
        self._pools.reconcile(pool_id)

    def _judged(self, verdict: Verdict) -> None:
        self._reporter.health(verdict.member_id, verdict.health, verdict.reason)
        self._pools.set_down(self._prober.down(), self._prober.suspects())
        self._queue.add(verdict.pool_id)

    def _retarget(self) -> None:
        """Probe the members of the pools that this host directs; those that are off are dead.

        And those that are here, for their directors elsewhere.
        """
        with self._lock, self._hops.anew():
            views = self._pools.views().values()
            found = targets(
                self._settings.host,
                views,
                self._drivers,
                self._ports,
                self._inventory,
                self._hops,
            )
            off = switched_off(self._settings.host, views)
        self._prober.set_targets(found)
        self._reporter.watch({m for m, target in found.items() if target.is_directed} | off)
        for member_id in off - self._off:
            self._reporter.health(member_id, Health.OFFLINE, "its server is switched off")
        self._off = off
        self._pools.set_down(self._prober.down(), self._prober.suspects())

    def _candidacies(self) -> tuple[VirtualRouter, ...] | None:
        """Elections of pools that the kernel forwards for: who cannot forward shall not announce.

        None before anything is known: an electing process goes on by its orders, and none is
        started before other directors have told of their connections.
        """
        peers = self._peers
        if peers is None or not self._listed.is_set() or not self._east_west.is_ready():
            return None
        directed = self._pools.directed()
        views = [view for pool_id, view in self._pools.views().items() if pool_id in directed]
        links = {uplinked.network: uplinked.link.name for uplinked in self._ports.uplinks()}
        management = self._settings.management
        if management and views and not self._management_link:
            self._management_link = link_with(management)
        return candidacy.routers(self._settings.host, views, peers, links, self._management_link)

    def _say_who_announces(self) -> None:
        for pool_id in self._pools.said_wrongly():
            self._queue.add(pool_id)

    def _watch_inventory(self, stopping: threading.Event) -> None:
        """Once the links are known: without its tap a server would seem to have no address."""
        self._wait_listed(stopping)
        attempts = Attempts()
        while not stopping.is_set():
            self._stirred.clear()
            attempts.succeeds("inventory", self._take_inventory)
            _wait_any(self._stirred, stopping, _INVENTORY_INTERVAL)
            stopping.wait(0.02)

    def _take_inventory(self) -> None:
        inventory = self._inventory.take(self._revisions.next())
        if inventory is not None:
            self._reporter.inventory(inventory)
            self._retarget()

    def _chores(self) -> list[Chore]:
        """Announcements first: they wait for nothing that the kernel may refuse."""
        return [
            Chore("announce", lambda: self._announcer.again(self._pools.directed())),
            Chore("ports", self._ports.again),
            Chore("sweep", self._sweep),
            Chore("guards", self._guards.bring_about),
            Chore("settle", self._settle),
            Chore("hops", self._look_for_hops),
            Chore("resync", self._resync, self._settings.resync_interval),
        ]

    def _sweep(self) -> None:
        with self._lock:
            self._engine.sweep()

    def _look_for_hops(self) -> None:
        if self._hops.refresh():
            self._retarget()

    def _settle(self) -> None:
        """Once, as soon as all that is wanted is known."""
        if self._complete and not self._is_settled:
            with self._lock:
                self._engine.settle()
            self._is_settled = True

    def _resync(self) -> None:
        """Compare everything with the kernel."""
        self._management_link = ""
        for pool_id in self._pools.resync():
            self._queue.add(pool_id)
        self._ports.resync()


def _libvirt(settings: Settings, changed: Callable[[], None]) -> Libvirt | None:
    """libvirt, where guests are to be looked for."""
    if Role.COMPUTE in settings.roles and settings.libvirt_uri:
        return Libvirt(settings.libvirt_uri, changed)
    return None


def _wait_any(first: threading.Event, stopping: threading.Event, timeout: float) -> bool:
    """Whether an event came in time; notices a stop within half a second."""
    deadline = time.monotonic() + timeout
    while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
        if first.wait(min(left, 0.5)):
            return True
    return False
