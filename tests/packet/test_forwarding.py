# SPDX-License-Identifier: Apache-2.0
"""What the director does to a frame: two Ethernet addresses for its own, nothing for others."""

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.network import Address
from tests.packet.conftest import TAP_MAC, UPLINK_MAC, Bench
from tests.packet.frames import (
    CLIENT4,
    CLIENT6,
    DROP,
    PASS,
    REDIRECT,
    echo,
    ether,
    ip,
    tcp,
    udp,
)
from tests.planes import NETWORK, VIP4, VIP6, backends, compute, director, mac

TO4 = ether() / IP(src=str(CLIENT4), dst=str(VIP4))
TO6 = ether() / IPv6(src=str(CLIENT6), dst=str(VIP6))
SYN = TCP(sport=40000, dport=80, flags="S")
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("WScale", 7)]


@pytest.fixture(scope="module")
def pair(shared_bench: Bench) -> Bench:
    """A bench with a pool in each family: member 1 for IPv4, member 2 for IPv6."""
    shared_bench.apply(director(backends(1)), director(backends(2), address=VIP6, pool=2))
    return shared_bench


WELL_FORMED: dict[str, Packet | bytes] = {
    "tcp": tcp(),
    "tcp6": tcp(vip=VIP6),
    "udp": udp(),
    "udp6": udp(vip=VIP6),
    "udp without checksum": TO4 / UDP(sport=1, dport=53, chksum=0) / b"x",
    "tcp options": TO4 / TCP(dport=80, flags="S", options=OPTIONS),
    "payload": TO4 / TCP(dport=80, flags="PA") / (bytes(range(256)) * 5),
    "payload6": TO6 / TCP(dport=80, flags="PA") / (bytes(range(256)) * 5),
    "odd payload": TO4 / UDP(dport=53) / b"odd",
    "ip options": ether()
    / IP(src=str(CLIENT4), dst=str(VIP4), options=[IPOption_RR(routers=["192.0.2.1"] * 9)])
    / SYN,
    "wrong checksums": TO4 / TCP(dport=80, flags="S", chksum=0xBAD),
    "last hop": ether() / IP(src=str(CLIENT4), dst=str(VIP4), ttl=1, tos=0xB9, id=77) / SYN,
    "do not fragment": ether() / IP(src=str(CLIENT4), dst=str(VIP4), flags="DF") / SYN,
    "flow label": ether() / IPv6(src=str(CLIENT6), dst=str(VIP6), fl=0xABCDE, tc=9) / SYN,
    "padded": tcp() + bytes(6),
}


@pytest.mark.requirement("A12")
@pytest.mark.requirement("L1")
@pytest.mark.parametrize("name", WELL_FORMED)
def test_only_the_ethernet_addresses_change(pair: Bench, name: str) -> None:
    frame = bytes(WELL_FORMED[name])
    result, out = pair.run("director", frame, pair.uplink)
    member = mac(2 if frame[12:14] == b"\x86\xdd" else 1)
    assert result == REDIRECT
    assert out[:12] == member.packed + UPLINK_MAC.packed
    assert out[12:] == frame[12:]


PASSED: dict[str, Packet | bytes] = {
    "to another machine": ether("02:00:00:00:00:77") / ip(CLIENT4, VIP4) / SYN,
    "broadcast": ether("ff:ff:ff:ff:ff:ff") / ip(CLIENT4, VIP4) / SYN,
    "multicast": ether("33:33:00:00:00:01") / ip(CLIENT6, VIP6) / SYN,
    "to the host itself": ether() / ip(CLIENT4, VIP4 + 1) / SYN,
    "to the host itself, IPv6": ether() / ip(CLIENT6, VIP6 + 1) / SYN,
    "echo to the host itself": echo(VIP4 + 1),
    "echo to the host itself, IPv6": echo(VIP6 + 1),
    "echo to another machine": ether("02:00:00:00:00:77") / ip(CLIENT4, VIP4) / ICMP(),
    "fragment to the host itself": ether() / IP(src=str(CLIENT4), dst="192.0.2.9", flags="MF"),
    "VLAN": ether() / Dot1Q(vlan=5) / IP(src=str(CLIENT4), dst=str(VIP4)) / SYN,
    "QinQ": ether(kind=0x88A8) / Dot1Q(vlan=5, type=0x800) / ip(CLIENT4, VIP4) / SYN,
    "other ethertype": ether(kind=0x88B5) / Raw(bytes(60)),
    "header length too small": ether() / IP(src=str(CLIENT4), dst=str(VIP4), ihl=4) / SYN,
}


