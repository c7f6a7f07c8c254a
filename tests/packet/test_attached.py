# SPDX-License-Identifier: Apache-2.0
"""The programs on their interfaces: frames really sent over a link."""

import socket
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.errors import EngineError
from cloudlb.net.tc import Direction, Filters
from tests.packet.conftest import TAP_MAC, UPLINK_MAC, Bench
from tests.packet.frames import PASS, REDIRECT, advertisement, arp, tcp, udp
from tests.planes import NETWORK, VIP4, VIP6, backends, compute, director, mac

_ETH_P_ALL = 3


@pytest.fixture
def wire(bench: Bench) -> Iterator[socket.socket]:
    """The other end of the uplink."""
    with _end("up1") as packets:
        yield packets


def _end(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    packets.bind((interface, _ETH_P_ALL))
    packets.settimeout(5)
    return packets


def _next_to_member(packets: socket.socket) -> bytes:
    """The next frame that comes to a member; the kernel's own chatter is skipped."""
    while True:
        frame, (_, _, kind, _, _) = packets.recvfrom(4096)
        if kind != socket.PACKET_OUTGOING and frame[:4] == mac(1).packed[:4]:
            return frame


@pytest.mark.requirement("L4")
def test_a_segment_on_the_uplink_comes_back_for_the_member(
    bench: Bench, wire: socket.socket
) -> None:
    bench.apply(director(backends(1)))
    wire.send(tcp())
    assert _next_to_member(wire) == mac(1).packed + UPLINK_MAC.packed + tcp()[12:]


@pytest.mark.parametrize("frame", [tcp(), udp(), tcp(vip=VIP6), udp(vip=VIP6)])
def test_a_frame_cut_off_anywhere_in_its_headers_is_not_redirected(
    bench: Bench, wire: socket.socket, frame: bytes
) -> None:
    bench.apply(director(backends(1)), director(backends(2), address=VIP6, pool=2))
    headers = 14 + (40 if frame[12] == 0x86 else 20)
    protocol = frame[20] if frame[12] == 0x86 else frame[23]
    for length in range(14, headers + (20 if protocol == 6 else 8)):
        wire.send(frame[:length])
    last = tcp(sport=7)
    wire.send(last)
    assert _next_to_member(wire)[12:] == last[12:]


@pytest.mark.requirement("A15")
def test_the_guard_stands_at_the_tap_in_the_guests_way(bench: Bench) -> None:
    bench.apply(compute(17))
    with _end("tap1") as guest, _end("tap0") as host:
        guest.send(arp(VIP4, VIP4 + 1, op=2, hardware=mac(17)))
        guest.send(arp(VIP4 + 9, VIP4 + 1, hardware=mac(17)))
        _next_arp(host)  # a packet socket sees frames before the guard does
        _next_arp(host)
        assert bench.engine.events()["guard_drop"] == 1


TAGS = ["8100 0000", "88a8 0000", "8100 e000"]
CLAIMS = {
    "arp": arp(VIP4, VIP4 + 1, op=2, hardware=mac(17)),
    "nd": advertisement(VIP6, VIP6, mac(17)),
}


@pytest.mark.requirement("A15")
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("first", ["", *TAGS])
@pytest.mark.parametrize("second", ["", *TAGS])
def test_no_claim_leaves_a_guest_behind_tags(
    bench: Bench, claim: bytes, first: str, second: str
) -> None:
    """VLAN 0 is no network: whoever receives such a frame takes its tags off."""
    bench.apply(compute(17), compute(17, address=VIP6, pool=2))
    whole = claim[:12] + bytes.fromhex(first + second) + claim[12:]
    _say(whole)
    assert bench.engine.events()["guard_drop"] == 1


def _say(frame: bytes) -> None:
    """Have the guest send a frame, and another one that is seen to have passed its tap."""
    last = arp(VIP4 + 9, VIP4 + 1, hardware=mac(17))
    with _end("tap1") as guest, _end("tap0") as host:
        guest.send(frame)
        guest.send(last)
        while _next_arp(host) != last:
            pass


@pytest.mark.parametrize("tags", ["8100 0005", "88a8 0005 8100 0007", "8100 0000 8100 0005"])
def test_frames_of_other_networks_behind_tags_pass(bench: Bench, tags: str) -> None:
    bench.apply(compute(17))
    frame = tcp(sport=7)
    _say(frame[:12] + bytes.fromhex(tags) + frame[12:])
    assert bench.engine.events()["guard_drop"] == 0


@pytest.mark.requirement("A15")
def test_the_guard_stands_at_the_tap_in_the_way_to_the_guest(bench: Bench) -> None:
    bench.apply(compute(17))
    with _end("tap0") as host, _end("tap1") as guest:
        with pytest.raises(OSError, match="No buffer space"):  # how a drop looks to a sender
            host.send(arp(VIP4 + 1, VIP4))
        host.send(arp(VIP4 + 1, VIP4 + 9))
        assert _next_arp(guest) == arp(VIP4 + 1, VIP4 + 9)


def _next_arp(packets: socket.socket) -> bytes:
    while True:
        frame, (_, _, kind, _, _) = packets.recvfrom(4096)
        if kind != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x06":
            return frame


@pytest.mark.requirement("L18")
def test_the_programs_forward_after_the_engine_has_closed(
    bench: Bench, wire: socket.socket
) -> None:
    other = bench.reopen()
    plane = director(backends(1))
    other.apply(plane.pool_id, plane)
    other.close()
    wire.send(tcp())
    assert _next_to_member(wire)[12:] == tcp()[12:]


def test_detaching_takes_our_filters_and_leaves_those_of_others(bench: Bench) -> None:
    with IPRoute() as ipr:
        ipr.tc(
            "add-filter",
            "bpf",
            bench.uplink,
            handle=1,
            fd=bench.programs.fd("to_guest"),
            name="somebody",
            parent=Direction.EGRESS,
            prio=9,
            protocol=_ETH_P_ALL,
            direct_action=True,
        )
        bench.engine.detach(bench.uplink)
        assert Filters().attached(bench.uplink, Direction.INGRESS) is None
        assert len(list(ipr.get_filters(index=bench.uplink, parent=Direction.EGRESS))) > 0
        ipr.tc("del", "clsact", bench.uplink)


def test_attaching_again_changes_nothing(bench: Bench) -> None:
    with IPRoute() as ipr:
        before = _filters(ipr, bench.tap)
        bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK, TAP_MAC))
        after = _filters(ipr, bench.tap)
    assert after == before
    assert bench.engine.ports() == {bench.uplink, bench.tap}


