# SPDX-License-Identifier: Apache-2.0
"""NAT through the director: a member sees its own address, and a client or what stands for it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.model.dataplane import Mode
from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import pack_address
from tests.packet.conftest import FLOWS, UPLINK_MAC, Bench
from tests.packet.director import (
    FIRST,
    LAST,
    MODES,
    ONE_PORT,
    alias_in,
    client_as_seen,
    configure,
    from_client,
    from_member,
    passes,
    sent,
    sessions,
    to_client,
    to_member,
    translating,
)
from tests.packet.edge import NUMBER, OWN_PORT, PORT, TRANSPORTS, Transport, back, there
from tests.packet.frames import checksums_hold, client_of, ether, ip
from tests.planes import NETWORK, VIP4, VIP6, own
from tests.soak import count

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A director without pools; nothing is left of those that the test makes."""
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()
    assert not sessions(shared_bench)
    assert not list(shared_bench.maps.deliveries.items())
    ports = {"first_alias": FIRST, "aliases": LAST - FIRST + 1}
    configure(shared_bench, **ports)


@pytest.mark.requirement("L1")
@pytest.mark.requirement("L23")
@MODES
@FAMILIES
@PROTOCOLS
def test_both_ends_see_what_they_know(
    nat: Bench, mode: Mode, vip: Address, kind: Transport
) -> None:
    nat.apply(translating(mode, vip, NUMBER))
    out = sent(nat, from_client(vip, there(kind)))
    assert out
    client, port = client_as_seen(mode, vip, out)
    assert out == to_member(client, there(kind, OWN_PORT, sport=port))
    answer = from_member(client, back(kind, OWN_PORT, dport=port))
    assert sent(nat, answer) == to_client(vip, back(kind))


