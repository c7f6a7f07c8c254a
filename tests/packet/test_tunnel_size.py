# SPDX-License-Identifier: Apache-2.0
"""Packets that are too large with the tunnel's header: clients are told so, and how often."""

from collections import Counter
from dataclasses import dataclass

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from cloudlb.model.network import Address
from tests.packet import tunnels
from tests.packet.conftest import REDIRECTED, UPLINK_MAC, Bench
from tests.packet.frames import CLIENT_MAC, DROP, REDIRECT, client_of, ether, ip
from tests.packet.tunnels import MTU, WAYS, Way

ways = pytest.mark.parametrize("way", WAYS, ids=str)
ANSWERS_PER_SECOND = 10  # too_big.h
QUOTE = {4: 548, 6: 1232}
OCTETS = bytes(range(251)) * 8
_clients = iter(range(1, 10000))


@pytest.fixture(scope="module")
def tunnel(shared_bench: Bench) -> Bench:
    """A bench with a pool for each combination of families."""
    return tunnels.prepare(shared_bench)


@dataclass(frozen=True)
class Sender:
    """A client that was never told anything, and what it sends to a pool."""

    way: Way
    address: Address

    @property
    def header(self) -> int:
        return 20 if self.way.vip.version == 4 else 40

    @property
    def most(self) -> int:
        """The length of the largest packet that fits into the tunnel."""
        return MTU - self.way.overhead

    def segment(self, length: int, **fields: object) -> bytes:
        """A TCP segment in a packet of this length."""
        if self.way.vip.version == 4:
            fields = {"flags": "DF"} | fields
        options = len(fields.get("options", ()))  # type: ignore[arg-type]
        payload = OCTETS[: length - self.header - options - 20]
        whole = ip(self.address, self.way.vip, **fields) / TCP(dport=80, flags="A") / payload
        frame = bytes(ether() / whole)
        assert len(frame) == length + 14
        return frame

    def datagram(self, length: int) -> bytes:
        """A UDP datagram in a packet of this length."""
        payload = OCTETS[: length - self.header - 8]
        return bytes(ether() / ip(self.address, self.way.vip) / UDP(dport=53) / payload)

    def told(self, frame: bytes) -> bytes:
        """What scapy would tell this client of a frame."""
        quote = Raw(frame[14 : 14 + QUOTE[self.way.vip.version]])
        back = ip(self.way.vip, self.address)
        if self.way.vip.version == 4:
            back.flags, back.id, back.ttl = "DF", 0, 64
            message = ICMP(type=3, code=4, nexthopmtu=self.most) / quote
        else:
            back.hlim = 64
            message = ICMPv6PacketTooBig(mtu=self.most) / quote
        return bytes(ether(CLIENT_MAC, UPLINK_MAC) / back / message)


def somebody(way: Way) -> Sender:
    """A client that nobody has heard of before; clients share their budgets with few others."""
    return Sender(way, client_of(way.vip, 7 * next(_clients)))


def answered(bench: Bench, frame: bytes) -> tuple[int, bytes, Counter[str]]:
    """What comes back, and what was counted."""
    before = Counter(bench.engine.events())
    result, out = bench.run("director", frame, bench.uplink)
    return result, out, Counter(bench.engine.events()) - before


@ways
@pytest.mark.requirement("L12")
def test_what_fits_exactly_is_sent_on(tunnel: Bench, way: Way) -> None:
    sender = somebody(way)
    for frame in (sender.segment(sender.most), sender.datagram(sender.most)):
        result, out, counted = answered(tunnel, frame)
        assert (result, len(out), counted) == (REDIRECT, MTU + 14, Counter())


@ways
@pytest.mark.requirement("L12")
@pytest.mark.parametrize("excess", [1, 2, 19, 20, 40])
def test_a_client_is_told_how_large_its_packets_may_be(
    tunnel: Bench, way: Way, excess: int
) -> None:
    sender = somebody(way)
    for frame in (sender.segment(sender.most + excess), sender.datagram(sender.most + excess)):
        assert answered(tunnel, frame) == (REDIRECT, sender.told(frame), Counter(too_big=1))


