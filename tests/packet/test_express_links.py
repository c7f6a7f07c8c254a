# SPDX-License-Identifier: Apache-2.0
"""The short cut on its interface: put there, kept, exchanged and taken off; frames really sent."""

import json
import logging
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from cloudlb.engines import teardown
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import TableSizes
from cloudlb.model.network import Address
from cloudlb.net.tc import Direction, Filters
from tests.packet.conftest import FLOWS, SEED, UPLINK_MAC, Bench
from tests.packet.frames import tcp
from tests.packet.test_attached import _end, _next_to_member
from tests.planes import NETWORK, VIP4, VIP6, backends, director, mac
from tests.tags import show_tags

LOOPBACK, XDP_PASS = 1, 2
UPLINK = "up0"


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


def in_driver(interface: str = UPLINK) -> int | None:
    """The number of the program that an interface's driver runs; None if it runs none."""
    (shown,) = json.loads(_ip("-json", "link", "show", interface).stdout)
    if "xdp" not in shown:
        return None
    assert shown["xdp"]["mode"] == 1, "by the driver, and not by the kernel in its place"
    return int(shown["xdp"]["prog"]["id"])


def ours(bench: Bench) -> int:
    """The number of the bench's own program."""
    return bench.programs.libbpf.program_id(bench.programs.fd("express"))


def pinned(bench: Bench) -> list[int]:
    """The interfaces whose links are pinned."""
    directory = bench.programs.express_links
    return sorted(int(path.name) for path in directory.iterdir()) if directory.is_dir() else []


def port(index: int, express: bool = True) -> HostPort:
    return HostPort(index, PortKind.UPLINK, NETWORK, UPLINK_MAC, express=express)


@pytest.fixture
def peer(bench: Bench) -> Iterator[None]:
    """The uplink's other end takes what the driver sends: it has a program, which passes all."""
    fd = bench.programs.libbpf.create_xdp_link(
        bench.programs.fd("express"), socket.if_nametoindex("up1")
    )
    yield
    os.close(fd)


