# SPDX-License-Identifier: Apache-2.0
"""What the director says itself for a pool's address: ARP, neighbour discovery, echo."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import NoPayload

from cloudlb.model.network import Address
from tests.packet.conftest import UPLINK_MAC, Bench
from tests.packet.frames import (
    ALL_NODES,
    BROADCAST,
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    PASS,
    REDIRECT,
    advertisement,
    arp,
    checksums_hold,
    client_of,
    echo,
    ether,
    solicitation,
)
from tests.planes import VIP4, VIP6, backends, compute, director

NONCE = ICMPv6NDOptUnknown(type=14, len=1, data=b"\1\2\3\4\5\6")  # RFC 3971, 5.3.2; RFC 7527


@pytest.fixture(scope="module")
def answering(shared_bench: Bench) -> Bench:
    """A bench that is the director of one address in each family."""
    shared_bench.apply(director(backends(1)), director(backends(2), address=VIP6, pool=2))
    return shared_bench


def heard(bench: Bench, frame: bytes) -> Ether:
    """The director's answer to a frame."""
    result, out = bench.run("director", frame, bench.uplink)
    assert result == REDIRECT
    assert checksums_hold(out)
    return Ether(out)


@pytest.mark.requirement("A15")
@pytest.mark.parametrize("destination", [BROADCAST, str(UPLINK_MAC)])
def test_an_arp_request_is_answered_with_the_uplinks_address(
    answering: Bench, destination: str
) -> None:
    reply = heard(answering, arp(CLIENT4, VIP4, destination=destination))
    assert (reply.src, reply.dst, reply.type) == (str(UPLINK_MAC), CLIENT_MAC, 0x806)
    assert (reply[ARP].op, reply[ARP].hwtype, reply[ARP].ptype) == (2, 1, 0x800)
    assert (reply[ARP].hwsrc, reply[ARP].psrc) == (str(UPLINK_MAC), str(VIP4))
    assert (reply[ARP].hwdst, reply[ARP].pdst) == (CLIENT_MAC, str(CLIENT4))


def test_an_arp_probe_is_answered_so_that_nobody_takes_the_address(answering: Bench) -> None:
    reply = heard(answering, arp("0.0.0.0", VIP4))  # noqa: S104 (RFC 5227)
    assert (reply[ARP].psrc, reply[ARP].pdst) == (str(VIP4), "0.0.0.0")  # noqa: S104


def test_padding_of_an_arp_request_does_no_harm(answering: Bench) -> None:
    assert heard(answering, arp(CLIENT4, VIP4) + bytes(18))[ARP].psrc == str(VIP4)


@pytest.mark.requirement("A15")
def test_the_announcement_of_the_address_by_someone_else_is_dropped(answering: Bench) -> None:
    result, _ = answering.run("director", arp(VIP4, VIP4), answering.uplink)
    assert result == DROP


SILENT = {
    "request for another address": arp(CLIENT4, VIP4 + 1),
    "reply": arp(CLIENT4, VIP4, op=2),
    "truncated": arp(CLIENT4, VIP4)[:41],
    "in a VLAN": bytes(ether(BROADCAST) / Dot1Q(vlan=5) / ARP(pdst=str(VIP4))),
    "solicitation of another address": solicitation(CLIENT6, VIP6 + 1),
    "advertisement": advertisement(CLIENT6, VIP6),
    "truncated solicitation": solicitation(CLIENT6, VIP6)[:70],
    "router solicitation": bytes(ether() / IPv6(src=str(CLIENT6)) / ICMPv6ND_RS()),
    "router advertisement": bytes(ether() / IPv6(src=str(CLIENT6)) / ICMPv6ND_RA()),
}


@pytest.mark.parametrize("name", SILENT)
def test_it_says_nothing_to(answering: Bench, name: str) -> None:
    frame = SILENT[name]
    assert answering.run("director", frame, answering.uplink) == (PASS, frame)


@pytest.mark.requirement("A15")
@pytest.mark.parametrize("option", [None, b""], ids=["with source option", "without"])
def test_a_solicitation_is_answered_with_the_uplinks_address(
    answering: Bench, option: bytes | None
) -> None:
    reply = heard(answering, solicitation(CLIENT6, VIP6, option=option))
    assert (reply.src, reply.dst) == (str(UPLINK_MAC), CLIENT_MAC)
    assert (reply[IPv6].src, reply[IPv6].dst) == (str(VIP6), str(CLIENT6))
    assert (reply[IPv6].hlim, reply[IPv6].plen, reply[IPv6].tc) == (255, 32, 0)
    na = reply[ICMPv6ND_NA]
    assert (na.tgt, na.R, na.S, na.O, na.code) == (str(VIP6), 0, 1, 1, 0)
    assert na[ICMPv6NDOptDstLLAddr].lladdr == str(UPLINK_MAC)
    assert isinstance(na[ICMPv6NDOptDstLLAddr].payload, NoPayload)


