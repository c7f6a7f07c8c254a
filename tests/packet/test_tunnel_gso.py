# SPDX-License-Identifier: Apache-2.0
"""Packets that a device is still to cut and sum up, sent through tunnels to a real tap.

A bridge joins the far end of the director's uplink and the tap; frames are sent as a client's
device would receive them, and read as a guest's would.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.ether import Mac
from tests.packet import tunnels
from tests.packet.conftest import Bench
from tests.packet.frames import checksums_hold, client_of, ether, ip
from tests.packet.tunnels import DIRECTOR4, DIRECTOR6, MTU, OWN4, OWN6, WAYS, Way
from tests.planes import NETWORK, guest, mac

ways = pytest.mark.parametrize("way", WAYS, ids=str)
GUEST = 18
TAP = Mac.unpack(b"\xfe" + mac(GUEST).packed[1:])
OCTETS = bytes(range(251)) * 40
NEEDS_SUM, TCPV4, TCPV6 = 1, 1, 4  # linux/virtio_net.h
_HEADER = struct.Struct("=BBHHHH")
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_TAP_WITH_HEADER, _OFFLOADS = 0x0002 | 0x1000 | 0x4000, 1 | 2 | 4
_SOL_UDP, _UDP_SEGMENT = 17, 103


@dataclass
class Wire:
    """The far end of the uplink and the guest's side of the tap."""

    far: socket.socket
    tap: int

    def send(self, frame: bytes, header: bytes = bytes(_HEADER.size)) -> None:
        """Send a frame to the director, with what is left to the device."""
        self.far.send(header + frame)

    def received(self, wanted: Callable[[Ether], bool], octets: int) -> list[Ether]:
        """The guest's frames until so many octets of payload have come, checksums filled in."""
        frames: list[Ether] = []
        while sum(len(payload_of(f)) for f in frames) < octets:
            assert select.select([self.tap], [], [], 10)[0], f"{len(frames)} frames came"
            frame = _summed(os.read(self.tap, 70000))
            if wanted(Ether(frame)):
                assert checksums_hold(frame)
                frames.append(Ether(frame))
        return frames


def payload_of(frame: Ether) -> bytes:
    """What the transport carries."""
    return bytes((frame[TCP] if TCP in frame else frame[UDP]).payload)


def _summed(received: bytes) -> bytes:
    """The frame as a guest's device would hand it on: with the checksum that is left to it."""
    flags, _, _, _, start, offset = _HEADER.unpack_from(received)
    frame = bytearray(received[_HEADER.size :])
    if flags & NEEDS_SUM:
        total = _sum(bytes(frame[start:]) + bytes((len(frame) - start) % 2))
        frame[start + offset : start + offset + 2] = (~total & 0xFFFF).to_bytes(2)
    return bytes(frame)


