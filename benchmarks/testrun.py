# SPDX-License-Identifier: Apache-2.0
"""The programs under BPF_PROG_TEST_RUN, in namespaces of its own: prints samples as JSON.

    unshare --net --mount python -m benchmarks.testrun DIRECTORY [--rounds N] [--repeat N]

A case is a program on the frames of 64 connections, ``repeat`` runs each; its sample is the mean
ns of a run. All cases of a round follow one another, so that their ratios have the same machine.
"""

import argparse
import json
import platform
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import (
    Algorithm,
    Backend,
    BackendState,
    Frontend,
    Guest,
    Mode,
    Plane,
    TableSizes,
)
from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.net import frame
from cloudlb.net.bpf import build
from cloudlb.net.bpf.libbpf import Libbpf
from tests.tags import show_tags

FLOWS = 64
TABLE_SIZE = 262144
FRESH = 1024
"""New connections per round and family."""
BPFFS = Path("/sys/fs/bpf")
NETWORK = 7
UPLINK_MAC = Mac("02:00:00:00:00:01")
TAP_MAC = Mac("fe:54:00:00:00:01")
CLIENT_MAC = Mac("02:00:00:00:00:99")
MEMBERS = tuple(Mac(f"52:54:00:00:00:{n:02x}") for n in range(1, 5))
CLIENT: dict[int, Address] = {4: ip_address("198.51.100.9"), 6: ip_address("2001:db8:ffff::9")}
VIP: dict[int, Address] = {4: ip_address("192.0.2.100"), 6: ip_address("2001:db8::100")}
OTHER: dict[int, Address] = {4: ip_address("192.0.2.7"), 6: ip_address("2001:db8::7")}
TURNING: dict[int, Address] = {4: ip_address("192.0.2.101"), 6: ip_address("2001:db8::101")}
"""Of pools whose member has the uplink's own Ethernet address: what the driver's program has
written to a frame leaves it as it came, for the next run."""
_ACK = 0x10
_FLAGS_AT = {4: 47, 6: 67}


@dataclass(frozen=True)
class Case:
    """A program on frames that arrive at an interface; ``hits`` frames go to members. One
    ``in_driver`` is of XDP.
    """

    name: str
    program: int
    ifindex: int
    frames: Sequence[bytes]
    hits: bool = False
    in_driver: bool = False

    def context(self, frame: bytes) -> bytes:
        """The struct __sk_buff, or xdp_md, of a frame (linux/bpf.h)."""
        if self.in_driver:
            return struct.pack("=6I", 0, len(frame), 0, self.ifindex, 0, 0)
        return struct.pack("=40xI148x", self.ifindex)


class Rig:
    """An engine with a pool in each family, an uplink and a guest's tap, and the floors."""

    def __init__(self, directory: Path) -> None:
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)
        self.uplink, self.tap = make_veth("up0", UPLINK_MAC), make_veth("tap0", TAP_MAC)
        self.engine = EbpfEngine(BPFFS / "cloudlb", directory, TableSizes(TABLE_SIZE))
        show_tags("up0")
        uplink = HostPort(self.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC, express=True)
        self.engine.attach(uplink)
        self.engine.attach(HostPort(self.tap, PortKind.TAP, NETWORK, TAP_MAC))
        for plane in PLANES:
            self.engine.apply(plane.pool_id, plane)
        self.engine.guard(NETWORK, VIP.values())
        self.libbpf = Libbpf()
        pins = next((BPFFS / "cloudlb").glob("programs-*"))
        self.programs = {path.name: self.libbpf.get(path) for path in pins.iterdir()}
        self._load_floors(directory)

    def run(self, case: Case, repeat: int) -> float:
        """Mean ns of a run over all frames of a case."""
        before = self.counted()
        spent = sum(
            self.libbpf.test_run(case.program, one, case.context(one), repeat)[2]
            for one in case.frames
        )
        passed = self.counted() - before
        expected = len(case.frames) * repeat if case.hits else 0
        if passed != expected:
            raise RuntimeError(f"{case.name}: {passed} packets went to members, not {expected}")
        return spent / len(case.frames)

    def counted(self) -> int:
        """Packets that the director has sent to members."""
        rows = (row for plane in PLANES for row in self.engine.counters(plane.pool_id))
        return sum(row.packets_in for row in rows)

    def cases(self) -> Iterator[Case]:
        """What a round measures; the connections of ``hit`` are opened first."""
        for version in VIP:
            known = _frames(version, range(FLOWS), _ACK)
            answers = _frames(version, range(FLOWS), _ACK, answer=True)
            yield self._case("nothing", version, known)
            yield self._case("parser", version, known)
            yield self._case("director", version, _frames(version, range(FLOWS), _ACK, OTHER))
            self.run(self._case("director", version, _frames(version, range(FLOWS)), True), 1)
            self.run(self._case("director", version, known, True), 1)
            yield self._case("director", version, known, True)
            yield self._case("from_guest", version, answers)
            yield self._case("to_guest", version, known)
            turning = _frames(version, range(FLOWS), _ACK, TURNING)
            opening = _frames(version, range(FLOWS), 0, TURNING)
            for frames in (opening, turning):
                self.run(self._case("director", version, frames, True), 1)
            yield self._case("frame_parser", version, turning)
            yield self._case("express", version, turning, True)

    def fresh(self, version: int, number: int) -> tuple[Case, Case]:
        """The parser and the director on connections that no round before has had."""
        syns = _frames(version, range(FLOWS + number * FRESH, FLOWS + (number + 1) * FRESH))
        return self._case("parser", version, syns), self._case("director", version, syns, True)

    def _case(
        self, program: str, version: int, frames: Sequence[bytes], hits: bool = False
    ) -> Case:
        kind = {"director": " hit" if hits else " pass"}.get(program, "")
        ifindex = self.tap if program.endswith("guest") else self.uplink
        in_driver = program in ("express", "frame_parser")
        name, fd = f"{program}{kind} {version}", self.programs[program]
        return Case(name, fd, ifindex, frames, hits, in_driver)

    def _load_floors(self, directory: Path) -> None:
        target = directory / "parser.o"
        headers = [f"-I{build.SOURCES}", f"-I/usr/include/{platform.machine()}-linux-gnu"]
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", *headers]
        source = str(Path(__file__).with_name("parser.bpf.c"))
        subprocess.run(["clang", *flags, "-c", source, "-o", str(target)], check=True)
        pins = BPFFS / "floors"
        pins.mkdir()
        with self.libbpf.open_object(target) as handle:
            self.libbpf.prepare(handle, pins, {})
            for name, fd in self.libbpf.load(handle).items():
                self.libbpf.pin(fd, pins / name)
                self.programs[name] = self.libbpf.get(pins / name)


