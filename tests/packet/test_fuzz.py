# SPDX-License-Identifier: Apache-2.0
"""Any octets through any program: nothing is redirected, dropped or changed without a reason."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6PacketTooBig, IPv6ExtHdrFragment

from cloudlb.net.bpf.layout import pack_address
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.edge import (
    OWN_PORT,
    answer,
    back,
    opened,
    own_of,
    there,
    towards,
    translate,
)
from tests.packet.errors import error, said
from tests.packet.frames import (
    CLIENT4,
    CLIENT6,
    DROP,
    PASS,
    REDIRECT,
    advertisement,
    arp,
    echo,
    ether,
    ip,
    solicitation,
    tcp,
    udp,
)
from tests.planes import VIP4, VIP6, backends, both, director, mac
from tests.soak import count

SEEDS = (
    tcp(),
    tcp("PA", payload=b"x" * 40),
    tcp(vip=VIP6),
    udp(),
    udp(vip=VIP6),
    echo(),
    echo(VIP6),
    arp(CLIENT4, VIP4),
    arp(VIP4, CLIENT4, hardware=GUEST_MAC),
    arp(VIP4, VIP4, op=2, hardware=GUEST_MAC),
    solicitation(CLIENT6, VIP6),
    solicitation(VIP6, CLIENT6, GUEST_MAC),
    solicitation("::", VIP6, option=ICMPv6ND_NS()),
    advertisement(CLIENT6, VIP6, GUEST_MAC),
    error(VIP4, ICMP(type=3, code=4), said(VIP4, TCP(sport=80))[14:]),
    error(VIP6, ICMPv6PacketTooBig(), said(VIP6, UDP(sport=53))[14:]),
    bytes(ether() / ip(CLIENT4, VIP4, flags="MF") / UDP(dport=53) / bytes(40)),
    bytes(ether() / ip(CLIENT6, VIP6) / IPv6ExtHdrFragment(m=1) / UDP(dport=53) / bytes(40)),
)
MEMBERS = (1, 17)
VIPS = (VIP4.packed, VIP6.packed)
FRAGMENT, ERRORS = 44, {1: (3, 11, 12), 58: (1, 2, 3, 4)}
ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
TAGS = (b"\x81\x00", b"\x88\xa8")


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes] = SEEDS) -> bytes:
    """A good frame with some octets changed, its end cut off or something put there."""
    frame = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(12, min(len(frame), 80) - 1))
        frame[position] = draw(st.sampled_from((0, 1, 0x45, 0x4F, 0x60, 6, 17, 58, 255)))
    if draw(st.booleans()):
        del frame[draw(st.integers(14, len(frame))) :]
    return bytes(frame) + draw(st.binary(max_size=12))


garbage = st.builds(
    lambda kind, rest: UPLINK_MAC.packed + mac(17).packed + kind + rest,
    st.sampled_from((ARP, IPV4, IPV6, b"\x81\x00", b"\x00\x10")),
    st.binary(max_size=120),
)
frames = st.one_of(damaged(), damaged(), garbage)
fuzz = settings(
    max_examples=count(500, 100000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def busy(shared_bench: Bench) -> Bench:
    """A director of both families with a guest of its own behind the tap."""
    shared_bench.apply(both(director(backends(*MEMBERS)), 17))
    shared_bench.apply(both(director(backends(*MEMBERS), address=VIP6, pool=2), 17))
    return shared_bench


def run(bench: Bench, program: str, frame: bytes, port: int) -> tuple[int, bytes] | None:
    """None for what the kernel's test run refuses: less than a network header."""
    if len(frame) < {IPV4: 34, IPV6: 54}.get(frame[12:14], 14):
        with pytest.raises(OSError, match="Invalid argument"):
            bench.run(program, frame, port)
        return None
    return bench.run(program, frame, port)


@fuzz
@given(frame=frames)
@example(frame=tcp()[:53])
@example(frame=tcp() + b"\0")
@example(frame=bytes(ether() / ip(CLIENT4, VIP4, frag=256) / UDP(dport=53) / b"later"))
def test_the_director_redirects_only_what_it_should(busy: Bench, frame: bytes) -> None:
    for key, _ in list(busy.maps.fragmented.items()):
        del busy.maps.fragmented[key]  # else parts go where those of an earlier frame went
    ran = run(busy, "director", frame, busy.uplink)
    if ran is None:
        return
    result, out = ran
    assert result in (REDIRECT, PASS, DROP)
    if result == REDIRECT and out[12:] == frame[12:]:
        _is_for_a_member(frame, out)
    elif result == REDIRECT:
        assert out[6:12] == UPLINK_MAC.packed
        assert any(vip in frame for vip in VIPS)
        assert out[12:14] == frame[12:14] in (ARP, IPV4, IPV6)
    else:
        assert out == frame