def _filters(ipr: IPRoute, index: int) -> list[str]:
    found = [f for d in Direction for f in ipr.get_filters(index=index, parent=d)]
    return [str(f["attrs"]) for f in found]


@pytest.fixture
def far() -> Iterator[int]:
    """The number of an interface that came late in the life of its host."""
    number = 70000
    with IPRoute() as ipr:
        peer = {"ifname": "far1"}
        ipr.link(
            "add", ifname="far0", kind="veth", index=number, address=str(UPLINK_MAC), peer=peer
        )
        yield number
        if ipr.link_lookup(ifname="far0"):
            ipr.link("del", index=number)


def test_an_interface_with_a_large_number_is_found_as_well(bench: Bench, far: int) -> None:
    bench.apply(director(backends(1)))
    assert bench.run("director", tcp(), far)[0] == PASS
    bench.engine.attach(HostPort(far, PortKind.UPLINK, NETWORK, UPLINK_MAC))
    assert bench.engine.ports() == {bench.uplink, bench.tap, far}
    assert bench.run("director", tcp(), far)[0] == REDIRECT
    bench.engine.detach(far)
    assert bench.engine.ports() == {bench.uplink, bench.tap}
    assert bench.run("director", tcp(), far)[0] == PASS


def test_an_interface_that_went_before_it_was_detached_is_detached(bench: Bench, far: int) -> None:
    bench.apply(compute(17))
    bench.engine.attach(HostPort(far, PortKind.TAP, NETWORK, TAP_MAC))
    assert far in {key.ifindex for key, _ in bench.maps.deliveries.items()}
    with IPRoute() as ipr:
        ipr.link("del", index=far)
    bench.engine.detach(far)
    assert bench.engine.ports() == {bench.uplink, bench.tap}
    assert far not in {key.ifindex for key, _ in bench.maps.deliveries.items()}


def test_a_kernel_that_does_not_answer_is_an_error_of_the_engine(bench: Bench) -> None:
    other = bench.reopen()
    other._attachments.close()
    with pytest.raises(EngineError, match=f"interface {bench.tap}: .*Bad file descriptor"):
        other.detach(bench.tap)
    assert bench.tap in other.ports()
