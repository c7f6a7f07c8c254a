# SPDX-License-Identifier: Apache-2.0
"""The loaded programs and their maps, pinned so that they outlive the process.

Below the directory on the BPF file system, ``maps-<digest of their layout>-<flow table size>``
holds the maps and ``programs-<digest of the sources>-<flow table size>`` the programs. A new
version with the same layout takes the maps over with all connections in them; one with another
layout or another size of the flow table starts with empty maps.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cloudlb.model.errors import EngineError
from cloudlb.net.bpf import build, layout
from cloudlb.net.bpf.layout import (
    Connections,
    Count,
    DeliveryKey,
    Flow,
    FlowKey,
    MemberRecord,
    Number,
    PoolRecord,
    PortRecord,
    ServiceKey,
    Settings,
    Traffic,
    VipKey,
)
from cloudlb.net.bpf.libbpf import Libbpf
from cloudlb.net.bpf.maps import BpfMap, PerCpuMap

SOURCE = "cloudlb.bpf.c"
_RUN_FRAME = bytes(64)


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
    slots: BpfMap[Number, Number]
    members: BpfMap[Number, MemberRecord]
    deliveries: BpfMap[DeliveryKey, Number]
    flows: BpfMap[FlowKey, Flow]
    traffic: PerCpuMap[Traffic]
    connections: BpfMap[Number, Connections]
    learned: BpfMap[DeliveryKey, Count]
    events: PerCpuMap[Count]
    settings: BpfMap[Number, Settings]


class Programs:
    """Programs and maps of one host, opened or loaded; close() leaves the pins in place."""

    def __init__(self, bpffs: Path, objects: Path, flow_table_size: int) -> None:
        self.libbpf = Libbpf()
        self.version = f"{build.digest()}-{flow_table_size}"
        self._root = bpffs
        self._pinned = bpffs / f"programs-{self.version}"
        self._maps = bpffs / f"maps-{_layout_digest()}-{flow_table_size}"
        try:
            if not self._pinned.is_dir() or not self._maps.is_dir():
                self._load(build.compile_program(SOURCE, objects), flow_table_size)
            self.maps = _open_maps(self.libbpf, self._maps)
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

    def run(self, name: str) -> None:
        """Run a program once, outside any packet's way."""
        self.libbpf.test_run(self._fds[name], _RUN_FRAME)

    def remove_others(self) -> None:
        """Remove the pins of other versions; to be called when nothing is attached to them."""
        for path in self._root.iterdir():
            if path not in (self._pinned, self._maps):
                shutil.rmtree(path)

    def remove(self) -> None:
        """Remove all pins of this host's cloudlb."""
        if self._root.is_dir():
            shutil.rmtree(self._root)

    def close(self) -> None:
        """Give all file descriptors back."""
        for fd in self._fds.values():
            os.close(fd)
        for name in Maps.__slots__:
            getattr(self.maps, name).close()

    def _load(self, path: Path, flow_table_size: int) -> None:
        """Programs are pinned in a draft directory first: a crash leaves no half set."""
        draft = self._root / "programs-draft"
        for directory in (draft, self._pinned):
            if directory.is_dir():
                shutil.rmtree(directory)
        self._maps.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        with self.libbpf.open_object(path) as handle:
            for name, fd in self.libbpf.load(
                handle, self._maps, {"flows": flow_table_size}
            ).items():
                self.libbpf.pin(fd, draft / name)
        draft.rename(self._pinned)


def _layout_digest() -> str:
    return hashlib.sha256((build.SOURCES / "maps.h").read_bytes()).hexdigest()[:16]


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
        slots=BpfMap(libbpf, pins / "slots", number, number),
        members=BpfMap(libbpf, pins / "members", number, layout.MEMBER),
        deliveries=BpfMap(libbpf, pins / "deliveries", layout.DELIVERY_KEY, number),
        flows=BpfMap(libbpf, pins / "flows", layout.FLOW_KEY, layout.FLOW),
        traffic=PerCpuMap(libbpf, pins / "traffic", layout.TRAFFIC),
        connections=BpfMap(libbpf, pins / "connections", number, layout.CONNECTIONS),
        learned=BpfMap(libbpf, pins / "learned", layout.DELIVERY_KEY, layout.COUNT),
        events=PerCpuMap(libbpf, pins / "events", layout.COUNT),
        settings=BpfMap(libbpf, pins / "settings", number, layout.SETTINGS),
    )
