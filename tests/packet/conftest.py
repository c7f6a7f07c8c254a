# SPDX-License-Identifier: Apache-2.0
"""A network namespace with a veth pair, and the real engine on it."""

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloudlb.engines.base import HostPort, PortKind, Timeouts
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Plane, TableSizes
from cloudlb.model.ether import Mac
from cloudlb.net.bpf.layout import Number
from cloudlb.net.bpf.programs import Maps, Programs
from tests.planes import NETWORK
from tests.tags import show_tags

SEED = 0x5EED
FLOWS = 1024
MEMBERS = 4096
REDIRECTED, PASS, DROP = 7, 0xFFFFFFFF, 2
UPLINK_MAC = Mac("02:00:00:00:00:01")
TAP_MAC = Mac("fe:54:00:00:00:11")
GUEST_MAC = Mac("52:54:00:00:00:11")
_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x00020000


@dataclass
class Bench:
    """An engine, its programs, and the two interfaces it is attached to."""

    engine: EbpfEngine
    programs: Programs
    uplink: int
    tap: int
    reopen: Callable[..., EbpfEngine] = field(repr=False)

    @property
    def maps(self) -> Maps:
        """The kernel's maps."""
        return self.programs.maps

    def apply(self, *planes: Plane) -> None:
        """Have the engine realize planes, and guard their addresses too."""
        for plane in planes:
            self.engine.apply(plane.pool_id, plane)
        claimed = self.engine.guarded().get(NETWORK, frozenset())
        self.engine.guard(NETWORK, claimed | {plane.address for plane in planes})

    def forget_guest(self) -> None:
        """Attach the tap anew: nothing is known of the guest behind it."""
        self.engine.detach(self.tap)
        for key, _ in list(self.maps.learned.items()):
            del self.maps.learned[key]
        self.engine.attach(HostPort(self.tap, PortKind.TAP, NETWORK, TAP_MAC))

    def clear(self) -> None:
        """Remove all pools and what is known of the guest."""
        for pool_id in self.engine.observe():
            self.engine.apply(pool_id, None)
        self.engine.guard(NETWORK, ())
        self.forget_guest()

    def direct(self, frame: bytes) -> int | None:
        """The number of the member that the director sends a frame to, None for no member."""
        result, out = self.run("director", frame, self.uplink)
        return int.from_bytes(out[4:6]) if result == REDIRECTED else None

    def age(self, seconds: int) -> None:
        """Make all connections and sessions older."""
        ago = seconds * self.maps.settings[Number(0)].second
        for key, flow in list(self.maps.flows.items()):
            self.maps.flows[key] = flow._replace(seen=flow.seen - ago)
        for session_key, session in list(self.maps.sessions.items()):
            self.maps.sessions[session_key] = session._replace(seen=session.seen - ago)

    def to_guest(self, frame: bytes) -> bytes | None:
        """What a guest gets of a frame at its tap, None if nothing."""
        return self._through("to_guest", frame)

    def from_guest(self, frame: bytes) -> bytes | None:
        """What leaves a guest's tap of its frame, None if nothing."""
        return self._through("from_guest", frame)

    def _through(self, program: str, frame: bytes) -> bytes | None:
        result, out = self.run(program, frame, self.tap)
        assert result in (PASS, DROP)
        return out if result == PASS else None

    def run(
        self, program: str, frame: bytes, ifindex: int, repeat: int = 1, segment: int = 0
    ) -> tuple[int, bytes]:
        """What a program makes of a frame that arrives at an interface, to be cut in segments
        of so many octets if not 0.
        """
        context = bytearray(192)  # struct __sk_buff (linux/bpf.h)
        context[40:44] = ifindex.to_bytes(4, "little")
        context[176:180] = segment.to_bytes(4, "little")  # gso_size
        result, out, _ = self.programs.libbpf.test_run(
            self.programs.fd(program), frame, bytes(context), repeat
        )
        return result, out

    def has_express(self, wanted: bool = True) -> None:
        """Attach the uplink for, or not for, the program in its driver."""
        port = HostPort(self.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC, express=wanted)
        self.engine.attach(port)

    def express(self, frame: bytes) -> tuple[int, bytes]:
        """What the program in the uplink's driver, where it must be, makes of a frame."""
        context = struct.pack("=6I", 0, len(frame), 0, self.uplink, 0, 0)  # struct xdp_md
        program = self.programs.fd("express")
        result, out, _ = self.programs.libbpf.test_run(program, frame, context)
        return result, out


@pytest.fixture(scope="package")
def namespace() -> Iterator[None]:
    """Network and mount namespaces of their own for this process; made again at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    saved = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    cwd = Path.cwd()
    assert libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    commands = f"""link set lo up
link add up0 address {UPLINK_MAC} type veth peer name up1
link add tap0 address {TAP_MAC} type veth peer name tap1
link set up0 up
link set up1 up
link set tap0 up
link set tap1 up
"""
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    show_tags("up0")
    yield
    for fd in saved:
        libc.setns(fd, 0)
        os.close(fd)
    os.chdir(cwd)


def _index(name: str) -> int:
    line = subprocess.run(
        ["ip", "-o", "link", "show", name], capture_output=True, text=True, check=True
    ).stdout
    return int(line.split(":")[0])


@contextmanager
def _bench(pins: str, objects: Path) -> Iterator[Bench]:
    bpffs = Path("/sys/fs/bpf") / pins

    def reopen(timeouts: Timeouts | None = None) -> EbpfEngine:
        """One more engine on the same pins."""
        return EbpfEngine(
            bpffs,
            objects,
            TableSizes(FLOWS, members=MEMBERS),
            timeouts,
            seed_of=lambda _pool: SEED,
        )

    engine = reopen()
    programs = engine._programs
    uplink, tap = _index("up0"), _index("tap0")
    engine.attach(HostPort(uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC))
    engine.attach(HostPort(tap, PortKind.TAP, NETWORK, TAP_MAC))
    yield Bench(engine, programs, uplink, tap, reopen)
    engine.detach(uplink)
    engine.detach(tap)
    engine.close()
    shutil.rmtree(bpffs, ignore_errors=True)


@pytest.fixture(scope="package")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled programs are kept for this run."""
    return tmp_path_factory.getbasetemp() / "objects"


@pytest.fixture
def bench(namespace: None, objects: Path) -> Iterator[Bench]:
    """A freshly loaded engine attached to an uplink and a tap."""
    with _bench("cloudlb", objects) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def shared_bench(namespace: None, objects: Path) -> Iterator[Bench]:
    """One engine for all tests of a module: for frames that leave nothing to the next test."""
    with _bench("shared", objects) as shared:
        yield shared
