# SPDX-License-Identifier: Apache-2.0
"""Any octets through any program: nothing is redirected, dropped or changed without a reason."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NS

from cloudlb.net.bpf.layout import pack_address
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.frames import (
    CLIENT4,
    CLIENT6,
    DROP,
    PASS,
    REDIRECT,
    advertisement,
    arp,
    echo,
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
)
MEMBERS = (1, 17)
VIPS = (VIP4.packed, VIP6.packed)
ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good frame with some octets changed, its end cut off or something put there."""
    frame = bytearray(draw(st.sampled_from(SEEDS)))
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
def test_the_director_redirects_only_what_it_should(busy: Bench, frame: bytes) -> None:
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
        assert int.from_bytes(frame[20:22]) & 0x3FFF == 0, "a fragment"
    else:
        header, protocol, addressed = 54, frame[20], frame[38:54]
    assert addressed in VIPS
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
        learned = {key.address for key, _ in busy.maps.learned.items()}
        assert not learned & {pack_address(VIP4), pack_address(VIP6)}