def _sum(octets: bytes) -> int:
    """The sum of 16-bit words (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _ip(*lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True)


def _open_tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), _TAP_WITH_HEADER))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS)
    return fd


@pytest.fixture(scope="module")
def wire(shared_bench: Bench) -> Iterator[Wire]:
    """A client's device at one end, a guest's at the other, tunnels of all kinds between."""
    bench = shared_bench
    tap = _open_tap("gst0")
    _ip(
        *("link add br9 type bridge stp_state 0 forward_delay 0", "link set br9 up"),
        *("link set up1 master br9", f"link set gst0 address {TAP} master br9 up"),
        f"address add {DIRECTOR4}/24 dev up0",
        f"address add {DIRECTOR6}/64 dev up0 nodad",
        *(f"neigh replace {own} lladdr {mac(GUEST)} dev up0" for own in (OWN4, OWN6)),
    )
    index = socket.if_nametoindex("gst0")
    tunnels.attach(bench)
    bench.engine.attach(HostPort(index, PortKind.TAP, NETWORK, TAP, mtu=MTU))
    bench.apply(*(_behind_tap(way) for way in WAYS))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far:
        far.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        far.bind(("up1", 0))
        yield Wire(far, tap)
    bench.engine.detach(index)
    os.close(tap)
    _ip("link del br9", "address flush dev up0", "neigh flush dev up0")


def _behind_tap(way: Way) -> object:
    plane = way.plane
    assert plane.frontend
    (backend,) = plane.frontend.backends
    one = replace(guest(GUEST), mode=backend.mode, address=way.own)
    members = (replace(backend, member_id=one.member_id, mac=one.mac),)
    return replace(plane, frontend=replace(plane.frontend, backends=members), guests=(one,))


def segment(way: Way, sport: int, payload: bytes) -> tuple[bytes, bytes]:
    """A segment of any length whose checksum is left to the device, and what tells it so."""
    whole = ether() / ip(client_of(way.vip), way.vip) / TCP(sport=sport, dport=80, flags="A")
    frame = bytes(whole / payload)
    start = 34 if way.vip.version == 4 else 54
    addresses = frame[26:34] if start == 34 else frame[22:54]
    total = _sum(addresses + bytes([0, 6]) + (len(frame) - start).to_bytes(2))
    begun = frame[: start + 16] + total.to_bytes(2) + frame[start + 18 :]
    kind = TCPV4 if way.vip.version == 4 else TCPV6
    most = 1500 - way.overhead - (start - 14) - 20
    if len(payload) <= most:
        return begun, _HEADER.pack(NEEDS_SUM, 0, 0, 0, start, 16)
    return begun, _HEADER.pack(NEEDS_SUM, kind, start + 20, most, start, 16)


@ways
@pytest.mark.requirement("L12")
def test_a_checksum_that_is_left_to_the_device_is_right_in_the_end(wire: Wire, way: Way) -> None:
    wire.send(*segment(way, 1000 + way.pool, OCTETS[:700]))
    (frame,) = wire.received(lambda f: TCP in f and f[TCP].sport == 1000 + way.pool, 700)
    assert payload_of(frame) == OCTETS[:700]


@ways
@pytest.mark.requirement("L12")
@pytest.mark.parametrize("size", [2000, 5000, 10000])
def test_what_is_left_to_be_cut_arrives_whole_in_pieces_that_fit(
    wire: Wire, way: Way, size: int
) -> None:
    sport = 2000 + size + way.pool
    wire.send(*segment(way, sport, OCTETS[:size]))
    frames = wire.received(lambda f: TCP in f and f[TCP].sport == sport, size)
    frames.sort(key=lambda f: f[TCP].seq)
    assert b"".join(map(payload_of, frames)) == OCTETS[:size]
    assert all(len(f) - 14 <= MTU - way.overhead for f in frames)
    layer = IP if way.vip.version == 4 else IPv6
    assert {(f[layer].src, f[layer].dst) for f in frames} == {
        (str(client_of(way.vip)), str(way.vip))
    }


@ways
@pytest.mark.requirement("L12")
def test_datagrams_that_are_left_to_be_cut_keep_their_size(wire: Wire, way: Way) -> None:
    client, vip = client_of(way.vip), way.vip
    length = 32 if vip.version == 4 else 128
    _ip(
        f"address replace {client}/{length} dev br9" + (" nodad" if length == 128 else ""),
        f"route replace {vip}/{length} dev br9 src {client}",
        f"neigh replace {vip} lladdr {ether().dst} dev br9",
    )
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((str(client), 0))
        sender.setsockopt(_SOL_UDP, _UDP_SEGMENT, 1200)
        sender.sendto(OCTETS[:5000], (str(vip), 53))
        sport = sender.getsockname()[1]
        frames = wire.received(lambda f: UDP in f and f[UDP].sport == sport, 5000)
    pieces = [OCTETS[i : min(i + 1200, 5000)] for i in range(0, 5000, 1200)]
    assert [payload_of(f) for f in frames] == pieces


@ways
@pytest.mark.requirement("L12")
def test_an_answer_quotes_a_packet_whose_checksum_is_left_to_the_device(
    wire: Wire, way: Way
) -> None:
    """No device may be left to write a checksum into the quotation."""
    frame, header = segment(way, 4000 + way.pool, OCTETS[: 1421 if way.vip.version == 6 else 1441])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as client:
        client.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        client.bind(("up1", 0))
        client.settimeout(10)
        wire.send(frame, _HEADER.pack(NEEDS_SUM, 0, 0, 0, *_HEADER.unpack(header)[4:]))
        left, answer = _next_from(client, way.vip.packed)
    assert not left & NEEDS_SUM
    quote = 548 if way.vip.version == 4 else 1232
    assert answer[-quote:] == frame[14 : 14 + quote]
    pseudo = (
        b"" if way.vip.version == 4 else answer[22:54] + bytes([0, 58]) + (quote + 8).to_bytes(2)
    )
    assert _sum(pseudo + answer[-quote - 8 :]) == 0xFFFF


def _next_from(client: socket.socket, source: bytes) -> tuple[int, bytes]:
    """What is left to the device, and the frame."""
    while True:
        whole, (_, _, kind, _, _) = client.recvfrom(4096)
        frame = whole[_HEADER.size :]
        place = 26 if frame[12:14] == b"\x08\x00" else 22
        if kind != socket.PACKET_OUTGOING and frame[place : place + len(source)] == source:
            return whole[0], frame
