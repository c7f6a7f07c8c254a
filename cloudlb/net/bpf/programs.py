# SPDX-License-Identifier: Apache-2.0
"""The loaded programs and their maps, pinned so that they outlive the process.

Below the directory on the BPF file system, ``maps-<digest of their layout>-<sizes of tables>``
holds the maps, ``programs-<digest of the sources>-<sizes of tables>`` the programs, and
``express`` the links by which one of them is on interfaces, of whichever version. A new version
with the same layout takes the maps over with all connections in them; with another layout or other
sizes it gets what is in them (see `carry`).
"""

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from cloudlb.model.dataplane import TableSizes
from cloudlb.model.errors import EngineError
from cloudlb.net.bpf import build, layout
from cloudlb.net.bpf.carry import CannotCarryError, Former, Key
from cloudlb.net.bpf.layout import (
    Client,
    ClientKey,
    Connections,
    Count,
    DeliveryKey,
    Flow,
    FlowKey,
    Fragmented,
    FragmentedKey,
    Held,
    HeldKey,
    LearnedKey,
    Mate,
    MemberRecord,
    Number,
    PoolRecord,
    PortRecord,
    ServiceKey,
    Session,
    SessionKey,
    Settings,
    Sighting,
    Traffic,
    VipKey,
)
from cloudlb.net.bpf.libbpf import Libbpf
from cloudlb.net.bpf.maps import BpfMap, NumberArray, PerCpuMap
from cloudlb.net.bpf.ring import Ring

SOURCE = "cloudlb.bpf.c"
_RUN_FRAME = bytes(64)
_OURS = re.compile(r"(maps|programs)-([0-9a-f]{16}(-\d+)+|draft)")
LOG = logging.getLogger(__name__)
_LONGEST_CARRYING = 10_000_000_000  # ns: a process that ends meanwhile must not stop anybody


@dataclass(frozen=True, slots=True)
class Maps:
    """All maps that the programs share with the agent, by the names of maps.h."""

    near_ports: BpfMap[Number, PortRecord]
    ports: BpfMap[Number, PortRecord]
    vips: BpfMap[VipKey, Number]
    guards: BpfMap[VipKey, Number]
    services: BpfMap[ServiceKey, Number]
    pools: BpfMap[Number, PoolRecord]
    tickets: BpfMap[Number, Count]
    slots: NumberArray
    members: BpfMap[Number, MemberRecord]
    deliveries: BpfMap[DeliveryKey, Number]
    flows: BpfMap[FlowKey, Flow]
    clients: BpfMap[ClientKey, Client]
    sessions: BpfMap[SessionKey, Session]
    fragmented: BpfMap[FragmentedKey, Fragmented]
    held: BpfMap[HeldKey, Held]
    traffic: PerCpuMap[Traffic]
    connections: BpfMap[Number, Connections]
    learned: BpfMap[LearnedKey, Sighting]
    events: PerCpuMap[Count]
    settings: BpfMap[Number, Settings]
    leases: BpfMap[Number, Count]
    mates: BpfMap[Number, Mate]


class Programs:
    """Programs and maps of one host, opened or loaded; close() leaves the pins in place."""

    def __init__(self, bpffs: Path, objects: Path, sizes: TableSizes) -> None:
        self.libbpf = Libbpf()
        tables = "-".join(map(str, astuple(sizes)))
        self.version = f"{build.digest()}-{tables}"
        self._root = bpffs
        self._former: Former | None = None
        self._pinned = bpffs / f"programs-{self.version}"
        self.express_links = express_links(bpffs)
        self.pins = bpffs / f"maps-{_layout_digest()}-{tables}"
        try:
            if not self._pinned.is_dir() or not self.pins.is_dir():
                self._load(build.compile_program(SOURCE, objects), sizes)
            if not self._former and (former := self._others()):
                self._former = self._catch_up_with(former)
            self.maps = _open_maps(self.libbpf, self.pins)
            self.news = Ring(self.libbpf, self.pins / "news")
            self.signs = Ring(self.libbpf, self.pins / "signs")
            self._fds = {p.name: self.libbpf.get(p) for p in self._pinned.iterdir()}
        except OSError as error:
            raise EngineError(
                f"The programs cannot be loaded below {bpffs}; is a BPF file system mounted "
                "there, and does this process have CAP_BPF and CAP_NET_ADMIN?",
                str(error),
            ) from error

    def fd(self, name: str) -> int:
        """The file descriptor of a program."""
        return self._fds[name]

    def run(self, name: str, frame: bytes = _RUN_FRAME) -> int:
        """Run a program once, outside any packet's way; what it returns."""
        return self.libbpf.test_run(self._fds[name], frame)[0]

    @contextmanager
    def following(self, wanted: Mapping[str, Key]) -> Iterator[None]:
        """For the exchange of a former version's programs on an interface: what these remember
        goes over after it, and nothing is decided before of what is not known. See `carry`.
        """
        if not (self._former and self._former.behind(wanted)):
            yield
            return
        self._say_carrying(time.monotonic_ns() + _LONGEST_CARRYING)
        try:
            yield
            self._former.catch_up(self.pins, wanted)
        finally:
            self._say_carrying(0)

    def _say_carrying(self, until: int) -> None:
        zero = Number(0)
        self.maps.settings[zero] = self.maps.settings[zero]._replace(carrying=until)

    def remove_others(self) -> bool:
        """Remove the pins of other versions; to be called when nothing is attached to them.

        Whether there was one that wrote to maps of its own.
        """
        former, self._former = self._former, None
        for path in pinned(self._root):
            if path not in (self._pinned, self.pins):
                shutil.rmtree(path)
        return former is not None

    def close(self) -> None:
        """Give all file descriptors back."""
        self.news.close()
        self.signs.close()
        for fd in self._fds.values():
            os.close(fd)
        for name in Maps.__slots__:
            getattr(self.maps, name).close()

    def _load(self, path: Path, sizes: TableSizes) -> None:
        """What a former version knows goes over; if it cannot, the maps start empty."""
        former = self._others()
        if former and not self.pins.is_dir():
            try:
                self._make(path, sizes, former)
                LOG.info("maps=%s state=carried-over", former)
                return
            except CannotCarryError as error:
                self._drop(former, error)
        self._make(path, sizes)

    def _drop(self, former: Path, error: CannotCarryError) -> None:
        """Nobody shall take the connections there for connections of the members here."""
        LOG.warning("maps=%s state=dropped: %s", former, error)
        shutil.rmtree(former)

    def _others(self) -> Path | None:
        """The latest maps of another version that somebody may still write to."""
        others = [p for p in pinned(self._root) if p.name.startswith("maps-")]
        others = [p for p in others if p not in (self.pins, self._root / "maps-draft")]
        return max(others, key=lambda p: p.stat().st_mtime_ns, default=None)

    def _catch_up_with(self, former: Path) -> Former | None:
        """Of a version whose maps were carried over by a process that did not finish."""
        try:
            shapes = {p.name: self.libbpf.pinned_shape(p) for p in self.pins.iterdir()}
            return Former(self.libbpf, former, shapes)
        except CannotCarryError as error:
            self._drop(former, error)
            return None

    def _make(self, path: Path, sizes: TableSizes, former: Path | None = None) -> None:
        """Everything is pinned in draft directories first: a crash leaves no half set."""
        programs, maps = (self._root / f"{kind}-draft" for kind in ("programs", "maps"))
        for directory in (programs, maps, self._pinned):
            if directory.is_dir():
                shutil.rmtree(directory)
        if self.pins.is_dir():
            maps = self.pins
        maps.mkdir(parents=True, exist_ok=True)
        programs.mkdir()
        with self.libbpf.open_object(path) as handle:
            shapes = self.libbpf.prepare(handle, maps, _by_map(sizes))
            self._former = Former(self.libbpf, former, shapes) if former else None
            if self._former:
                self._former.share(maps)
            for name, fd in self.libbpf.load(handle).items():
                self.libbpf.pin(fd, programs / name)
        if self._former:
            self._former.copy(maps)
        programs.rename(self._pinned)
        if maps != self.pins:
            maps.rename(self.pins)