@pytest.fixture
def refusals(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged from now on."""
    caplog.set_level(logging.INFO, "cloudlb.engines.attachments")
    return caplog


def sent_back(wire: socket.socket, flags: str, vip: Address) -> bool:
    """Whether a client's segment comes back for the member."""
    wire.send(tcp(flags, vip=vip))
    wanted = mac(1).packed + UPLINK_MAC.packed + tcp(flags, vip=vip)[12:]
    return _next_to_member(wire) == wanted


@pytest.mark.requirement("L4")
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_packets_of_a_known_connection_come_back_without_the_director(
    bench: Bench, peer: None, vip: Address
) -> None:
    bench.apply(director(backends(1), address=vip))
    bench.has_express()
    with _end("up1") as wire, IPRoute() as ipr:
        assert sent_back(wire, "S", vip)
        ipr.tc("del", "clsact", bench.uplink)
        assert all(sent_back(wire, flags, vip) for flags in ("A", "PA", "FA"))
    (row,) = bench.engine.counters(director(()).pool_id)
    assert (row.connections, row.active, row.inactive, row.packets_in) == (1, 0, 1, 4)


def test_on_an_interface_that_is_not_attached_it_knows_no_connections(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    assert [bench.direct(tcp(flags)) for flags in "SA"] == [1, 1]
    frame, run = tcp("A"), bench.programs.libbpf.test_run
    loopback = struct.pack("=2I16x", 0, len(frame))
    assert run(bench.programs.fd("express"), frame, loopback)[:2] == (XDP_PASS, frame)


@pytest.mark.requirement("L18")
def test_the_driver_forwards_after_the_engine_has_closed(bench: Bench, peer: None) -> None:
    other = bench.reopen()
    plane = director(backends(1))
    other.apply(plane.pool_id, plane)
    other.attach(port(bench.uplink))
    other.close()
    with _end("up1") as wire, IPRoute() as ipr:
        assert sent_back(wire, "S", VIP4)
        ipr.tc("del", "clsact", bench.uplink)
        assert sent_back(wire, "A", VIP4)


@pytest.mark.requirement("L18")
def test_the_next_agent_finds_the_program_and_changes_nothing(
    bench: Bench, refusals: pytest.LogCaptureFixture
) -> None:
    bench.has_express()
    pin = bench.programs.express_links / str(bench.uplink)
    before = pin.stat().st_ino, in_driver()
    other = bench.reopen()
    assert bench.uplink in other.ports()
    other.attach(port(bench.uplink))
    other.close()
    assert before == (pin.stat().st_ino, ours(bench))
    assert [record.message for record in refusals.records] == [
        f"interface={bench.uplink} xdp=attached"
    ]


@pytest.mark.requirement("L18")
def test_the_next_version_takes_its_place_in_the_same_link(bench: Bench, objects: Path) -> None:
    bench.has_express()
    pin = bench.programs.express_links / str(bench.uplink)
    link, former = pin.stat().st_ino, in_driver()
    later = EbpfEngine(
        bench.engine.pins.parent, objects, TableSizes(2 * FLOWS), seed_of=lambda _pool: SEED
    )
    later.attach(port(bench.uplink))
    assert in_driver() == later._programs.libbpf.program_id(later._programs.fd("express"))
    assert in_driver() != former
    assert pin.stat().st_ino == link
    bench.engine.attach(port(bench.uplink))
    later.close()


@pytest.mark.requirement("L18")
def test_where_the_exchange_is_cut_short_the_driver_is_not_behind_the_director(
    bench: Bench, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would follow a connection whose ports the director has given to another one."""
    bench.has_express()
    later = EbpfEngine(
        bench.engine.pins.parent, objects, TableSizes(2 * FLOWS), seed_of=lambda _pool: SEED
    )
    driver_when_exchanged = []
    attach = Filters.attach

    def watched(self: Filters, index: int, direction: Direction, fd: int, name: str) -> None:
        driver_when_exchanged.append(in_driver())
        attach(self, index, direction, fd, name)

    monkeypatch.setattr(Filters, "attach", watched)
    later.attach(port(bench.uplink))
    number = later._programs.libbpf.program_id(later._programs.fd("express"))
    assert driver_when_exchanged == [number]
    bench.engine.attach(port(bench.uplink))
    later.close()


def test_it_goes_when_it_is_not_wanted_any_more(bench: Bench) -> None:
    bench.has_express()
    assert (in_driver(), pinned(bench)) == (ours(bench), [bench.uplink])
    bench.has_express(False)
    assert (in_driver(), pinned(bench)) == (None, [])
    assert Filters().attached(bench.uplink, Direction.INGRESS)


def test_it_goes_with_the_director(bench: Bench) -> None:
    bench.has_express()
    bench.engine.detach(bench.uplink)
    assert (in_driver(), pinned(bench)) == (None, [])
    assert not bench.programs.express_links.exists()


FOREIGN = pytest.mark.parametrize("hook", ["xdpdrv", "xdpgeneric"])


@FOREIGN
def test_somebody_elses_program_stays_and_is_told_of_once(
    bench: Bench, refusals: pytest.LogCaptureFixture, hook: str
) -> None:
    pin = next(bench.programs.express_links.parent.glob("programs-*/express"))
    theirs = pin.with_name("theirs")
    bench.programs.libbpf.pin(bench.programs.fd("express"), theirs)
    _ip("link", "set", UPLINK, hook, "pinned", str(theirs))
    for _ in range(3):
        bench.has_express()
    refused = f"interface={bench.uplink} xdp=refused: another XDP program is there"
    assert [record.message for record in refusals.records] == [refused]
    assert "xdp" in _ip("link", "show", UPLINK).stdout
    assert pinned(bench) == []
    assert Filters().attached(bench.uplink, Direction.INGRESS)
    _ip("link", "set", UPLINK, hook, "off")
    bench.has_express()
    assert in_driver() == ours(bench)
    assert refusals.records[-1].message == f"interface={bench.uplink} xdp=attached"
    theirs.unlink()


def test_nobody_takes_the_place_of_ours_unasked(bench: Bench) -> None:
    bench.has_express()
    for hook in ("xdpdrv", "xdpgeneric", "xdp"):
        _ip("link", "set", UPLINK, hook, "off", check=False)
    assert in_driver() == ours(bench)


def test_an_interface_without_such_a_driver_has_the_director_alone(
    bench: Bench, refusals: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        bench.engine.attach(port(LOOPBACK))
    refused = f"interface={LOOPBACK} xdp=refused: the driver runs no XDP programs"
    assert [record.message for record in refusals.records] == [refused]
    assert in_driver("lo") is None
    assert Filters().attached(LOOPBACK, Direction.INGRESS)
    bench.engine.detach(LOOPBACK)


def test_where_tags_are_hidden_it_would_take_frames_of_other_networks(
    bench: Bench, refusals: pytest.LogCaptureFixture
) -> None:
    bench.has_express()
    show_tags(UPLINK, shown=False)
    bench.has_express()
    assert (in_driver(), pinned(bench)) == (None, [])
    assert "xdp=refused: the driver hides VLAN tags" in refusals.records[-1].message
    show_tags(UPLINK)
    bench.has_express()
    assert in_driver() == ours(bench)


@pytest.fixture
def far() -> Iterator[int]:
    """The number of an interface that can be removed, and made anew with the same number."""
    number = 70001
    make_far(number)
    yield number
    with IPRoute() as ipr:
        ipr.link("del", index=number)


def make_far(number: int) -> None:
    with IPRoute() as ipr:
        ipr.link("add", ifname="far0", kind="veth", index=number, peer={"ifname": "far1"})
    show_tags("far0")


def test_an_interface_with_the_number_of_one_that_is_gone_gets_a_link_of_its_own(
    bench: Bench, far: int
) -> None:
    bench.engine.attach(port(far))
    with IPRoute() as ipr:
        ipr.link("del", index=far)
    make_far(far)
    assert in_driver("far0") is None
    bench.engine.attach(port(far))
    assert in_driver("far0") == ours(bench)
    bench.engine.detach(far)
    assert in_driver("far0") is None


def test_an_interface_that_is_gone_is_freed(bench: Bench, far: int) -> None:
    bench.engine.attach(port(far))
    with IPRoute() as ipr:
        ipr.link("del", index=far)
    bench.engine.detach(far)
    assert pinned(bench) == []
    make_far(far)


def test_teardown_takes_it_off(bench: Bench) -> None:
    bench.has_express()
    pins = bench.programs.express_links.parent
    first, *_ = teardown.remove(pins, pins)
    assert first == f"interface {UPLINK}: XDP program"
    assert in_driver() is None
    assert not pins.exists()