@pytest.mark.requirement("A15")
@pytest.mark.parametrize("option", [b"", NONCE], ids=["plain", "with nonce"])
def test_duplicate_address_detection_of_the_address_is_answered_to_all_nodes(
    answering: Bench, option: object
) -> None:
    reply = heard(answering, solicitation("::", VIP6, option=option))
    assert (reply.src, reply.dst) == (str(UPLINK_MAC), ALL_NODES)
    assert (reply[IPv6].src, reply[IPv6].dst) == (str(VIP6), "ff02::1")
    assert (reply[ICMPv6ND_NA].S, reply[ICMPv6ND_NA].O) == (0, 1)


def test_a_solicitation_of_reachability_is_answered(answering: Bench) -> None:
    """Unicast, as a neighbour sends it that has the address in its cache (RFC 4861, 7.3.3)."""
    frame = bytearray(solicitation(CLIENT6, VIP6, destination=VIP6))
    frame[:6] = UPLINK_MAC.packed
    assert heard(answering, bytes(frame))[ICMPv6ND_NA].S == 1


@pytest.mark.parametrize("payload", [b"", b"odd", bytes(range(256)) * 5])
def test_an_echo_request_is_answered_by_the_director(answering: Bench, payload: bytes) -> None:
    reply = heard(answering, echo(VIP4, payload))
    assert (reply.src, reply.dst) == (str(UPLINK_MAC), CLIENT_MAC)
    assert (reply[IP].src, reply[IP].dst) == (str(VIP4), str(CLIENT4))
    assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq) == (0, 7, 3)
    assert bytes(reply[ICMP].payload) == payload


@pytest.mark.parametrize("payload", [b"", b"odd", bytes(range(256)) * 5])
def test_an_ipv6_echo_request_is_answered_by_the_director(
    answering: Bench, payload: bytes
) -> None:
    reply = heard(answering, echo(VIP6, payload))
    assert (reply.src, reply.dst) == (str(UPLINK_MAC), CLIENT_MAC)
    assert (reply[IPv6].src, reply[IPv6].dst) == (str(VIP6), str(CLIENT6))
    assert (reply[ICMPv6EchoReply].id, reply[ICMPv6EchoReply].seq) == (7, 3)
    assert reply[ICMPv6EchoReply].data == payload


def test_an_echo_request_with_ip_options_is_answered(answering: Bench) -> None:
    header = IP(src=str(CLIENT4), dst=str(VIP4), options=b"\x01\x01\x01\x00")
    reply = heard(answering, bytes(ether() / header / ICMP(id=9) / b"x"))
    assert (reply[ICMP].type, reply[ICMP].id) == (0, 9)


def test_answers_are_counted(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    heard(bench, arp(CLIENT4, VIP4))
    heard(bench, echo())
    assert bench.engine.events()["answered"] == 2


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_a_host_that_is_no_director_does_not_answer(bench: Bench, vip: Address) -> None:
    bench.apply(compute(17, address=vip))
    ask = arp(CLIENT4, vip) if vip.version == 4 else solicitation(client_of(vip), vip)
    assert bench.run("director", ask, bench.uplink) == (PASS, ask)


def test_a_pool_without_members_still_answers_for_its_address(bench: Bench) -> None:
    bench.apply(director(()))
    assert heard(bench, arp(CLIENT4, VIP4))[ARP].psrc == str(VIP4)


def test_a_pool_that_is_gone_no_longer_answers(bench: Bench) -> None:
    plane = director(backends(1))
    bench.apply(plane)
    bench.engine.apply(plane.pool_id, None)
    ask = arp(CLIENT4, VIP4)
    assert bench.run("director", ask, bench.uplink) == (PASS, ask)


ELSEWHERE = "02:00:00:00:00:77"


def test_questions_sent_to_another_machine_are_left_to_it(answering: Bench) -> None:
    for frame in (
        arp(CLIENT4, VIP4, destination=ELSEWHERE),
        bytes.fromhex(ELSEWHERE.replace(":", "")) + solicitation(CLIENT6, VIP6)[6:],
    ):
        assert answering.run("director", frame, answering.uplink)[0] == PASS


def test_a_solicitation_that_came_through_a_router_is_not_answered(answering: Bench) -> None:
    frame = bytearray(solicitation(CLIENT6, VIP6))
    frame[21] = 254  # hop limit; RFC 4861, 7.1.1
    assert answering.run("director", bytes(frame), answering.uplink)[0] == PASS


def test_an_arp_request_of_another_hardware_type_is_not_answered(answering: Bench) -> None:
    frame = bytearray(arp(CLIENT4, VIP4))
    frame[15] = 6
    assert answering.run("director", bytes(frame), answering.uplink)[0] == PASS


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_an_echo_reply_has_a_life_of_its_own(answering: Bench, vip: Address) -> None:
    frame = bytearray(echo(vip))
    frame[22 if vip.version == 4 else 21] = 2
    if vip.version == 4:
        del (packet := Ether(bytes(frame)))[IP].chksum
        frame = bytearray(bytes(packet))
    answer = heard(answering, bytes(frame))
    assert (answer[IP].ttl if vip.version == 4 else answer[IPv6].hlim) == 64
