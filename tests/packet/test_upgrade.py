# SPDX-License-Identifier: Apache-2.0
"""A version follows another whose maps have other records, or other sizes: nothing is lost."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import TCP

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Algorithm, AliasPart, Mode, Plane, TableSizes
from cloudlb.model.errors import EngineError
from cloudlb.model.network import Address
from cloudlb.model.pool import Persistence
from cloudlb.net.bpf import build, layout
from cloudlb.net.bpf.carry import Former
from cloudlb.net.bpf.layout import Codec, Number
from cloudlb.net.bpf.programs import pinned
from tests.packet.conftest import DROP, FLOWS, MEMBERS, SEED, TAP_MAC, UPLINK_MAC, Bench
from tests.packet.director import from_member, translating
from tests.packet.edge import NUMBER, OWN_PORT, back
from tests.packet.frames import arp, client_of, ether, ip, tcp
from tests.planes import (
    NETWORK,
    VIP4,
    VIP6,
    backends,
    compute,
    director,
    mac,
    own,
    translated,
)

pytestmark = pytest.mark.requirement("L18")
POOL_KEYS = (director([]).pool_id, director([], pool=2).pool_id, director([], pool=3).pool_id)
Change = Callable[[pytest.MonkeyPatch, Path], None]


def patched(monkeypatch: pytest.MonkeyPatch, sources: Path, **records: tuple[str, str]) -> None:
    """The next version's sources, in which records have another field before a known one."""
    shutil.copytree(build.SOURCES, sources, dirs_exist_ok=True)
    text = (sources / "records.h").read_text()
    for codec, (where, form) in records.items():
        assert text.count(where) == 1, where
        text = text.replace(where, f"\t__u64 added_to_{codec};\n{where}")
        kind = getattr(layout, codec)._kind
        monkeypatch.setattr(layout, codec, Codec(kind, form))
    (sources / "records.h").write_text(text)
    monkeypatch.setattr(build, "SOURCES", sources)


def as_it_is(_monkeypatch: pytest.MonkeyPatch, _sources: Path) -> None:
    """The same version."""


def other_pools(monkeypatch: pytest.MonkeyPatch, sources: Path) -> None:
    """Records of pools have one field more: an eight-octet number aligns what follows it."""
    field = "\t__u16 tells_clients; /* a TCP option"
    patched(monkeypatch, sources, POOL=(field, "16sI16sIIIIIIIIIIIIIHHHH8xH2x4x"))


def other_connections(monkeypatch: pytest.MonkeyPatch, sources: Path) -> None:
    """So have those of connections and of sessions, whose fields stand elsewhere then."""
    patched(
        monkeypatch,
        sources,
        FLOW=("\t__u32 member;\n\t__u32 alias;", "Q8xIIBBB5x"),
        SESSION=("\t__u16 port;\n\t__u16 client_port;\n\t__u8 mode;", "Q16sII8x2s2sB3x16s"),
        MEMBER=("\t__u32 pool;\n\t__u32 weight;", "16s8xIII6sBB16s2sBB"),
    )


def planes() -> tuple[Plane, ...]:
    """Pools of several kinds, one with a guest behind the tap."""
    bound = Persistence(600, 32)
    first = director(backends(1, 2, 3), Algorithm.LC_LVS, persistence=bound)
    full = translating(Mode.FULL_NAT, VIP6, NUMBER, pool=2)
    assert full.frontend
    full = replace(full, frontend=replace(full.frontend, aliases=AliasPart()))
    return first, full, compute(17, address=VIP4 + 1, pool=3)


def follow(bench: Bench, objects: Path, sizes: TableSizes) -> EbpfEngine:
    """The next version, on the same interfaces."""
    pins = bench.engine.pins.parent
    return EbpfEngine(pins, objects, sizes, seed_of=lambda _pool: SEED)


def attach(engine: EbpfEngine, bench: Bench) -> None:
    engine.attach(HostPort(bench.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC))
    engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK, TAP_MAC))


