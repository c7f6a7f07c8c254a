# SPDX-License-Identifier: Apache-2.0
"""NAT through the director of what has no ports to go by: ICMP errors and fragments."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.model.dataplane import Mode
from cloudlb.model.network import Address
from tests.packet.conftest import UPLINK_MAC, Bench
from tests.packet.director import (
    MODES,
    client_as_seen,
    from_client,
    from_member,
    passes,
    sent,
    sessions,
    to_client,
    to_member,
    translating,
)
from tests.packet.edge import NUMBER, OWN_PORT, Transport, back, there
from tests.packet.errors import (
    ERRORS,
    QUOTED,
    ROUTER,
    icmp_checksum_holds,
    quoted,
    without_quoted_checksum,
)
from tests.packet.frames import client_of, ether, ip
from tests.packet.parts import parts_of
from tests.planes import VIP4, VIP6, mac, own

pytestmark = pytest.mark.requirement("L12")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A director without pools; nothing is left of those that the test makes."""
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()
    assert not sessions(shared_bench)
    for key, _ in list(shared_bench.maps.fragmented.items()):
        del shared_bench.maps.fragmented[key]


def opened(bench: Bench, mode: Mode, vip: Address, kind: Transport) -> tuple[Address, int]:
    """What the member takes for the client of a connection that there is now."""
    bench.apply(translating(mode, vip, NUMBER))
    out = sent(bench, from_client(vip, there(kind)))
    assert out
    return client_as_seen(mode, vip, out)


@MODES
@PROTOCOLS
@pytest.mark.parametrize(("vip", "error"), ERRORS)
@QUOTED
def test_a_routers_error_about_an_answer_names_what_the_member_knows(
    nat: Bench, mode: Mode, vip: Address, error: Packet, kind: Transport, octets: int
) -> None:
    client, port = opened(nat, mode, vip, kind)
    seen = quoted(to_client(vip, back(kind)), octets)
    about = quoted(from_member(client, back(kind, OWN_PORT, dport=port)), octets)
    router = ROUTER[vip.version]
    out = sent(nat, bytes(ether() / ip(router, vip) / error / seen))
    source = router if mode is Mode.NAT else vip
    header = ether(mac(NUMBER), UPLINK_MAC) / ip(source, own(NUMBER, vip.version))
    assert out
    assert without_quoted_checksum(out, kind) == without_quoted_checksum(
        bytes(header / error / about), kind
    )
    assert icmp_checksum_holds(out)


@MODES
@PROTOCOLS
@pytest.mark.parametrize("by_router", [False, True], ids=["of the member", "of a router"])
@pytest.mark.parametrize(("vip", "error"), ERRORS)
@QUOTED
def test_an_error_about_a_request_names_what_the_client_knows(
    nat: Bench,
    mode: Mode,
    vip: Address,
    error: Packet,
    kind: Transport,
    octets: int,
    by_router: bool,
) -> None:
    client, port = opened(nat, mode, vip, kind)
    got = quoted(to_member(client, there(kind, OWN_PORT, sport=port)), octets)
    about = quoted(from_client(vip, there(kind)), octets)
    link = ether(UPLINK_MAC, mac(NUMBER))
    source = ROUTER[vip.version] if by_router else own(NUMBER, vip.version)
    out = sent(nat, bytes(link / ip(source, client) / error / got))
    shown = source if by_router else vip
    assert out
    assert without_quoted_checksum(out, kind) == without_quoted_checksum(
        bytes(link / ip(shown, client_of(vip)) / error / about), kind
    )
    assert icmp_checksum_holds(out)


@MODES
@FAMILIES
def test_an_error_about_no_session_is_not_translated(nat: Bench, mode: Mode, vip: Address) -> None:
    client, _ = opened(nat, mode, vip, TCP)
    error = next(p.values[1] for p in ERRORS if p.values[0] == vip)
    about = quoted(to_member(client, there(TCP, OWN_PORT, sport=1)), 8)
    frame = bytes(ether() / ip(own(NUMBER, vip.version), client) / error / about)
    if mode is Mode.NAT:
        assert passes(nat, frame), "it may be about the member's own business"
    else:
        assert sent(nat, frame) is None


@MODES
@FAMILIES
def test_the_parts_of_a_datagram_are_translated_there_and_back(
    nat: Bench, mode: Mode, vip: Address
) -> None:
    nat.apply(translating(mode, vip, NUMBER))
    body = bytes(n % 251 for n in range(1100))
    outs = [sent(nat, part) for part in parts_of(from_client(vip, there(UDP, body=body)))]
    assert len(outs) > 2
    assert all(outs)
    client, port = client_as_seen(mode, vip, _first_without_fragment_header(outs))
    whole = to_member(client, there(UDP, OWN_PORT, body=body, sport=port))
    assert outs == parts_of(whole)
    answer = from_member(client, back(UDP, OWN_PORT, body=body, dport=port))
    backs = [sent(nat, part) for part in parts_of(answer, identity=9)]
    assert backs == parts_of(to_client(vip, back(UDP, body=body)), identity=9)


def _first_without_fragment_header(outs: list[bytes | None]) -> bytes:
    first = outs[0] or b""
    return first if first[12] == 0x08 else first[:54] + first[62:]


@FAMILIES
def test_parts_of_a_members_own_datagrams_go_to_the_host(nat: Bench, vip: Address) -> None:
    client, _ = opened(nat, Mode.NAT, vip, UDP)
    datagram = from_member(client, back(UDP, 9999, body=bytes(1100), dport=4711))
    assert all(passes(nat, part) for part in parts_of(datagram))
    assert Ether(datagram).src == str(mac(NUMBER))
