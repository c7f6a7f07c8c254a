# SPDX-License-Identifier: Apache-2.0
"""Edge NAT at the tap: the client speaks with the pool's address, the guest with its own."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN
from scapy.packet import Packet

from cloudlb.engines.base import Timeouts
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.network import Address
from cloudlb.net.answer import Segment, parse
from cloudlb.net.bpf.layout import pack_address
from cloudlb.net.frame import Path, Syn
from tests.packet.conftest import FLOWS, GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.edge import (
    CLIENT_PORT,
    NUMBER,
    OWN_PORT,
    POOL4,
    POOL6,
    PORT,
    TRANSPORTS,
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
from tests.packet.frames import arp, checksums_hold, client_of, echo, from_port
from tests.planes import VIP4, VIP6, backend, director, member_id, own, translated
from tests.soak import count

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A tap whose guest serves a pool of each family at a port of its own."""
    translate(shared_bench)
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()
    assert not sessions(shared_bench)
    assert not list(shared_bench.maps.deliveries.items())


@pytest.mark.requirement("L1")
@pytest.mark.requirement("L15")
@FAMILIES
@PROTOCOLS
def test_the_guest_sees_its_own_address_and_the_client_the_pools(
    nat: Bench, vip: Address, kind: Transport
) -> None:
    mine = own_of(vip)
    assert nat.to_guest(towards(vip, there(kind))) == towards(mine, there(kind, OWN_PORT))
    assert nat.from_guest(answer(mine, back(kind, OWN_PORT))) == answer(vip, back(kind))


@FAMILIES
@PROTOCOLS
def test_without_a_port_of_its_own_the_guest_serves_the_virtual_ones(
    nat: Bench, vip: Address, kind: Transport
) -> None:
    translate(nat, port=None)
    mine = own_of(vip)
    for port in (80, 443):
        assert nat.to_guest(towards(vip, there(kind, port))) == towards(mine, there(kind, port))
        assert nat.from_guest(answer(mine, back(kind, port))) == answer(vip, back(kind, port))


