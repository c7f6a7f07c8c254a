# SPDX-License-Identifier: Apache-2.0
"""Connections keep the mode in which they began when the data plane of their pool changes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.succession import after
from tests.packet.conftest import GUEST_MAC, TAP_MAC, UPLINK_MAC, Bench
from tests.packet.director import alias_in
from tests.packet.frames import CLIENT_MAC, REDIRECT, client_of, ether, ip
from tests.packet.parts import parts_of, wire
from tests.packet.tunnels import DIRECTOR4, DIRECTOR6, MTU, OWN4, OWN6, wrapped
from tests.planes import NETWORK, VIP4, VIP6, backend, both, director, guest

pytestmark = pytest.mark.requirement("L2")
NUMBER = 17
BY_DIRECTOR = (Mode.NAT, Mode.FULL_NAT)
TRANSLATED = (Mode.EDGE_NAT, *BY_DIRECTOR)
OWN = {4: OWN4, 6: OWN6}
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PAIRS = pytest.mark.parametrize(("old", "new"), list(permutations(Mode, 2)), ids=str)


@dataclass
class Site:
    """A director whose one member is behind a tap of the same host."""

    bench: Bench
    vip: Address
    plane: Plane | None = None
    aliases: dict[int, int] = field(default_factory=dict)

    def serve_by(self, mode: Mode) -> None:
        """Change the data plane as an agent does."""
        own = OWN[self.vip.version]
        member = replace(backend(NUMBER), mode=mode, address=own)
        whole = both(director([member], address=self.vip, pool=self.vip.version), NUMBER)
        guests = (replace(guest(NUMBER), mode=mode, address=own),)
        self.plane = after(replace(whole, guests=guests), self.plane)
        self.bench.apply(self.plane)

    def sent(self, sport: int, flags: str, body: bytes = b"") -> bytes:
        """A client's segment."""
        segment = TCP(sport=sport, dport=80, flags=flags) / Raw(body)
        return bytes(ether() / ip(client_of(self.vip), self.vip, **self._df()) / segment)

    def expected(self, sport: int, flags: str, mode: Mode, body: bytes = b"") -> bytes:
        """The same segment as the guest gets it."""
        client, port = self._client(mode, sport)
        segment = TCP(sport=port, dport=80, flags=flags) / Raw(body)
        header = ip(client, self._end(mode), **self._df())
        return bytes(ether(GUEST_MAC, UPLINK_MAC) / header / segment)

    def _end(self, mode: Mode) -> Address:
        """What the guest calls its end."""
        return OWN[self.vip.version] if mode in TRANSLATED else self.vip

    def _client(self, mode: Mode, sport: int) -> tuple[Address, int]:
        """What it takes for the client's."""
        if mode is Mode.FULL_NAT:
            return self.vip, self.aliases[sport]
        return client_of(self.vip), sport

    def delivered(self, frame: bytes) -> tuple[bool, bytes | None]:
        """Whether a frame passes through a tunnel, and what the guest gets of it.

        What a tunnel's outer header says of its next hop is the kernel's business.
        """
        result, out = self.bench.run("director", frame, self.bench.uplink)
        assert result == REDIRECT
        in_tunnel = len(out) > len(frame)
        if in_tunnel:
            assert out[14:] == wrapped(frame, OWN[self.vip.version], flow_label=_label(out))[14:]
            out = GUEST_MAC.packed + UPLINK_MAC.packed + out[12:]
        return in_tunnel, self.bench.to_guest(out)

    def goes_by(self, mode: Mode, sport: int, flags: str) -> None:
        """Assert that a segment reaches the guest in this mode."""
        in_tunnel, got = self.delivered(self.sent(sport, flags))
        assert in_tunnel == (mode is Mode.TUN)
        if mode is Mode.FULL_NAT:
            self.aliases.setdefault(sport, alias_in(got or b""))
        assert got == self.expected(sport, flags, mode)

    def answered_by(self, mode: Mode, sport: int) -> None:
        """Assert that the guest's answer in a connection reaches the client from the pool."""
        client, port = self._client(mode, sport)
        hardware = UPLINK_MAC if mode in BY_DIRECTOR else CLIENT_MAC
        link = ether(hardware, GUEST_MAC)
        says = link / ip(self._end(mode), client) / TCP(sport=80, dport=port, flags="A")
        leaves = link / ip(self.vip, client_of(self.vip)) / TCP(sport=80, dport=sport, flags="A")
        out = self.bench.from_guest(bytes(says))
        if mode in BY_DIRECTOR:
            assert out == bytes(says)
            result, out = self.bench.run("director", out, self.bench.uplink)
            assert result == REDIRECT
        assert out == bytes(leaves)

    def _df(self) -> dict[str, str]:
        return {"flags": "DF"} if self.vip.version == 4 else {}


def _label(out: bytes) -> int:
    return int.from_bytes(out[15:18]) & 0xFFFFF if out[14] >> 4 == 6 else 0


