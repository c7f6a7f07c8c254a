# SPDX-License-Identifier: Apache-2.0
"""ICMP errors to a pool's address go to the member whose packet they quote."""

from collections import Counter
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import unpack_address
from tests.packet.conftest import Bench
from tests.packet.errors import ERRORS, QUOTED, UNREACHABLE, error, quoted, said
from tests.packet.frames import DROP, REDIRECT, client_of, ether, ip, tcp, udp
from tests.packet.tunnels import MTU, TCP80, WAYS, Way, label, prepare, wrapped
from tests.planes import VIP4, VIP6, backend, backends, director, own

pytestmark = pytest.mark.requirement("L12")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
PORT_OF = {TCP: 80, UDP: 53}
MEMBERS = {VIP4: (1, 2, 3, 4), VIP6: (5, 6, 7, 8)}
MODES = pytest.mark.parametrize("mode", [Mode.DR, Mode.EDGE_NAT])


def pool(vip: Address, mode: Mode = Mode.DR) -> Plane:
    """A pool of each family with members of its own."""
    members = (
        replace(b, mode=mode, address=None if mode is Mode.DR else own(n, vip.version))
        for n, b in zip(MEMBERS[vip], backends(*MEMBERS[vip]), strict=True)
    )
    return director(tuple(members), address=vip, pool=vip.version)


@pytest.fixture
def pools(bench: Bench) -> Bench:
    """A director of both pools."""
    bench.apply(pool(VIP4), pool(VIP6))
    return bench


def ask(bench: Bench, vip: Address, kind: type[Packet], sport: int) -> int | None:
    """The member of a client's packet."""
    return bench.direct(tcp("S", sport, vip) if kind is TCP else udp(sport, vip))


def about(vip: Address, kind: type[Packet], sport: int, octets: int = 8) -> bytes:
    """What an error quotes of a member's answer."""
    answer = kind(sport=PORT_OF[kind], dport=sport) / Raw(b"answer" * 20)
    return quoted(said(vip, answer), octets)


@PROTOCOLS
@QUOTED
@MODES
@pytest.mark.parametrize(("vip", "message"), ERRORS)
def test_an_error_goes_to_the_member_whose_packet_it_quotes(
    shared_bench: Bench,
    vip: Address,
    message: Packet,
    mode: Mode,
    kind: type[Packet],
    octets: int,
) -> None:
    shared_bench.apply(pool(vip, mode))
    for sport in range(41000, 41004):
        member = ask(shared_bench, vip, kind, sport)
        frame = error(vip, message, about(vip, kind, sport, octets))
        result, out = shared_bench.run("director", frame, shared_bench.uplink)
        assert (result, int.from_bytes(out[4:6]), out[12:]) == (REDIRECT, member, frame[12:])


@FAMILIES
def test_an_error_about_a_connection_that_is_not_known_goes_where_its_next_packet_goes(
    pools: Bench, vip: Address
) -> None:
    ports = range(42000, 42020)
    told = [pools.direct(error(vip, UNREACHABLE[vip.version], about(vip, TCP, p))) for p in ports]
    assert not list(pools.maps.flows.items())
    assert told == [pools.direct(tcp("A", p, vip)) for p in ports]
    assert len(set(told)) > 1


@FAMILIES
def test_a_connection_with_an_idle_member_gets_its_errors(pools: Bench, vip: Address) -> None:
    first, *rest = MEMBERS[vip]
    assert ask(pools, vip, TCP, 43000) == first
    idle = [backend(first, idle=True), *backends(*rest)]
    pools.apply(director(idle, address=vip, pool=vip.version))
    assert pools.direct(error(vip, UNREACHABLE[vip.version], about(vip, TCP, 43000))) == first


@FAMILIES
def test_an_error_neither_prolongs_a_connection_nor_changes_its_state(
    pools: Bench, vip: Address
) -> None:
    ask(pools, vip, TCP, 44000)
    ((key, flow),) = pools.maps.flows.items()
    pools.maps.flows[key] = flow._replace(seen=flow.seen - 1)
    assert pools.direct(error(vip, UNREACHABLE[vip.version], about(vip, TCP, 44000)))
    assert pools.maps.flows.get(key) == flow._replace(seen=flow.seen - 1)


@FAMILIES
def test_errors_count_as_packets_of_the_member(pools: Bench, vip: Address) -> None:
    ask(pools, vip, TCP, 45000)
    pools.direct(error(vip, UNREACHABLE[vip.version], about(vip, TCP, 45000)))
    counted = pools.engine.counters(pool(vip).pool_id)[0]
    assert (counted.packets_in, counted.connections) == (2, 1)