@pytest.mark.parametrize("change", [as_it_is, other_pools, other_connections])
@pytest.mark.parametrize(
    "sizes", [TableSizes(FLOWS, members=MEMBERS), TableSizes(2 * FLOWS, 4096, 512, 2 * MEMBERS)]
)
def test_everything_that_is_known_goes_over(
    bench: Bench,
    objects: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Change,
    sizes: TableSizes,
) -> None:
    bench.apply(*planes())
    ports = range(40000, 40060)
    chosen = {port: bench.direct(tcp(sport=port, client=VIP4 + 100 + port % 50)) for port in ports}
    for port in ports:
        bench.direct(tcp(sport=port, client=VIP4 + 100 + port % 50, flags="A"))
    aliased = {
        port: bench.run("director", tcp(vip=VIP6, sport=port), bench.uplink) for port in ports
    }
    bench.run("from_guest", arp(own(17), VIP4 + 1, hardware=mac(17)), bench.tap)
    before = bench.engine
    counted = {key: before.counters(key) for key in POOL_KEYS}
    known = before.observe(), before.guarded()
    (seen,) = {VIP4, own(17)} & {*before.guest_addresses(bench.tap)}
    events = before.events()
    assert len({*chosen.values()}) == 3
    assert seen == own(17)

    change(monkeypatch, tmp_path / "sources")
    engine = follow(bench, objects, sizes)
    try:
        assert (engine.observe(), engine.guarded()) == known
        assert seen in engine.guest_addresses(bench.tap)
        assert {key: engine.counters(key) for key in POOL_KEYS} == counted
        assert engine.events() == events
        late = tcp(sport=50000)
        member = bench.direct(late)
        attach(engine, bench)
        after = replace(bench, engine=engine, programs=engine._programs)
        assert after.maps.flows.max_entries == sizes.flows
        for port, number in chosen.items():
            frame = tcp(sport=port, client=VIP4 + 100 + port % 50, flags="PA")
            assert after.direct(frame) == number
        assert after.direct(tcp(sport=50000, flags="A")) == member
        for port, sent in aliased.items():
            assert after.run("director", tcp(vip=VIP6, sport=port), after.uplink) == sent
        engine.settle()
        (first, *_) = (
            sum(c.active + c.inactive for c in engine.counters(key)) for key in POOL_KEYS
        )
        assert first == len(ports) + 1
        assert {p.name.split("-")[0] for p in pinned(bench.engine.pins.parent)} == {
            "maps",
            "programs",
        }
        assert len(pinned(bench.engine.pins.parent)) == 2
    finally:
        engine.close()


def test_an_upgrade_that_was_interrupted_is_finished_by_the_next_process(
    bench: Bench, objects: Path
) -> None:
    """What the former programs have noted until then goes over, too."""
    bench.apply(director(backends(1, 2, 3)))
    sizes = TableSizes(2 * FLOWS, members=MEMBERS)
    follow(bench, objects, sizes).close()
    noted = {port: bench.direct(tcp(sport=port)) for port in range(40000, 40009)}
    engine = follow(bench, objects, sizes)
    try:
        attach(engine, bench)
        after = replace(bench, engine=engine, programs=engine._programs)
        assert {p: after.direct(tcp(sport=p, flags="A")) for p in noted} == noted
        engine.settle()
        assert sum(c.active for c in engine.counters(POOL_KEYS[0])) == len(noted)
    finally:
        engine.close()


def test_a_connection_that_another_one_follows_meanwhile_is_not_brought_back(
    bench: Bench, objects: Path
) -> None:
    """The former programs forward until an interface has the new ones."""
    bench.apply(director(backends(1, 2, 3)))
    first = bench.direct(tcp())
    engine = follow(bench, objects, TableSizes(2 * FLOWS, members=MEMBERS))
    try:
        bench.direct(tcp(flags="RA"))
        second = bench.direct(tcp())
        assert second != first
        attach(engine, bench)
        after = replace(bench, engine=engine, programs=engine._programs)
        assert after.direct(tcp(flags="A")) == second
    finally:
        engine.close()