@pytest.mark.parametrize("name", PASSED)
def test_what_is_not_for_a_pool_passes_unchanged(pair: Bench, name: str) -> None:
    frame = bytes(PASSED[name])
    assert pair.run("director", frame, pair.uplink) == (PASS, frame)


DROPPED: dict[str, tuple[Packet | bytes, str | None]] = {
    "closed port": (tcp(dport=81), "no_service"),
    "closed port6": (tcp(dport=81, vip=VIP6), "no_service"),
    "port of the other protocol": (udp(dport=80), "no_service"),
    "icmp": (TO4 / ICMP(type=3, code=4) / Raw(bytes(28)), "no_service"),
    "icmp6": (TO6 / ICMPv6PacketTooBig() / Raw(bytes(48)), "no_service"),
    "echo reply to the address": (TO4 / ICMP(type=0) / b"late", "no_service"),
    "other protocol": (TO4 / Raw(bytes(40)), "no_service"),
    "extension header": (TO6 / IPv6ExtHdrHopByHop() / SYN, "no_service"),
    "later fragment": (
        ether() / IP(src=str(CLIENT4), dst=str(VIP4), frag=9, proto=6) / Raw(bytes(24)),
        "held",
    ),
    "later fragment6": (TO6 / IPv6ExtHdrFragment(nh=6, offset=9) / Raw(bytes(24)), "held"),
    "fragment without ports": (
        ether() / IP(src=str(CLIENT4), dst=str(VIP4), flags="MF", proto=6) / Raw(bytes(8)),
        "fragment",
    ),
    "fragmented message": (TO6 / IPv6ExtHdrFragment(nh=58, m=1) / Raw(bytes(24)), "fragment"),
    "a member's answer to a probe": (ether() / ip(VIP4, CLIENT4) / ICMP(type=0), None),
    "a member's segment to the host": (ether() / ip(VIP6, CLIENT6) / SYN, None),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_the_pool_cannot_take_is_dropped_and_counted(pair: Bench, name: str) -> None:
    frame, event = DROPPED[name]
    before = Counter(pair.engine.events())
    result, _ = pair.run("director", bytes(frame), pair.uplink)
    assert result == DROP
    assert Counter(pair.engine.events()) - before == Counter({event: 1} if event else {})


def test_the_address_is_nothing_special_in_another_network(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    frame = TAP_MAC.packed + tcp()[6:]
    assert bench.run("director", frame, bench.tap)[0] == REDIRECT
    bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK + 1, TAP_MAC))
    assert bench.run("director", frame, bench.tap) == (PASS, frame)


def test_an_interface_that_is_not_attached_passes_everything(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    bench.engine.detach(bench.uplink)
    for program in ("director", "from_guest", "to_guest"):
        assert bench.run(program, tcp(), bench.uplink) == (PASS, tcp())


def test_an_interface_may_be_detached_twice(bench: Bench) -> None:
    bench.engine.detach(bench.uplink)
    bench.engine.detach(bench.uplink)
    assert bench.engine.ports() == {bench.tap}


def test_a_host_that_is_no_director_leaves_the_address_alone(bench: Bench) -> None:
    bench.apply(compute(17))
    assert bench.run("director", tcp(), bench.uplink) == (PASS, tcp())
    assert bench.run("director", echo(), bench.uplink) == (PASS, echo())


def test_clients_and_addresses_of_both_families_do_not_mix(pair: Bench) -> None:
    mapped = ether() / IPv6(src="::ffff:198.51.100.9", dst=f"::ffff:{VIP4}") / SYN
    native = ether() / ip(IPv4Address("198.51.100.9"), VIP4) / SYN
    assert pair.direct(bytes(native)) == 1
    assert pair.direct(bytes(mapped)) in (1, None)


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("build", [tcp, udp])
def test_a_truncated_packet_is_never_redirected(
    pair: Bench, vip: Address, build: Callable[..., bytes]
) -> None:
    """The kernel's test run wants a whole network header; test_attached sends shorter frames."""
    frame = build(vip=vip)
    transport = 34 if vip.version == 4 else 54
    whole = transport + (20 if build is tcp else 8)
    for length in range(transport, whole):
        short = frame[:length]
        result, out = pair.run("director", short, pair.uplink)
        assert (result in (PASS, DROP), out) == (True, short)
    assert pair.run("director", frame[:whole], pair.uplink)[0] == REDIRECT