def make_veth(name: str, mac: Mac) -> int:
    """A pair of interfaces that are up; the number of the first."""
    pair = ["type", "veth", "peer", "name", f"{name}p"]
    subprocess.run(["ip", "link", "add", name, "address", str(mac), *pair], check=True)
    for end in (name, f"{name}p"):
        subprocess.run(["ip", "link", "set", end, "up"], check=True)
    return socket.if_nametoindex(name)


def _plane(pool: int, vip: Address, macs: Sequence[Mac], guests: int) -> Plane:
    """A pool whose first members are behind this host's tap."""
    ids = [UUID(int=pool << 32 | number) for number in range(len(macs))]
    members = list(zip(ids, macs, strict=True))
    backends = tuple(
        Backend(member, Mode.DR, mac, 1, BackendState.ACTIVE) for member, mac in members
    )
    frontend = Frontend(Algorithm.ROUND_ROBIN, (Port(Protocol.TCP, 80),), backends)
    here = tuple(Guest(member, mac) for member, mac in members[:guests])
    return Plane(UUID(int=pool), NETWORK, vip, frontend, here)


PLANES = (
    *(_plane(version, vip, MEMBERS, 1) for version, vip in VIP.items()),
    *(_plane(0x10 + version, vip, [UPLINK_MAC], 0) for version, vip in TURNING.items()),
)


def _frames(
    version: int,
    numbers: Sequence[int],
    flags: int = 0,
    towards: dict[int, Address] = VIP,
    answer: bool = False,
) -> list[bytes]:
    """Segments of numbered connections: SYN, or with other flags (checksums do not matter)."""
    frames = []
    for number in numbers:
        client = CLIENT[version] + number // 32768
        path = frame.Path(CLIENT_MAC, UPLINK_MAC, client, towards[version])
        if answer:
            path = frame.Path(MEMBERS[0], CLIENT_MAC, VIP[version], CLIENT[version])
        octets = bytearray(frame.Syn(path, 80).frame(1, 1024 + number % 32768))
        if flags:
            octets[_FLAGS_AT[version]] = flags
        frames.append(bytes(octets))
    return frames


def measure(directory: Path, rounds: int, repeat: int) -> dict[str, list[float]]:
    """Samples by case, one for each round after a first that warms up."""
    rig = Rig(directory)
    cases = list(rig.cases())
    samples: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        found = {case.name: rig.run(case, repeat) for case in cases}
        for version in VIP:
            for name, case in zip(("one", "new"), rig.fresh(version, number), strict=True):
                found[f"{name} {version}"] = rig.run(case, 1)
        for name, value in found.items() if number else ():
            samples.setdefault(name, []).append(value)
    return samples


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=4000)
    options = parser.parse_args()
    print(json.dumps(measure(options.directory, options.rounds, options.repeat)))


if __name__ == "__main__":
    main()