@pytest.mark.requirement("L1")
@settings(
    max_examples=count(150, 20000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    vip=st.sampled_from((VIP4, VIP6)),
    transport=TRANSPORTS,
    port=st.integers(1, 65535),
    with_options=st.booleans(),
)
def test_there_and_back_is_what_it_was_with_checksums_that_hold(
    nat: Bench, vip: Address, transport: Packet, port: int, with_options: bool
) -> None:
    transport.dport = port
    fields: dict[str, object] = {}
    if with_options and vip.version == 4:
        fields = {"options": [IPOption_Router_Alert()]}
    elif with_options:
        transport = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / transport
    frame = towards(vip, transport, **fields)
    out = nat.to_guest(frame)
    assert out == towards(own_of(vip), _with_port(transport, OWN_PORT), **fields)
    assert checksums_hold(out)
    assert nat.from_guest(_turned(out)) == _turned(frame)
    forget(nat)


def _with_port(transport: Packet, port: int) -> Packet:
    changed = transport.copy()
    changed[TCP if TCP in changed else UDP].dport = port
    return changed


def _turned(frame: bytes) -> bytes:
    """The same frame in the other direction: no checksum changes by that."""
    if frame[12] == 0x08:
        addresses, l4 = (26, 4), 14 + 4 * (frame[14] & 15)
    else:
        addresses, l4 = (22, 16), 54 + (8 if frame[20] == 60 else 0)
    for at, size in ((0, 6), addresses, (l4, 2)):
        first, second = frame[at : at + size], frame[at + size : at + 2 * size]
        frame = frame[:at] + second + first + frame[at + 2 * size :]
    return frame


def test_a_datagram_without_a_checksum_gets_none(nat: Bench) -> None:
    out = nat.to_guest(towards(VIP4, there(UDP, chksum=0)))
    assert out == towards(own_of(VIP4), there(UDP, OWN_PORT, chksum=0))
    frame = answer(own_of(VIP4), back(UDP, OWN_PORT, chksum=0))
    assert nat.from_guest(frame) == answer(VIP4, back(UDP, chksum=0))


@FAMILIES
def test_a_checksum_never_becomes_the_zero_that_says_there_is_none(
    nat: Bench, vip: Address
) -> None:
    base = _sum(towards(own_of(vip), there(UDP, OWN_PORT, bytes(2))))
    body = base.to_bytes(2)
    expected = towards(own_of(vip), there(UDP, OWN_PORT, body))
    assert _sum(expected) == 0xFFFF
    assert nat.to_guest(towards(vip, there(UDP, body=body))) == expected


def _sum(frame: bytes) -> int:
    at = 14 + (20 if frame[12] == 0x08 else 40) + 6
    return int.from_bytes(frame[at : at + 2])


@FAMILIES
@PROTOCOLS
def test_the_guests_own_business_is_left_alone(nat: Bench, vip: Address, kind: Transport) -> None:
    """Direct access to its own address, and connections that it opens."""
    mine = own_of(vip)
    to_it = [towards(mine, there(kind)), towards(mine, back(kind, 4711))]
    assert [nat.to_guest(frame) for frame in to_it] == to_it
    from_it = [answer(mine, back(kind)), answer(mine, there(kind)), answer(vip, back(kind))]
    assert [nat.from_guest(frame) for frame in from_it] == from_it
    assert not sessions(nat)
    assert nat.engine.counters(POOL4) == (MemberCounters(member_id(NUMBER)),)


@FAMILIES
def test_frames_that_a_bridge_floods_are_for_another(nat: Bench, vip: Address) -> None:
    frame = towards(vip, there(TCP), hardware=UPLINK_MAC)
    assert nat.to_guest(frame) == frame
    assert not sessions(nat)


def test_an_address_of_the_other_family_is_of_no_use(nat: Bench) -> None:
    plane = translated(NUMBER, address=VIP6, pool=2)
    nat.apply(replace(plane, guests=(replace(plane.guests[0], address=own(NUMBER)),)))
    frame = towards(VIP6, there(TCP))
    assert nat.to_guest(frame) == frame


@FAMILIES
def test_other_protocols_to_the_pools_address_are_left_alone(nat: Bench, vip: Address) -> None:
    frame = GUEST_MAC.packed + echo(vip)[6:]
    assert nat.to_guest(frame) == frame


def test_the_guest_may_ask_for_the_address_that_it_need_not_hold(nat: Bench) -> None:
    says = arp(VIP4, own_of(VIP4), op=2, hardware=UPLINK_MAC, destination=GUEST_MAC)
    assert nat.to_guest(says) == says
    another = arp(own_of(VIP4), own_of(VIP4), op=2, destination=GUEST_MAC)
    assert nat.to_guest(another) == another


@pytest.mark.requirement("L16")
@FAMILIES
def test_answers_of_a_session_count_for_the_member(nat: Bench, vip: Address) -> None:
    opened(nat, vip)
    frame = answer(own_of(vip), back(TCP, OWN_PORT))
    nat.from_guest(frame)
    counted = MemberCounters(member_id(NUMBER), packets_out=1, bytes_out=len(frame))
    assert nat.engine.counters(POOL4 if vip == VIP4 else POOL6) == (counted,)


@pytest.mark.requirement("L13")
@FAMILIES
def test_a_probe_of_the_virtual_port_is_answered_from_the_members_own(
    nat: Bench, vip: Address
) -> None:
    path = Path(UPLINK_MAC, GUEST_MAC, client_of(vip), vip)
    out = nat.to_guest(Syn(path, PORT).frame(77, CLIENT_PORT))
    translated = replace(path, address=own_of(vip))
    assert out == Syn(translated, OWN_PORT).frame(77, CLIENT_PORT)
    says = nat.from_guest(answer(own_of(vip), back(TCP, OWN_PORT, ack=78)))
    assert says
    heard = parse(says)
    assert isinstance(heard, Segment)
    assert (heard.end.mac, heard.end.port, heard.ack) == (GUEST_MAC.packed, PORT, 78)


@pytest.mark.requirement("L11")
@pytest.mark.parametrize(
    ("flags", "answers", "state"),
    [
        ("S", "", "opening"),
        ("S", "SA", "opening"),
        ("S A", "SA", "established"),
        ("A", "", "established"),
        ("S A FA", "", "closing"),
        ("S A", "FA", "closing"),
        ("S", "RA", "closing"),
        ("S A FA S", "", "opening"),
        ("S A S", "", "established"),
    ],
)
def test_a_session_is_forgotten_after_the_time_of_its_state(
    nat: Bench, flags: str, answers: str, state: str
) -> None:
    for each in flags.split():
        nat.to_guest(towards(VIP4, there(TCP, flags=each)))
    for each in answers.split():
        nat.from_guest(answer(own_of(VIP4), back(TCP, OWN_PORT, flags=each)))
    _is_in_state(nat, state)


@pytest.mark.requirement("L11")
def test_a_session_of_datagrams_is_forgotten_after_their_time(nat: Bench) -> None:
    opened(nat, VIP6, UDP)
    nat.from_guest(answer(own_of(VIP6), back(UDP, OWN_PORT)))
    _is_in_state(nat, "udp")


_STATES = ("opening", "established", "closing", "udp")


def _is_in_state(bench: Bench, state: str) -> None:
    _swept_with(bench, {other: 0.0 for other in _STATES if other != state})
    assert len(sessions(bench)) == 1
    _swept_with(bench, {state: 0.0})
    assert not sessions(bench)


def _swept_with(bench: Bench, limits: dict[str, float]) -> None:
    other = bench.reopen(Timeouts(**{state: limits.get(state, 1e6) for state in _STATES}))
    other.sweep()
    other.close()


@pytest.mark.requirement("L11")
def test_a_full_table_refuses_what_is_new_and_keeps_what_is_old(nat: Bench) -> None:
    old, new = (towards(VIP4, there(TCP, flags=flags)) for flags in ("A", "S"))
    for n in range(FLOWS):
        assert nat.to_guest(from_port(old, n))
    before = nat.engine.events()["table_full"]
    assert nat.to_guest(from_port(new, FLOWS)) is None
    assert nat.to_guest(from_port(old, 7))
    assert nat.engine.events()["table_full"] == before + 1


def test_sessions_go_with_their_member(nat: Bench) -> None:
    opened(nat, VIP4)
    opened(nat, VIP6)
    nat.engine.apply(POOL4, None)
    nat.engine.sweep()
    assert [left.address for left in sessions(nat).values()] == [VIP6.packed]


@pytest.mark.requirement("L9")
def test_sessions_stay_when_their_host_directs_the_pool_no_more(nat: Bench) -> None:
    (guest,) = translated(NUMBER, port=OWN_PORT).guests
    served = replace(backend(NUMBER), mode=guest.mode, address=guest.address, port=guest.port)
    nat.apply(replace(director([served]), guests=(guest,)))
    opened(nat)
    nat.apply(translated(NUMBER, port=OWN_PORT))
    nat.engine.sweep()
    assert nat.from_guest(answer(own_of(VIP4), back(TCP, OWN_PORT))) == answer(VIP4, back(TCP))
    (counters,) = nat.engine.counters(POOL4)
    assert counters.packets_out == 1


@pytest.mark.requirement("L9")
def test_sessions_go_on_under_another_engine(nat: Bench) -> None:
    opened(nat)
    other = nat.reopen()
    other.observe()
    other.close()
    assert nat.from_guest(answer(own_of(VIP4), back(TCP, OWN_PORT))) == answer(VIP4, back(TCP))


@pytest.mark.requirement("L1")
@FAMILIES
def test_a_guest_serves_several_pools_each_at_a_port_of_its_own(nat: Bench, vip: Address) -> None:
    mine, other = own_of(vip), vip + 1
    nat.apply(translated(NUMBER, address=other, pool=3, port=9090))
    for address, port in ((vip, OWN_PORT), (other, 9090)):
        assert nat.to_guest(towards(address, there(TCP))) == towards(mine, there(TCP, port))
    for address, port in ((vip, OWN_PORT), (other, 9090)):
        assert nat.from_guest(answer(mine, back(TCP, port))) == answer(address, back(TCP))


@pytest.mark.parametrize("leaves", [1, 3])
def test_the_pools_that_stay_keep_the_guest_whichever_leaves(nat: Bench, leaves: int) -> None:
    mine, other = own_of(VIP4), VIP4 + 1
    nat.apply(translated(NUMBER, address=other, pool=3, port=9090))
    opened(nat)
    nat.to_guest(towards(other, there(TCP)))
    nat.engine.apply(director((), pool=leaves).pool_id, None)
    stays, port = (other, 9090) if leaves == 1 else (VIP4, OWN_PORT)
    assert nat.from_guest(answer(mine, back(TCP, port))) == answer(stays, back(TCP))
    nat.engine.sweep()
    assert len(sessions(nat)) == 1


def test_a_new_own_address_takes_the_place_of_the_old(nat: Bench) -> None:
    plane = translated(NUMBER)
    nat.apply(replace(plane, guests=(replace(plane.guests[0], address=own(18)),)))
    assert nat.to_guest(towards(VIP4, there(TCP))) == towards(own(18), there(TCP))
    keys = {key.address for key, _ in nat.maps.deliveries.items()}
    assert pack_address(own(18)) in keys
    assert pack_address(own(17)) not in keys


CLASHES = pytest.mark.parametrize("is_direct", [False, True], ids=["another service", "direct"])


def _another_use(bench: Bench, is_direct: bool, transport: Transport) -> bytes | None:
    """From the client port of a session, to what the guest takes for the same end."""
    if is_direct:
        return bench.to_guest(towards(own_of(VIP4), there(transport, OWN_PORT)))
    return bench.to_guest(towards(VIP4, there(transport, 443)))


def _answer_of(is_direct: bool, kind: Transport) -> bytes:
    """How the guest's answer to that other use must leave."""
    if is_direct:
        return answer(own_of(VIP4), back(kind, OWN_PORT))
    return answer(VIP4, back(kind, 443))


@CLASHES
@pytest.mark.parametrize("flags", ["S", "S A"])
def test_a_connection_is_not_mixed_with_another_from_the_same_client_port(
    nat: Bench, is_direct: bool, flags: str
) -> None:
    for each in flags.split():
        nat.to_guest(towards(VIP4, there(TCP, flags=each)))
    before = nat.engine.events()["session_clash"]
    assert _another_use(nat, is_direct, TCP) is None
    assert nat.engine.events()["session_clash"] == before + 1
    assert nat.from_guest(answer(own_of(VIP4), back(TCP, OWN_PORT))) == answer(VIP4, back(TCP))


@CLASHES
def test_a_connection_that_has_ended_gives_way(nat: Bench, is_direct: bool) -> None:
    for each in ("S", "A", "FA"):
        nat.to_guest(towards(VIP4, there(TCP, flags=each)))
    assert _another_use(nat, is_direct, TCP)
    says = answer(own_of(VIP4), back(TCP, OWN_PORT))
    assert nat.from_guest(says) == _answer_of(is_direct, TCP)


@CLASHES
def test_of_datagrams_the_latest_use_counts(nat: Bench, is_direct: bool) -> None:
    opened(nat, VIP4, UDP)
    assert _another_use(nat, is_direct, UDP)
    says = answer(own_of(VIP4), back(UDP, OWN_PORT))
    assert nat.from_guest(says) == _answer_of(is_direct, UDP)