def _is_for_a_member(frame: bytes, out: bytes) -> None:
    assert out[:6] in [mac(number).packed for number in MEMBERS]
    assert out[6:12] == UPLINK_MAC.packed
    if frame[12:14] == IPV4:
        header, protocol, addressed = 14 + 4 * (frame[14] & 15), frame[23], frame[30:34]
        offset = int.from_bytes(frame[20:22]) & 0x1FFF
    else:
        header, protocol, addressed, offset = 54, frame[20], frame[38:54], 0
        if protocol == FRAGMENT:
            header, protocol, offset = 62, frame[54], int.from_bytes(frame[56:58]) >> 3
    assert addressed in VIPS
    assert offset == 0, "its first part has not come"
    if protocol in ERRORS:
        assert frame[header] in ERRORS[protocol]
        assert frame.count(addressed) > 1, "what it quotes has the address, too"
        return
    assert len(frame) >= header + {6: 20, 17: 8}[protocol]
    assert int.from_bytes(frame[header + 2 : header + 4]) == {6: 80, 17: 53}[protocol]


@fuzz
@given(frame=frames)
def test_the_guard_touches_only_what_names_the_address(busy: Bench, frame: bytes) -> None:
    for program in ("from_guest", "to_guest"):
        ran = run(busy, program, frame, busy.tap)
        if ran is None:
            return
        result, out = ran
        assert result in (PASS, DROP)
        assert len(out) == len(frame)
        if result == DROP and frame[12:14] in TAGS:
            assert int.from_bytes(frame[14:16]) & 0xFFF == 0, "something hides behind a tag"
            continue
        if result == DROP or out != frame:
            assert any(vip in frame for vip in VIPS)
            assert frame[12:14] == ARP or (frame[12:14] == IPV6 and frame[20] == 58)
        if out != frame:
            assert program == "from_guest"
            _has_another_sender(frame, out)


def _has_another_sender(frame: bytes, out: bytes) -> None:
    """Only the address and, for IPv6, the checksum differ."""
    changed = {n for n in range(len(frame)) if frame[n] != out[n]}
    assert changed <= set(range(28, 32) if frame[12:14] == ARP else {*range(22, 38), 56, 57})


@fuzz
@given(frame=frames)
def test_nothing_a_guest_sends_makes_it_own_the_address(busy: Bench, frame: bytes) -> None:
    if run(busy, "from_guest", frame, busy.tap):
        learned = {seen.address for _, seen in busy.maps.learned.items()}
        assert not learned & {pack_address(VIP4), pack_address(VIP6)}


OWN = tuple(own_of(vip).packed for vip in (VIP4, VIP6))
NAT_SEEDS = (
    *(towards(vip, there(kind)) for vip in (VIP4, VIP6) for kind in (TCP, UDP)),
    *(answer(own_of(vip), back(kind, OWN_PORT)) for vip in (VIP4, VIP6) for kind in (TCP, UDP)),
    *(towards(own_of(vip), there(TCP, OWN_PORT)) for vip in (VIP4, VIP6)),
    towards(VIP4, ICMP(type=3, code=4) / answer(VIP4, back(TCP))[14:]),
    towards(VIP6, ICMPv6PacketTooBig() / answer(VIP6, back(TCP))[14:]),
    answer(own_of(VIP4), ICMP(type=3, code=3) / towards(own_of(VIP4), there(UDP, OWN_PORT))[14:]),
    towards(VIP4, there(UDP, body=bytes(40)), flags="MF"),
    towards(VIP4, there(UDP, body=bytes(40)), frag=5),
    towards(VIP6, IPv6ExtHdrFragment(m=1) / there(UDP)),
    answer(own_of(VIP6), IPv6ExtHdrFragment(m=1) / back(UDP, OWN_PORT)),
)


@pytest.fixture
def edge(bench: Bench) -> Bench:
    """A guest behind edge NAT with sessions of both families and protocols."""
    translate(bench)
    for vip in (VIP4, VIP6):
        for kind in (TCP, UDP):
            opened(bench, vip, kind)
    return bench


@fuzz
@given(frame=st.one_of(damaged(NAT_SEEDS), damaged(NAT_SEEDS), garbage))
def test_edge_nat_changes_addresses_of_its_own_only(edge: Bench, frame: bytes) -> None:
    for program, has in (("to_guest", VIPS), ("from_guest", OWN)):
        ran = run(edge, program, frame, edge.tap)
        if ran is None:
            return
        result, out = ran
        assert result in (PASS, DROP)
        if result == PASS and out != frame:
            assert len(out) == len(frame)
            assert out[:14] == frame[:14]
            assert any(address in frame for address in has)
            assert any(address in out for address in VIPS + OWN)


@fuzz
@given(frame=damaged(NAT_SEEDS))
def test_edge_nat_does_not_mend_what_is_damaged(edge: Bench, frame: bytes) -> None:
    """The sum of an IPv4 header with its checksum stays as right or wrong as it was."""
    ran = run(edge, "to_guest", frame, edge.tap)
    if ran and ran[0] == PASS and ran[1] != frame and frame[12:14] == IPV4:
        assert _header_sum(ran[1]) == _header_sum(frame)


def _header_sum(frame: bytes) -> int:
    header = frame[14 : 14 + 4 * (frame[14] & 15)]
    return sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header), 2)) % 0xFFFF