@pytest.fixture
def site(shared_bench: Bench, vip: Address) -> Iterator[Site]:
    """A site without a plane yet."""
    bench, hosts = shared_bench, (DIRECTOR4, DIRECTOR6)
    uplink = HostPort(bench.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC, hosts, MTU)
    bench.engine.attach(uplink)
    bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK, TAP_MAC, mtu=MTU))
    yield Site(bench, vip)
    bench.clear()
    bench.engine.sweep()
    bench.engine.detach(bench.uplink)
    for key, _ in list(bench.maps.fragmented.items()):
        del bench.maps.fragmented[key]


@FAMILIES
@PAIRS
def test_a_connection_keeps_its_mode_and_a_new_one_has_the_new_mode(
    site: Site, old: Mode, new: Mode
) -> None:
    site.serve_by(old)
    site.goes_by(old, 40000, "S")
    site.goes_by(old, 40000, "A")
    site.serve_by(new)
    for flags in ("PA", "FA", "A"):
        site.goes_by(old, 40000, flags)
        site.answered_by(old, 40000)
    site.goes_by(new, 40001, "S")
    site.goes_by(new, 40001, "A")
    site.answered_by(new, 40001)


@FAMILIES
@pytest.mark.parametrize("order", list(permutations(Mode, 3)), ids="-".join)
def test_connections_of_all_modes_live_side_by_side(site: Site, order: tuple[Mode, ...]) -> None:
    modes = [*order, order[0], order[2], order[1], order[0]]
    for number, mode in enumerate(modes):
        site.serve_by(mode)
        site.goes_by(mode, 41000 + number, "S")
        site.goes_by(mode, 41000 + number, "A")
        for earlier, began in enumerate(modes[:number]):
            site.goes_by(began, 41000 + earlier, "PA")
            site.answered_by(began, 41000 + earlier)


@FAMILIES
@PAIRS
def test_modes_of_living_connections_are_read_back_from_the_kernel(
    site: Site, old: Mode, new: Mode
) -> None:
    site.serve_by(old)
    site.serve_by(new)
    assert site.plane
    assert site.plane.guests[0].former == (old,)
    assert site.bench.engine.observe() == {site.plane.pool_id: site.plane}


@FAMILIES
@pytest.mark.parametrize("new", [Mode.DR, Mode.TUN])
def test_a_port_used_again_after_a_translated_connection_is_not_translated(
    site: Site, new: Mode
) -> None:
    site.serve_by(Mode.EDGE_NAT)
    for flags in ("S", "A", "FA"):
        site.goes_by(Mode.EDGE_NAT, 42000, flags)
    site.serve_by(new)
    for flags in ("S", "A", "PA"):
        site.goes_by(new, 42000, flags)


@FAMILIES
def test_datagrams_of_a_session_stay_translated_and_others_are_not(site: Site) -> None:
    site.serve_by(Mode.EDGE_NAT)
    assert _datagram(site, 43000) == OWN[site.vip.version].packed
    site.serve_by(Mode.DR)
    assert _datagram(site, 43000) == OWN[site.vip.version].packed
    assert _datagram(site, 43001) == site.vip.packed


def _datagram(site: Site, sport: int) -> bytes:
    """Where a datagram to the pool goes in the guest's eyes."""
    frame = bytes(ether() / ip(client_of(site.vip), site.vip) / UDP(sport=sport, dport=53))
    _, got = site.delivered(frame)
    assert got
    return got[30:34] if site.vip.version == 4 else got[38:54]


@FAMILIES
@pytest.mark.parametrize("new", [Mode.DR, Mode.EDGE_NAT])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.requirement("L12")
def test_parts_of_a_segment_have_the_mode_of_its_connection(
    site: Site, new: Mode, backwards: bool
) -> None:
    old = Mode.EDGE_NAT if new is Mode.DR else Mode.DR
    site.serve_by(old)
    site.goes_by(old, 44000, "S")
    site.goes_by(old, 44000, "A")
    site.serve_by(new)
    body = bytes(range(250)) * 5
    came = parts_of(GUEST_MAC.packed + UPLINK_MAC.packed + site.sent(44000, "PA", body)[12:])
    expected = parts_of(site.expected(44000, "PA", old, body))
    with wire("tap0") as host, wire("tap1") as guest_side:
        host.send(reversed(came) if backwards else came)
        got = guest_side.take(len(came), UPLINK_MAC.packed)
    assert Counter(got) == Counter(expected)


@FAMILIES
def test_a_guest_that_becomes_another_starts_without_former_modes(site: Site) -> None:
    site.serve_by(Mode.DR)
    assert site.plane
    other = replace(site.plane.guests[0], mode=Mode.TUN, mac=TAP_MAC)
    assert not after(replace(site.plane, guests=(other,)), site.plane).guests[0].former
