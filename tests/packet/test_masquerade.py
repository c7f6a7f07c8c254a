# SPDX-License-Identifier: Apache-2.0
"""What members begin by themselves: the other end sees the pool's address and a port of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet

from cloudlb.engines.base import HostPort, PortKind, Sharer
from cloudlb.model.dataplane import AliasPart, Mode, Plane
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import ModeNumber
from tests.packet.conftest import REDIRECTED, UPLINK_MAC, Bench
from tests.packet.director import (
    FIRST,
    LAST,
    MODES,
    ONE_PORT,
    alias_in,
    configure,
    from_member,
    passes,
    sent,
    sessions,
    to_member,
    translating,
)
from tests.packet.edge import NUMBER, Transport
from tests.packet.frames import client_of, ether, ip
from tests.planes import NETWORK, VIP4, VIP6, mac, own

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
PORT, PEER_PORT, ROUTER, OTHER = 34567, 443, 7, mac(77)
OPENING, ESTABLISHED, CLOSING = 0, 1, 2


def masking(mode: Mode, vip: Address, *numbers: int, router: int = 0) -> Plane:
    """A pool that masquerades."""
    plane = translating(mode, vip, *(numbers or (NUMBER,)))
    assert plane.frontend
    part = AliasPart(0, 2) if router else AliasPart()
    frontend = replace(plane.frontend, aliases=part, masquerade=True, router=router)
    return replace(plane, frontend=frontend)


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A director without pools; nothing is left of those that the test makes."""
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()
    assert not sessions(shared_bench)
    assert not list(shared_bench.maps.flows.items())
    configure(shared_bench, first_alias=FIRST, aliases=LAST - FIRST + 1)
    sharer(shared_bench).befriend(ROUTER, OTHER, [OTHER], 0.0, -1.0)


def sharer(bench: Bench) -> Sharer:
    """The connections of a bench."""
    assert bench.engine.sharing
    return bench.engine.sharing


def said(kind: Transport, sport: int = PORT, body: bytes = b"odd", flags: str = "S") -> Packet:
    """What a member sends, from a port of its own."""
    more = {"flags": flags} if kind is TCP else {}
    return kind(sport=sport, dport=PEER_PORT, **more) / body


def answer(kind: Transport, port: int, body: bytes = b"answer", flags: str = "SA") -> Packet:
    """What comes back to a port."""
    more = {"flags": flags} if kind is TCP else {}
    return kind(sport=PEER_PORT, dport=port, **more) / body


def from_peer(vip: Address, transport: Packet, **fields: object) -> bytes:
    """A frame of the other end to the pool's address."""
    return bytes(ether() / ip(client_of(vip), vip, **fields) / transport)


def as_sent(vip: Address, transport: Packet) -> bytes:
    """A member's frame on its way to the other end."""
    return bytes(ether(UPLINK_MAC, mac(NUMBER)) / ip(vip, client_of(vip)) / transport)


def begun(bench: Bench, vip: Address, kind: Transport = TCP, sport: int = PORT) -> int:
    """The alias of a connection that the member begins."""
    out = sent(bench, from_member(client_of(vip), said(kind, sport)))
    assert out
    return alias_in(out)


@pytest.mark.requirement("L22")
@MODES
@FAMILIES
@PROTOCOLS
def test_both_ends_see_what_they_know(
    nat: Bench, mode: Mode, vip: Address, kind: Transport
) -> None:
    nat.apply(masking(mode, vip))
    out = sent(nat, from_member(client_of(vip), said(kind)))
    assert out
    alias = alias_in(out)
    assert FIRST <= alias <= LAST
    assert out == as_sent(vip, said(kind, alias))
    back = sent(nat, from_peer(vip, answer(kind, alias)))
    assert back == to_member(client_of(vip), answer(kind, PORT))
    more = from_member(client_of(vip), said(kind, body=b"more", flags="PA"))
    assert sent(nat, more) == as_sent(vip, said(kind, alias, b"more", "PA"))