def pinned(root: Path) -> list[Path]:
    """The directories of pins below ``root``, of this and other versions; no one else's."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _OURS.fullmatch(path.name))


def express_links(root: Path) -> Path:
    """Where the links of XDP programs are pinned, of this and other versions."""
    return root / "express"


def _layout_digest() -> str:
    state = hashlib.sha256()
    for name in ("records.h", "maps.h"):
        state.update((build.SOURCES / name).read_bytes())
    return state.hexdigest()[:16]


def _by_map(sizes: TableSizes) -> dict[str, int]:
    """The sizes of the maps that have none of their own."""
    return {
        "flows": sizes.flows,
        "sessions": sizes.flows,
        "clients": sizes.clients,
        "fragmented": sizes.fragments,
        "members": sizes.members,
        "connections": sizes.members,
        "deliveries": sizes.members,
        "traffic": sizes.members,
    }


def _open_maps(libbpf: Libbpf, pins: Path) -> Maps:
    number = layout.NUMBER
    return Maps(
        near_ports=BpfMap(libbpf, pins / "near_ports", number, layout.PORT),
        ports=BpfMap(libbpf, pins / "ports", number, layout.PORT),
        vips=BpfMap(libbpf, pins / "vips", layout.VIP_KEY, number),
        guards=BpfMap(libbpf, pins / "guards", layout.VIP_KEY, number),
        services=BpfMap(libbpf, pins / "services", layout.SERVICE_KEY, number),
        pools=BpfMap(libbpf, pins / "pools", number, layout.POOL),
        tickets=BpfMap(libbpf, pins / "tickets", number, layout.TICKET),
        slots=NumberArray(libbpf, pins / "slots", number, number),
        members=BpfMap(libbpf, pins / "members", number, layout.MEMBER),
        deliveries=BpfMap(libbpf, pins / "deliveries", layout.DELIVERY_KEY, number),
        flows=BpfMap(libbpf, pins / "flows", layout.FLOW_KEY, layout.FLOW),
        clients=BpfMap(libbpf, pins / "clients", layout.CLIENT_KEY, layout.CLIENT),
        sessions=BpfMap(libbpf, pins / "sessions", layout.SESSION_KEY, layout.SESSION),
        fragmented=BpfMap(libbpf, pins / "fragmented", layout.FRAGMENTED_KEY, layout.FRAGMENTED),
        held=BpfMap(libbpf, pins / "held", layout.HELD_KEY, layout.HELD),
        traffic=PerCpuMap(libbpf, pins / "traffic", layout.TRAFFIC),
        connections=BpfMap(libbpf, pins / "connections", number, layout.CONNECTIONS),
        learned=BpfMap(libbpf, pins / "learned", layout.LEARNED_KEY, layout.SIGHTING),
        events=PerCpuMap(libbpf, pins / "events", layout.COUNT),
        settings=BpfMap(libbpf, pins / "settings", number, layout.SETTINGS),
        leases=BpfMap(libbpf, pins / "leases", number, layout.COUNT),
        mates=BpfMap(libbpf, pins / "mates", number, layout.MATE),
    )