@FAMILIES
def test_an_error_about_a_datagrams_first_part_finds_its_member(
    pools: Bench, vip: Address
) -> None:
    member = ask(pools, vip, UDP, 46000)
    datagram = UDP(sport=53, dport=46000) / Raw(bytes(40))
    if vip.version == 6:
        part = said(vip, datagram, IPv6ExtHdrFragment(m=1, nh=17))
    else:
        part = bytes(ether() / ip(vip, client_of(vip), flags="MF") / datagram)
    frame = error(vip, UNREACHABLE[vip.version], quoted(part, 60))
    assert pools.direct(frame) == member


def _elsewhere(vip: Address) -> dict[str, bytes]:
    """Errors that are about nothing that a member can have sent."""
    message = UNREACHABLE[vip.version]
    answer = TCP(sport=80, dport=47000)
    later = {4: {"frag": 9}, 6: {}}[vip.version]
    between = (IPv6ExtHdrFragment(offset=9, nh=6),) if vip.version == 6 else ()
    part = ip(vip, client_of(vip), **later)
    for layer in between:
        part /= layer
    return {
        "another address": error(vip, message, quoted(said(vip + 1, answer), 8)),
        "a port without service": error(
            vip, message, quoted(said(vip, TCP(sport=81, dport=47000)), 8)
        ),
        "a later part": error(vip, message, bytes(part / Raw(bytes(24)))),
        "no ports": error(vip, message, quoted(said(vip, answer), 3)),
        "no packet": error(vip, message, bytes(12)),
        "ports of neither protocol": error(
            vip, message, bytes(ip(vip, client_of(vip)) / Raw(bytes(24)))
        ),
    }


@FAMILIES
@pytest.mark.parametrize("name", _elsewhere(VIP4))
def test_what_no_member_has_sent_is_dropped_and_counted(
    pools: Bench, vip: Address, name: str
) -> None:
    ask(pools, vip, TCP, 47000)
    before = Counter(pools.engine.events())
    result, _ = pools.run("director", _elsewhere(vip)[name], pools.uplink)
    assert result == DROP
    assert Counter(pools.engine.events()) - before == Counter(no_service=1)


def test_messages_that_are_no_errors_are_dropped(pools: Bench) -> None:
    ask(pools, VIP4, TCP, 48000)
    frame = error(VIP4, ICMP(type=13), about(VIP4, TCP, 48000))
    assert pools.direct(frame) is None


def test_an_error_without_any_member_is_dropped(bench: Bench) -> None:
    bench.apply(director((), address=VIP4, pool=4))
    assert bench.direct(error(VIP4, UNREACHABLE[4], about(VIP4, TCP, 49000))) is None
    assert bench.engine.events()["no_member"] == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_travels_through_the_tunnel_to_the_guest(bench: Bench, way: Way) -> None:
    prepare(bench)
    frame = error(way.vip, UNREACHABLE[way.vip.version], about(way.vip, TCP, 40000))
    result, out = bench.run("director", frame, bench.uplink)
    flow_label = label(bench, way, unpack_address(_source(frame)), 0, replace(TCP80, port=0))
    fragmentable = way.vip.version == 4
    expected = wrapped(frame, way.own, dont_fragment=not fragmentable, flow_label=flow_label)
    assert (result, _unidentified(out)) == (REDIRECT, _unidentified(expected))
    assert bench.to_guest(out) == out[:12] + frame[12:]


def _source(frame: bytes) -> bytes:
    return frame[22:38] if frame[12] == 0x86 else bytes(10) + b"\xff\xff" + frame[26:30]


def _unidentified(frame: bytes) -> bytes:
    """Without identification and checksum, which are of the tunnel's own in IPv4."""
    if frame[12] == 0x86:
        return frame
    return frame[:18] + frame[20:24] + frame[26:]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_error_is_sent_about_an_error(bench: Bench, way: Way) -> None:
    prepare(bench)
    answer = TCP(sport=80, dport=40000) / Raw(bytes(MTU))
    length = MTU - (20 if way.vip.version == 4 else 40) - 8
    message = {4: ICMP(type=3, code=4), 6: ICMPv6PacketTooBig()}[way.vip.version]
    frame = error(way.vip, message, said(way.vip, answer)[14:][:length])
    assert len(frame) == 14 + MTU
    assert bench.run("director", frame, bench.uplink)[0] == DROP
    events = bench.engine.events()
    assert (events["too_big"], events["too_big_drop"]) == (0, 1)


def test_a_large_error_reaches_a_member_on_the_link(pools: Bench) -> None:
    ask(pools, VIP4, TCP, 50000)
    body = said(VIP4, TCP(sport=80, dport=50000) / Raw(bytes(MTU)))[14:][: MTU - 28]
    assert len(bytes(IP() / ICMP() / Raw(body))) == MTU
    assert pools.direct(error(VIP4, ICMP(type=3, code=4), body)) == 1