@pytest.mark.requirement("L22")
@FAMILIES
def test_a_retransmission_keeps_its_port_and_others_get_others(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    first = begun(nat, vip)
    assert begun(nat, vip) == first
    aliases = {begun(nat, vip, sport=sport) for sport in range(PORT, PORT + 50)}
    assert len(aliases) == 50


@pytest.mark.requirement("L22")
@FAMILIES
def test_when_no_port_is_left_the_packet_is_refused_and_counted(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    configure(nat, **ONE_PORT)
    assert begun(nat, vip) == ONE_PORT["first_alias"]
    before = nat.engine.events()["no_alias"]
    assert sent(nat, from_member(client_of(vip), said(TCP, PORT + 1))) is None
    assert nat.engine.events()["no_alias"] == before + 1
    assert begun(nat, vip) == ONE_PORT["first_alias"]


@pytest.mark.requirement("L22")
@FAMILIES
def test_a_port_serves_several_other_ends(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    configure(nat, **ONE_PORT)
    for peer in (client_of(vip), client_of(vip) + 1):
        out = sent(nat, from_member(peer, said(TCP)))
        assert out
        assert alias_in(out) == ONE_PORT["first_alias"]


@pytest.mark.requirement("L22")
@FAMILIES
def test_a_service_of_the_pool_is_no_alias(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    configure(nat, first_alias=80, aliases=2)
    assert begun(nat, vip) == 81


@FAMILIES
def test_a_pool_that_does_not_masquerade_leaves_members_alone(nat: Bench, vip: Address) -> None:
    nat.apply(translating(Mode.NAT, vip, NUMBER))
    assert passes(nat, from_member(client_of(vip), said(TCP)))


@pytest.fixture
def hosts(nat: Bench) -> Iterator[dict[int, Address]]:
    """The host's own addresses in the network, by family."""
    addresses = {4: VIP4 + 50, 6: VIP6 + 50}
    port = HostPort(nat.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC)
    nat.engine.attach(replace(port, addresses=tuple(addresses.values())))
    yield addresses
    nat.engine.attach(port)


@pytest.mark.requirement("L22")
@FAMILIES
@PROTOCOLS
def test_what_goes_to_pools_members_and_the_host_keeps_its_source(
    nat: Bench, hosts: dict[int, Address], vip: Address, kind: Transport
) -> None:
    nat.apply(masking(Mode.NAT, vip, NUMBER, NUMBER + 1))
    for other in (own(NUMBER + 1, vip.version), hosts[vip.version]):
        assert passes(nat, from_member(other, said(kind)))
    assert sent(nat, from_member(vip, said(kind))) is None  # no service of the pool
    assert not sessions(nat)


@pytest.mark.requirement("L22")
@FAMILIES
def test_a_connection_lives_as_long_as_its_state_says(nat: Bench, vip: Address) -> None:
    """Whoever closes it, and when its ports are used again."""
    nat.apply(masking(Mode.NAT, vip))
    alias = begun(nat, vip)
    assert states(nat) == {OPENING}
    for by, flags, state in (
        ("peer", "SA", None),
        ("member", "A", ESTABLISHED),
        ("member", "R", CLOSING),
        ("member", "S", OPENING),
        ("peer", "SA", None),
        ("member", "PA", ESTABLISHED),
        ("peer", "FA", CLOSING),
    ):
        if by == "peer":
            assert sent(nat, from_peer(vip, answer(TCP, alias, flags=flags)))
        else:
            out = sent(nat, from_member(client_of(vip), said(TCP, flags=flags)))
            assert out
            assert alias_in(out) == alias
        if state is not None:
            assert states(nat) == {state}, (by, flags)


def states(bench: Bench) -> set[int]:
    """What a connection's flow and its session are in."""
    (flow,) = (flow for _, flow in bench.maps.flows.items())
    (session,) = sessions(bench).values()
    return {flow.state, session.state}


@pytest.mark.requirement("L12")
@pytest.mark.requirement("L22")
def test_all_parts_of_a_datagram_get_the_address(nat: Bench) -> None:
    nat.apply(masking(Mode.NAT, VIP4))
    whole = IP(src=str(own(NUMBER, 4)), dst=str(client_of(VIP4)), id=7) / said(
        UDP, body=b"x" * 3000
    )
    parts = [bytes(ether(UPLINK_MAC, mac(NUMBER)) / part) for part in fragment(whole, 1000)]
    out = [sent(nat, part) for part in parts]
    assert len(out) > 2
    assert [IP(part[14:]).src for part in out if part] == [str(VIP4)] * len(parts)


@pytest.mark.requirement("L12")
@pytest.mark.requirement("L22")
@FAMILIES
def test_a_members_error_tells_the_other_end_what_it_knows(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    alias = begun(nat, vip, UDP)

    def refusal(address: Address, port: int) -> Packet:
        quoted = ip(client_of(vip), address) / UDP(sport=PEER_PORT, dport=port, chksum=1)
        if vip.version == 4:
            return ICMP(type=3, code=3) / IP(bytes(quoted))
        return ICMPv6DestUnreach(code=4) / IPv6(bytes(quoted))

    out = sent(nat, from_member(client_of(vip), refusal(own(NUMBER, vip.version), PORT)))
    assert out == as_sent(vip, refusal(vip, alias))


@pytest.mark.requirement("L22")
@FAMILIES
@pytest.mark.parametrize("flags", ["SA", "A", "PA", "FA", "R"])
def test_answers_to_who_has_asked_the_member_itself_keep_their_source(
    nat: Bench, vip: Address, flags: str
) -> None:
    nat.apply(masking(Mode.NAT, vip))
    assert passes(nat, from_member(client_of(vip), said(TCP, flags=flags)))


@pytest.mark.requirement("L22")
@FAMILIES
def test_it_is_no_load_of_the_pool(nat: Bench, vip: Address) -> None:
    plane = masking(Mode.NAT, vip)
    nat.apply(plane)
    alias = begun(nat, vip)
    for flags in ("SA", "A", "FA"):
        assert sent(nat, from_peer(vip, answer(TCP, alias, flags=flags)))
    (counted,) = nat.engine.counters(plane.pool_id)
    assert (counted.connections, counted.active, counted.inactive) == (0, 0, 0)
    assert nat.engine.flows(plane.pool_id, 10) == ()


@pytest.mark.requirement("L22")
@FAMILIES
def test_strangers_reach_no_member_by_an_alias(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    alias = begun(nat, vip)
    frame = bytes(ether() / ip(client_of(vip) + 1, vip) / answer(TCP, alias))
    assert sent(nat, frame) is None
    assert sent(nat, from_peer(vip, TCP(sport=PEER_PORT + 1, dport=alias))) is None


@pytest.mark.requirement("L12")
@pytest.mark.requirement("L22")
@FAMILIES
def test_an_icmp_error_finds_the_member_that_it_is_about(nat: Bench, vip: Address) -> None:
    nat.apply(masking(Mode.NAT, vip))
    alias = begun(nat, vip)
    out = sent(nat, from_peer(vip, _too_big(vip, vip, alias)))
    assert out == to_member(client_of(vip), _too_big(vip, own(NUMBER, vip.version), PORT))


def _too_big(vip: Address, source: Address, port: int) -> Packet:
    quoted = ip(source, client_of(vip)) / TCP(sport=port, dport=PEER_PORT, chksum=1)
    if vip.version == 4:
        return ICMP(type=3, code=4, nexthopmtu=1400) / IP(bytes(quoted))
    return ICMPv6PacketTooBig(mtu=1400) / IPv6(bytes(quoted))


@pytest.mark.requirement("L22")
@FAMILIES
def test_a_member_that_sends_alone_is_still_answered(nat: Bench, vip: Address) -> None:
    """What the other end is known by is renewed, or made anew, by the member's packets."""
    nat.apply(masking(Mode.NAT, vip))
    alias = begun(nat, vip, UDP)
    for key, _ in list(nat.maps.flows.items()):
        del nat.maps.flows[key]
    assert begun(nat, vip, UDP) == alias
    back = sent(nat, from_peer(vip, answer(UDP, alias)))
    assert back == to_member(client_of(vip), answer(UDP, PORT))


@pytest.mark.requirement("L14")
@pytest.mark.requirement("L22")
@FAMILIES
def test_another_director_takes_it_over(nat: Bench, vip: Address) -> None:
    plane = masking(Mode.NAT, vip, router=ROUTER)
    nat.apply(plane)
    list(sharer(nat).news())
    alias = begun(nat, vip)
    (told,) = sharer(nat).news()
    assert (told.mode, told.alias) == (ModeNumber.MASQUERADE, PORT)
    nat.clear()
    nat.engine.sweep()
    assert not sessions(nat)
    nat.apply(plane)
    sharer(nat).adopt([told])
    more = from_member(client_of(vip), said(TCP, body=b"more", flags="PA"))
    assert sent(nat, more) == as_sent(vip, said(TCP, alias, b"more", "PA"))
    back = sent(nat, from_peer(vip, answer(TCP, alias)))
    assert back == to_member(client_of(vip), answer(TCP, PORT))


@pytest.mark.requirement("L22")
@FAMILIES
def test_an_answer_that_is_not_known_yet_goes_to_the_other_director(
    nat: Bench, vip: Address
) -> None:
    nat.apply(masking(Mode.NAT, vip, router=ROUTER))
    sharer(nat).befriend(ROUTER, OTHER, [OTHER], 0.0, 60.0)
    theirs = FIRST + 1 if FIRST % 2 == 0 else FIRST
    for port in (theirs + 1, LAST + 1):  # which is not theirs to give
        assert sent(nat, from_peer(vip, answer(TCP, port))) is None
    frame = from_peer(vip, answer(TCP, theirs))
    result, out = nat.run("director", frame, nat.uplink)
    assert (result, out) == (REDIRECTED, OTHER.packed + UPLINK_MAC.packed + frame[12:])
    circling = frame[:6] + OTHER.packed + frame[12:]
    assert sent(nat, circling) is None