@pytest.mark.requirement("L12")
@pytest.mark.parametrize("way", [w for w in WAYS if w.vip.version == 4], ids=str)
def test_packets_that_may_be_fragmented_are_answered_too(tunnel: Bench, way: Way) -> None:
    sender = somebody(way)
    frame = sender.segment(sender.most + 1, flags=0)
    assert answered(tunnel, frame) == (REDIRECT, sender.told(frame), Counter(too_big=1))


@pytest.mark.parametrize("options", [4, 40])
def test_options_are_quoted_as_they_were(tunnel: Bench, options: int) -> None:
    sender = somebody(WAYS[0])
    frame = sender.segment(MTU, options=[IPOption_NOP()] * options, tos=0xB9, id=99, ttl=3)
    assert answered(tunnel, frame)[:2] == (REDIRECT, sender.told(frame))


@ways
def test_what_was_too_large_is_not_counted_as_forwarded(bench: Bench, way: Way) -> None:
    tunnels.prepare(bench)
    sender = somebody(way)
    bench.run("director", sender.segment(MTU), bench.uplink)
    (counted,) = bench.engine.counters(way.plane.pool_id)
    assert (counted.packets_in, counted.bytes_in) == (0, 0)


@ways
def test_a_client_is_told_so_often_a_second_and_others_nevertheless(
    bench: Bench, way: Way
) -> None:
    tunnels.prepare(bench)
    loud = somebody(way)
    frame = loud.segment(MTU)
    results = [answered(bench, frame) for _ in range(ANSWERS_PER_SECOND + 5)]
    told = [r for r in results if r[0] == REDIRECT]
    dropped = [r for r in results if r[0] == DROP]
    assert {r[1] for r in told} == {loud.told(frame)}
    assert {tuple(r[2]) for r in dropped} <= {("too_big_drop",)}
    assert ANSWERS_PER_SECOND <= len(told) <= 2 * ANSWERS_PER_SECOND, "a second may have ended"
    others = [somebody(way) for _ in range(20)]
    heard = [answered(bench, o.segment(MTU))[0] for o in others].count(REDIRECT)
    assert heard >= 18


def test_ipv6_is_never_told_less_than_its_smallest_mtu(bench: Bench) -> None:
    tunnels.prepare(bench)
    way = WAYS[2]
    port = bench.engine._port_records.get(tunnels.number(bench.uplink))
    assert port
    bench.engine._port_records[tunnels.number(bench.uplink)] = port._replace(mtu=1300)
    sender = somebody(way)
    result, _, counted = answered(bench, sender.segment(1300))
    assert (result, counted) == (DROP, Counter(too_big_drop=1))


def gso(bench: Bench, frame: bytes, size: int) -> tuple[int, bytes]:
    """The director's answer to a datagram that a sender has left to the device to cut."""
    context = bytearray(192)
    context[40:44] = bench.uplink.to_bytes(4, "little")  # __sk_buff.ifindex
    context[164:168] = (-(-len(frame) // size)).to_bytes(4, "little")  # gso_segs
    context[176:180] = size.to_bytes(4, "little")  # gso_size
    fd = bench.programs.fd("director")
    result, out, _ = bench.programs.libbpf.test_run(fd, frame, bytes(context), 1)
    return result, out


@ways
@pytest.mark.requirement("L12")
def test_of_datagrams_that_are_still_to_be_cut_the_pieces_count(tunnel: Bench, way: Way) -> None:
    sender = somebody(way)
    frame = sender.datagram(1800)
    large = sender.most - sender.header - 8 + 1
    assert gso(tunnel, frame, large) == (REDIRECTED, sender.told(frame))


def test_scapy_reads_what_the_client_reads(tunnel: Bench) -> None:
    for way in WAYS:
        sender = somebody(way)
        _, out = tunnel.run("director", sender.segment(MTU), tunnel.uplink)
        if way.vip.version == 4:
            packet = IP(out[14:])
            assert (packet[ICMP].type, packet[ICMP].code) == (3, 4)
            assert packet[ICMP].nexthopmtu == sender.most
        else:
            assert IPv6(out[14:])[ICMPv6PacketTooBig].mtu == sender.most
