# SPDX-License-Identifier: Apache-2.0
"""Edge NAT of what has no ports to go by, ICMP errors and fragments, and of frames off a wire."""

import socket
import struct
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet

from cloudlb.model.network import Address
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.edge import (
    OWN_PORT,
    PORT,
    Transport,
    answer,
    back,
    forget,
    opened,
    own_of,
    sessions,
    there,
    towards,
    translate,
)
from tests.packet.errors import (
    ERRORS,
    QUOTED,
    ROUTER,
    UNREACHABLE,
    icmp_checksum_holds,
    network_header,
    ones_sum,
    quoted,
    without_quoted_checksum,
)
from tests.packet.frames import CLIENT_MAC, checksums_hold, client_of, ether, ip
from tests.packet.parts import parts_of
from tests.planes import VIP4, VIP6

pytestmark = pytest.mark.requirement("L12")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A tap whose guest serves a pool of each family at a port of its own."""
    translate(shared_bench)
    yield shared_bench
    forget(shared_bench)
    for key, _ in list(shared_bench.maps.fragmented.items()):
        del shared_bench.maps.fragmented[key]


def error_to(destination: Address, error: Packet, quoted: bytes) -> bytes:
    """A router's error about a packet that has this source."""
    header = ether(GUEST_MAC, UPLINK_MAC) / ip(ROUTER[destination.version], destination)
    return bytes(header / error / quoted)


def error_from(source: Address, error: Packet, quoted: bytes) -> bytes:
    """A guest's error about a client's packet."""
    return bytes(ether(CLIENT_MAC, GUEST_MAC) / ip(source, client_of(source)) / error / quoted)


@PROTOCOLS
@pytest.mark.parametrize(("vip", "error"), ERRORS)
@QUOTED
def test_an_error_about_what_the_guest_sent_names_the_guests_own_address(
    nat: Bench, vip: Address, error: Packet, kind: Transport, octets: int
) -> None:
    opened(nat, vip, kind)
    seen = quoted(answer(vip, back(kind)), octets)
    sent = quoted(answer(own_of(vip), back(kind, OWN_PORT)), octets)
    out = nat.to_guest(error_to(vip, error, seen))
    expected = error_to(own_of(vip), error, sent)
    assert out
    assert without_quoted_checksum(out, kind) == without_quoted_checksum(expected, kind)
    assert icmp_checksum_holds(out)


@PROTOCOLS
@pytest.mark.parametrize(("vip", "error"), ERRORS)
@QUOTED
def test_an_error_of_the_guest_about_what_the_client_sent_names_the_pools_address(
    nat: Bench, vip: Address, error: Packet, kind: Transport, octets: int
) -> None:
    opened(nat, vip, kind)
    got = quoted(towards(own_of(vip), there(kind, OWN_PORT)), octets)
    sent = quoted(towards(vip, there(kind)), octets)
    out = nat.from_guest(error_from(own_of(vip), error, got))
    expected = error_from(vip, error, sent)
    assert out
    assert without_quoted_checksum(out, kind) == without_quoted_checksum(expected, kind)
    assert icmp_checksum_holds(out)


@pytest.mark.parametrize(("vip", "error"), ERRORS)
def test_an_error_without_a_session_is_left_alone(nat: Bench, vip: Address, error: Packet) -> None:
    about = answer(vip, back(TCP))
    to_it = error_to(vip, error, quoted(about, 1000))
    assert nat.to_guest(to_it) == to_it
    about = towards(own_of(vip), there(TCP, OWN_PORT))
    from_it = error_from(own_of(vip), error, quoted(about, 1000))
    assert nat.from_guest(from_it) == from_it


@FAMILIES
def test_an_error_that_quotes_no_ports_is_left_alone(nat: Bench, vip: Address) -> None:
    opened(nat, vip)
    frame = error_to(vip, UNREACHABLE[vip.version], quoted(answer(vip, back(TCP)), 3))
    assert nat.to_guest(frame) == frame


@FAMILIES
def test_an_error_quoting_another_address_than_it_comes_to_is_left_alone(
    nat: Bench, vip: Address
) -> None:
    opened(nat, vip)
    frame = error_to(vip, UNREACHABLE[vip.version], quoted(answer(vip + 1, back(TCP)), 8))
    assert nat.to_guest(frame) == frame


@FAMILIES
@PROTOCOLS
def test_all_fragments_of_a_datagram_reach_the_guests_own_address(
    nat: Bench, vip: Address, kind: Transport
) -> None:
    body = bytes(range(250)) * 5
    came = parts_of(towards(vip, there(kind, body=body)))
    expected = parts_of(towards(own_of(vip), there(kind, OWN_PORT, body)))
    assert len(came) > 2
    assert [nat.to_guest(part) for part in came] == expected