def test_a_draft_that_a_crash_has_left_is_no_former_version(
    bench: Bench, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(director(backends(1, 2, 3)))
    noted = {port: bench.direct(tcp(sport=port)) for port in range(40000, 40009)}
    sizes = TableSizes(2 * FLOWS, members=MEMBERS)

    def crash(_self: Former, _pins: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Former, "copy", crash)
        with pytest.raises(KeyboardInterrupt):
            follow(bench, objects, sizes)
    assert {p.name for p in pinned(bench.engine.pins.parent)} >= {"maps-draft", "programs-draft"}
    engine = follow(bench, objects, sizes)
    try:
        attach(engine, bench)
        after = replace(bench, engine=engine, programs=engine._programs)
        assert {p: after.direct(tcp(sport=p, flags="A")) for p in noted} == noted
    finally:
        engine.close()


def test_a_kernel_that_refuses_drops_nothing(
    bench: Bench, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former programs go on; the agent does not start, and says so."""
    bench.apply(director(backends(1)))

    def refuse(_self: Former, _pins: Path) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as broken:
        broken.setattr(Former, "copy", refuse)
        with pytest.raises(EngineError):
            follow(bench, objects, TableSizes(2 * FLOWS, members=MEMBERS))
    assert bench.direct(tcp()) is not None
    follow(bench, objects, TableSizes(2 * FLOWS, members=MEMBERS)).close()


def test_what_has_no_place_any_more_is_not_carried_in_part(
    bench: Bench, objects: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A member's number beyond the new table: pools are made anew, as on a host just booted."""
    bench.apply(director(backends(1)))
    number = bench.direct(tcp())
    assert number is not None
    bench.maps.members[Number(3000)] = bench.maps.members[Number(0)]
    engine = follow(bench, objects, TableSizes(FLOWS, members=2048))
    try:
        assert engine.observe() == {}
        assert "the new map members is too small" in caplog.text
        plane = director(backends(1))
        engine.apply(plane.pool_id, plane)
        assert engine.observe() == {plane.pool_id: plane}
        attach(engine, bench)
        assert not list(engine._programs.maps.flows.items())
    finally:
        engine.close()


@pytest.mark.parametrize("vip", [VIP4, VIP6])
def test_what_may_be_known_to_the_former_programs_is_left_to_be_sent_again(
    bench: Bench, vip: Address
) -> None:
    """Only what begins something is taken while connections are on their way."""
    bench.apply(translating(Mode.NAT, vip, NUMBER), translated(17, address=VIP4 + 1, pool=2))
    answer = from_member(client_of(vip), back(TCP, OWN_PORT))
    own_traffic = bytes(ether(UPLINK_MAC, mac(17)) / ip(own(17), VIP4 + 9) / back(TCP))
    dropped = bench.engine.events()["carrying"]
    with carrying(bench):
        assert bench.run("director", tcp(vip=vip, flags="A"), bench.uplink)[0] == DROP
        assert bench.run("director", answer, bench.uplink)[0] == DROP
        assert bench.from_guest(own_traffic) is None
        assert bench.direct(tcp(vip=vip)) is not None
        assert bench.direct(tcp(vip=vip, flags="A")) is not None
    assert bench.engine.events()["carrying"] == dropped + 3
    assert bench.from_guest(own_traffic) == own_traffic
    assert bench.direct(tcp(vip=vip, sport=9, flags="A")) is not None


@contextmanager
def carrying(bench: Bench) -> Iterator[None]:
    zero = Number(0)
    for until in (time.monotonic_ns() + 10**10, 0):
        bench.maps.settings[zero] = bench.maps.settings[zero]._replace(carrying=until)
        if until:
            yield