@pytest.mark.requirement("L1")
@settings(
    max_examples=count(150, 20000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    mode=st.sampled_from((Mode.NAT, Mode.FULL_NAT)),
    vip=st.sampled_from((VIP4, VIP6)),
    transport=TRANSPORTS,
    with_options=st.booleans(),
)
def test_there_and_back_is_what_it_was_with_checksums_that_hold(
    nat: Bench, mode: Mode, vip: Address, transport: Packet, with_options: bool
) -> None:
    nat.apply(translating(mode, vip, NUMBER))
    fields: dict[str, object] = {}
    if with_options and vip.version == 4:
        fields = {"options": [IPOption_Router_Alert()]}
    elif with_options:
        transport = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / transport
    frame = from_client(vip, transport, **fields)
    out = sent(nat, frame)
    if with_options and vip.version == 6:  # the director looks for no port behind extensions
        assert out is None
    else:
        assert out
        assert checksums_hold(out)
        assert (back_home := sent(nat, _turned(out)))
        assert back_home[14:] == _turned(frame)[14:]
    nat.clear()
    nat.engine.sweep()


def _turned(frame: bytes) -> bytes:
    """The same frame in the other direction: no checksum changes by that."""
    addresses = (26, 4) if frame[12] == 0x08 else (22, 16)
    l4 = 14 + 4 * (frame[14] & 15) if frame[12] == 0x08 else 54
    for at, size in ((0, 6), addresses, (l4, 2)):
        first, second = frame[at : at + size], frame[at + size : at + 2 * size]
        frame = frame[:at] + second + first + frame[at + 2 * size :]
    return UPLINK_MAC.packed + frame[6:]


@FAMILIES
def test_each_connection_has_an_alias_of_its_own_and_keeps_it(nat: Bench, vip: Address) -> None:
    nat.apply(translating(Mode.FULL_NAT, vip, NUMBER))
    ports = range(40000, 40200)
    aliases = [alias_in(sent(nat, from_client(vip, there(TCP, sport=p))) or b"") for p in ports]
    assert len(set(aliases)) == len(ports)
    assert all(FIRST <= alias <= LAST for alias in aliases)
    later = [
        alias_in(sent(nat, from_client(vip, there(TCP, sport=p, flags="A"))) or b"") for p in ports
    ]
    assert later == aliases


@FAMILIES
def test_a_connection_whose_session_is_gone_gets_its_alias_again(nat: Bench, vip: Address) -> None:
    nat.apply(translating(Mode.FULL_NAT, vip, NUMBER))
    first = sent(nat, from_client(vip, there(TCP)))
    for key in sessions(nat):
        del nat.maps.sessions[key]
    again = sent(nat, from_client(vip, there(TCP, flags="A")))
    assert first
    assert again
    assert alias_in(again) == alias_in(first)
    assert len(sessions(nat)) == 1


@FAMILIES
def test_members_are_given_the_same_alias_for_different_clients(nat: Bench, vip: Address) -> None:
    """Aliases are scarce: a port is taken for one end of one member only."""
    configure(nat, **ONE_PORT)
    nat.apply(translating(Mode.FULL_NAT, vip, 17, 18))
    outs = [sent(nat, from_client(vip, there(TCP, sport=port))) for port in (1000, 1001)]
    assert [out and alias_in(out) for out in outs] == [FIRST, FIRST]
    for number, port in ((17, 1000), (18, 1001)):
        answer = from_member(vip, back(TCP, OWN_PORT, dport=FIRST), number)
        assert sent(nat, answer) == to_client(vip, back(TCP, dport=port), number)


@pytest.mark.requirement("L22")
@FAMILIES
def test_without_a_free_alias_a_connection_is_refused_and_counted(
    nat: Bench, vip: Address
) -> None:
    configure(nat, **ONE_PORT)
    nat.apply(translating(Mode.FULL_NAT, vip, NUMBER))
    before = nat.engine.events()["no_alias"]
    assert sent(nat, from_client(vip, there(TCP, sport=1000)))
    assert sent(nat, from_client(vip, there(TCP, sport=1001))) is None
    assert nat.engine.events()["no_alias"] == before + 1
    assert sent(nat, from_client(vip, there(TCP, sport=1000, flags="A")))
    nat.age(3600)
    nat.engine.sweep()
    assert sent(nat, from_client(vip, there(TCP, sport=1001)))


def test_a_port_of_the_pool_is_no_alias(nat: Bench) -> None:
    configure(nat, first_alias=PORT, aliases=2)
    nat.apply(translating(Mode.FULL_NAT, VIP4, NUMBER))
    found = {
        alias_in(out)
        for port in range(1000, 1020)
        if (out := sent(nat, from_client(VIP4, there(TCP, sport=port))))
    }
    assert found == {PORT + 1}


@MODES
@FAMILIES
@PROTOCOLS
def test_without_a_port_of_its_own_a_member_serves_the_virtual_one(
    nat: Bench, mode: Mode, vip: Address, kind: Transport
) -> None:
    nat.apply(translating(mode, vip, NUMBER, port=None))
    out = sent(nat, from_client(vip, there(kind)))
    assert out
    client, port = client_as_seen(mode, vip, out)
    assert out == to_member(client, there(kind, PORT, sport=port))
    assert sent(nat, from_member(client, back(kind, dport=port))) == to_client(vip, back(kind))


def test_a_port_of_a_client_that_a_member_could_not_tell_apart_is_refused(nat: Bench) -> None:
    """Two pools end at one port of a member, which sees one client's port in both."""
    other = VIP4 + 1
    nat.apply(translating(Mode.NAT, VIP4, NUMBER), translating(Mode.NAT, other, NUMBER, pool=2))
    before = nat.engine.events()["session_clash"]
    client = client_of(VIP4)
    assert sent(nat, from_client(VIP4, there(TCP)))
    assert sent(nat, from_client(other, there(TCP), client)) is None
    assert nat.engine.events()["session_clash"] == before + 1


def test_with_aliases_it_can(nat: Bench) -> None:
    other = VIP4 + 1
    pools = [translating(Mode.FULL_NAT, v, NUMBER, pool=n) for n, v in enumerate((VIP4, other))]
    nat.apply(*pools)
    for vip in (VIP4, other):
        out = sent(nat, from_client(vip, there(TCP)))
        assert out
        answer = from_member(vip, back(TCP, OWN_PORT, dport=alias_in(out)))
        assert sent(nat, answer) == to_client(vip, back(TCP))


@MODES
def test_what_is_of_no_session_goes_to_the_host_or_nowhere(nat: Bench, mode: Mode) -> None:
    nat.apply(translating(mode, VIP4, NUMBER))
    elsewhere = client_of(VIP4, 7)
    assert passes(nat, from_member(elsewhere, back(TCP, 22, dport=1234))), (
        "a member's own business"
    )
    assert passes(nat, bytes(ether() / ip(elsewhere, own(30)) / there(TCP))), "a stranger's"
    before = nat.engine.events()["no_service"]
    assert sent(nat, from_member(VIP4, back(TCP, OWN_PORT, dport=FIRST))) is None
    assert sent(nat, from_client(VIP4, there(TCP, 81))) is None
    assert nat.engine.events()["no_service"] == before + 2


@MODES
@FAMILIES
def test_connections_stay_translated_when_the_pool_is_not(
    nat: Bench, mode: Mode, vip: Address
) -> None:
    plane = translating(mode, vip, NUMBER, port=None)
    nat.apply(plane)
    out = sent(nat, from_client(vip, there(TCP)))
    assert out
    assert plane.frontend
    direct = replace(plane.frontend.backends[0], mode=Mode.DR)
    nat.apply(replace(plane, frontend=replace(plane.frontend, backends=(direct,))))
    later = sent(nat, from_client(vip, there(TCP, flags="A")))
    assert later
    assert later[14:] == _with_flags(out, "A")
    client, port = client_as_seen(mode, vip, out)
    answer = from_member(client, back(TCP, dport=port))
    assert sent(nat, answer) == to_client(vip, back(TCP))
    fresh = sent(nat, from_client(vip, there(TCP, sport=1234)))
    assert fresh
    assert fresh[14:] == from_client(vip, there(TCP, sport=1234))[14:]


def _with_flags(frame: bytes, flags: str) -> bytes:
    """What follows the Ethernet header, with other flags of TCP and the checksums for them."""
    packet = Ether(frame)
    packet[TCP].flags = flags
    del packet[TCP].chksum
    return bytes(packet)[14:]


@MODES
def test_another_engine_finds_what_is_there(nat: Bench, mode: Mode) -> None:
    plane = translating(mode, VIP4, NUMBER)
    nat.apply(plane)
    out = sent(nat, from_client(VIP4, there(TCP)))
    assert out
    again = nat.reopen()
    assert again.observe() == {plane.pool_id: plane}
    again.apply(plane.pool_id, plane)
    again.attach(HostPort(nat.uplink, PortKind.UPLINK, NETWORK, UPLINK_MAC))
    client, port = client_as_seen(mode, VIP4, out)
    answer = from_member(client, back(TCP, OWN_PORT, dport=port))
    assert sent(nat, answer) == to_client(VIP4, back(TCP))
    again.apply(plane.pool_id, None)
    assert nat.engine.observe() == {}
    again.close()


@MODES
@FAMILIES
def test_a_members_packets_count(nat: Bench, mode: Mode, vip: Address) -> None:
    plane = translating(mode, vip, NUMBER)
    nat.apply(plane)
    out = sent(nat, from_client(vip, there(TCP)))
    assert out
    client, port = client_as_seen(mode, vip, out)
    answer = from_member(client, back(TCP, OWN_PORT, dport=port))
    sent(nat, answer)
    (counted,) = nat.engine.counters(plane.pool_id)
    assert (counted.packets_in, counted.packets_out) == (1, 1)
    assert counted.bytes_out == len(answer)


@MODES
def test_a_session_ends_with_its_member_and_with_its_time(nat: Bench, mode: Mode) -> None:
    plane = translating(mode, VIP4, 17, 18)
    nat.apply(plane)
    for port in (1000, 1001):
        assert sent(nat, from_client(VIP4, there(UDP, sport=port)))
    assert len(sessions(nat)) == 2
    assert plane.frontend
    left = replace(plane.frontend, backends=plane.frontend.backends[:1])
    nat.apply(replace(plane, frontend=left))
    nat.engine.sweep()
    (session,) = sessions(nat)
    assert session.guest == pack_address(own(17))
    nat.age(299)
    nat.engine.sweep()
    assert len(sessions(nat)) == 1
    nat.age(1)
    nat.engine.sweep()
    assert not sessions(nat)


def test_with_a_full_table_of_connections_full_nat_refuses(bench: Bench) -> None:
    """Without a place for its alias a connection could not be answered."""
    bench.apply(translating(Mode.FULL_NAT, VIP4, NUMBER))
    went = [bool(sent(bench, from_client(VIP4, there(TCP, sport=p)))) for p in range(1, FLOWS + 5)]
    assert went == [True] * FLOWS + [False] * 4
    assert sent(bench, from_client(VIP4, there(TCP, sport=1, flags="A")))