@FAMILIES
@PROTOCOLS
def test_all_fragments_of_an_answer_have_the_pools_address(
    nat: Bench, vip: Address, kind: Transport
) -> None:
    opened(nat, vip, kind)
    body = bytes(range(250)) * 5
    says = parts_of(answer(own_of(vip), back(kind, OWN_PORT, body)))
    expected = parts_of(answer(vip, back(kind, body=body)))
    assert [nat.from_guest(part) for part in says] == expected


@FAMILIES
def test_fragments_of_the_guests_own_are_left_alone(nat: Bench, vip: Address) -> None:
    own = parts_of(answer(own_of(vip), back(UDP, 4711, bytes(1200))))
    assert [nat.from_guest(part) for part in own] == own
    direct = parts_of(towards(own_of(vip), there(UDP, body=bytes(1200))))
    assert [nat.to_guest(part) for part in direct] == direct


@FAMILIES
def test_an_identification_used_again_for_the_guests_own_does_not_count(
    nat: Bench, vip: Address
) -> None:
    opened(nat, vip, UDP)
    for part in parts_of(answer(own_of(vip), back(UDP, OWN_PORT, bytes(1200)))):
        nat.from_guest(part)
    own = parts_of(answer(own_of(vip), back(UDP, 4711, bytes(1200))))
    assert [nat.from_guest(part) for part in own] == own


@pytest.mark.requirement("L16")
def test_fragments_of_answers_count(nat: Bench) -> None:
    opened(nat, VIP4, UDP)
    before = _answers(nat)
    says = parts_of(answer(own_of(VIP4), back(UDP, OWN_PORT, bytes(1200))))
    for part in says:
        nat.from_guest(part)
    assert _answers(nat) == before + len(says)


def _answers(bench: Bench) -> int:
    (session,) = sessions(bench).values()
    return bench.maps.traffic.total(session.member).packets_out


SOL_PACKET, PACKET_VNET_HDR, NEEDS_CHECKSUM = 263, 15, 1
GSO = {4: 1, 6: 4}  # TCP segments to be made (linux/virtio_net.h)
VNET = struct.Struct("=BBHHHH")


def _wire(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    packets.bind((interface, 3))
    packets.settimeout(5)
    return packets


@pytest.fixture
def wires(nat: Bench) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The tap's two sides: the host's and the guest's."""
    with _wire("tap0") as host, _wire("tap1") as guest:
        yield host, guest


def _handed_over(frame: bytes, kind: Transport) -> bytes:
    """As a guest's driver hands a frame over: the checksum is to be done, segments are to be
    made, and what is behind the first 66 octets is in pages.
    """
    l4 = 14 + network_header(frame)
    at = 16 if kind is TCP else 6
    addresses = frame[26:34] if l4 == 34 else frame[22:54]
    pseudo = addresses + struct.pack("!II", len(frame) - l4, 6 if kind is TCP else 17)
    partial = frame[: l4 + at] + ones_sum(pseudo).to_bytes(2) + frame[l4 + at + 2 :]
    gso, size = (GSO[4 if l4 == 34 else 6], 1000) if len(frame) > 1514 else (0, 0)
    return VNET.pack(NEEDS_CHECKSUM, gso, min(66, len(frame)), size, l4, at) + partial


def _finished(received: bytes) -> bytes:
    """With the checksum that was to be done."""
    flags, _, _, _, start, offset = VNET.unpack_from(received)
    assert flags & NEEDS_CHECKSUM, "nobody has computed it on the way"
    frame, at = received[VNET.size :], start + offset
    return frame[:at] + (~ones_sum(frame[start:]) & 0xFFFF).to_bytes(2) + frame[at + 2 :]


def _next_of(packets: socket.socket, source: bytes) -> bytes:
    while True:
        received, (_, _, kind, _, _) = packets.recvfrom(65536)
        if kind != socket.PACKET_OUTGOING and received[VNET.size + 6 :][:6] == source:
            return received


@FAMILIES
@pytest.mark.parametrize(("kind", "size"), [(TCP, 3), (TCP, 9001), (UDP, 3)])
def test_frames_with_a_checksum_to_be_done_and_little_linear_are_right_at_the_guest(
    wires: tuple[socket.socket, socket.socket], vip: Address, kind: Transport, size: int
) -> None:
    host, guest = wires
    body = bytes(n % 251 for n in range(size))
    host.send(_handed_over(towards(vip, there(kind, PORT, body)), kind))
    frame = _finished(_next_of(guest, UPLINK_MAC.packed))
    assert frame == towards(own_of(vip), there(kind, OWN_PORT, body))
    assert checksums_hold(frame)
