# SPDX-License-Identifier: Apache-2.0
"""Connections of dead members stay, go to other members or are reset, as their pool says."""

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.model.dataplane import Algorithm, Backend, BackendState, Plane, Reason
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.net.bpf.layout import ModeNumber
from tests.packet.conftest import DROP, REDIRECTED, UPLINK_MAC, Bench
from tests.packet.frames import CLIENT_MAC, checksums_hold, client_of, ether, ip, tcp, udp
from tests.planes import VIP4, VIP6, backend, backends, both, director, member_id

FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
GIVEN_UP = pytest.mark.parametrize("state", [BackendState.DESERTED, BackendState.CUT])


def dead(number: int, state: BackendState) -> Backend:
    return replace(backend(number), state=state)


def pool(*members: Backend, vip: Address = VIP4, **spec: object) -> Plane:
    return director(members, address=vip, **spec)  # type: ignore[arg-type]


def begin(bench: Bench, vip: Address = VIP4, ports: range = range(40000, 40003)) -> None:
    """Connections by port with the members 1, 2 and 3 in turn."""
    bench.apply(pool(*backends(1, 2, 3), vip=vip))
    assert [bench.direct(tcp("S", port, vip)) for port in ports] == [1, 2, 3]
    assert [bench.direct(tcp("A", port, vip)) for port in ports] == [1, 2, 3]


def segment(flags: str, vip: Address, payload: bytes = b"", **fields: int) -> bytes:
    """A segment of the connection from port 40000."""
    header = TCP(sport=40000, dport=80, flags=flags, seq=1000, **fields)
    return bytes(ether() / ip(client_of(vip), vip) / header / payload)


def answer(bench: Bench, frame: bytes) -> Packet | None:
    """What the director sends back to the client, None for nothing."""
    result, out = bench.run("director", frame, bench.uplink)
    if result == DROP:
        return None
    assert result == REDIRECTED
    assert checksums_hold(out)
    return Ether(out)


def counts(bench: Bench) -> dict[int, tuple[int, int]]:
    """Active and inactive connections by member."""
    (pool_id,) = bench.engine.observe()
    found = bench.engine.counters(pool_id)
    return {int(c.member_id) & 0xFFFF: (c.active, c.inactive) for c in found}


@pytest.mark.requirement("A13")
@FAMILIES
def test_a_dead_member_keeps_its_connections_unless_the_pool_says_otherwise(
    bench: Bench, vip: Address
) -> None:
    begin(bench, vip)
    bench.apply(pool(backend(1, idle=True), *backends(2, 3), vip=vip))
    assert [bench.direct(tcp("A", port, vip)) for port in range(40000, 40003)] == [1, 2, 3]


@pytest.mark.requirement("A17")
@FAMILIES
def test_connections_of_a_dead_member_go_to_others_and_stay_there(
    bench: Bench, vip: Address
) -> None:
    begin(bench, vip)
    bench.apply(pool(dead(1, BackendState.DESERTED), *backends(2, 3), vip=vip))
    there = bench.direct(tcp("PA", 40000, vip, payload=b"more"))
    assert there in (2, 3)
    assert [bench.direct(tcp("A", port, vip)) for port in range(40000, 40003)] == [there, 2, 3]
    bench.apply(pool(*backends(1, 2, 3), vip=vip))
    assert bench.direct(tcp("A", 40000, vip)) == there


@pytest.mark.requirement("A17")
@GIVEN_UP
@FAMILIES
def test_datagrams_of_a_dead_member_take_the_next_turn(
    bench: Bench, vip: Address, state: BackendState
) -> None:
    bench.apply(pool(*backends(1, 2, 3), vip=vip))
    assert [bench.direct(udp(40000 + n, vip)) for n in range(3)] == [1, 2, 3]
    bench.apply(pool(dead(1, state), *backends(2, 3), vip=vip))
    there = bench.direct(udp(40000, vip))
    assert there in (2, 3)
    assert [bench.direct(udp(40000 + n, vip)) for n in range(3)] == [there, 2, 3]


@GIVEN_UP
def test_a_port_that_is_used_again_begins_at_once(bench: Bench, state: BackendState) -> None:
    begin(bench)
    bench.apply(pool(dead(1, state), *backends(2, 3)))
    assert bench.direct(tcp("S", 40000)) in (2, 3)


def test_counts_follow_a_connection_to_its_other_member(bench: Bench) -> None:
    begin(bench)
    bench.apply(pool(dead(1, BackendState.DESERTED), backend(2)))
    assert bench.direct(tcp("A", 40000)) == 2
    assert counts(bench)[1] == (0, 0)
    assert sum(counts(bench)[2]) == 2


@GIVEN_UP
def test_without_another_member_a_connection_waits_for_its_own(
    bench: Bench, state: BackendState
) -> None:
    bench.apply(pool(backend(1)))
    assert [bench.direct(udp()), bench.direct(udp())] == [1, 1]
    bench.apply(pool(dead(1, state)))
    assert bench.direct(udp()) is None
    bench.apply(pool(backend(1)))
    assert bench.direct(udp()) == 1


def test_no_other_director_is_asked_where_the_connection_is_known(bench: Bench) -> None:
    """The other one was heard just now, and would get what is not known."""
    begin(bench)
    sharing = bench.engine.sharing
    assert sharing
    bench.apply(pool(dead(1, BackendState.DESERTED), *backends(2, 3), router=9))
    sharing.befriend(9, UPLINK_MAC, [UPLINK_MAC], 0, 60)
    assert bench.direct(tcp("A", 40000)) in (2, 3)


def test_a_hosts_own_dead_member_does_not_get_what_it_has_lost(bench: Bench) -> None:
    """What nobody knows goes to a host's own members; what is known to be lost does not."""
    begin(bench)
    whole = pool(dead(1, BackendState.DESERTED), *backends(2, 3))
    assert whole.frontend
    kept = both(replace(whole, frontend=replace(whole.frontend, keeps_unknown=True)), 1)
    bench.apply(kept)
    assert bench.direct(tcp("A", 45000)) == 1
    assert bench.direct(tcp("A", 40000)) in (2, 3)


@pytest.mark.requirement("A17")
@FAMILIES
@pytest.mark.parametrize(
    ("flags", "payload"), [("A", b""), ("PA", b"x" * 1200), ("FA", b"bye"), ("SA", b"")]
)
def test_a_clients_segment_to_a_dead_member_is_reset(
    bench: Bench, vip: Address, flags: str, payload: bytes
) -> None:
    """RFC 9293, 3.10.7.1: the sequence number is the one that is acknowledged."""
    begin(bench, vip)
    bench.apply(pool(dead(1, BackendState.CUT), *backends(2, 3), vip=vip))
    before = bench.engine.events()["reset"]
    told = answer(bench, segment(flags, vip, payload, ack=0xFEDCBA98))
    assert told is not None
    assert (told.dst, told.src) == (CLIENT_MAC, str(UPLINK_MAC))
    network = told[IP if vip.version == 4 else IPv6]
    assert (network.src, network.dst) == (str(vip), str(client_of(vip)))
    said = told[TCP]
    assert (said.sport, said.dport, str(said.flags), said.seq) == (80, 40000, "R", 0xFEDCBA98)
    assert len(told) == 14 + len(network) == 14 + (40 if vip.version == 4 else 60)
    assert bench.engine.events()["reset"] - before == 1
    assert counts(bench)[1] == (0, 1), "it is closing"
    assert bench.direct(tcp("A", 40001, vip)) == 2


@pytest.mark.parametrize("flags", ["R", "RA", "", "F"])
def test_what_is_no_answerable_segment_gets_no_answer(bench: Bench, flags: str) -> None:
    begin(bench)
    bench.apply(pool(dead(1, BackendState.CUT), *backends(2, 3)))
    assert answer(bench, segment(flags, VIP4, ack=7)) is None


def test_options_of_the_ip_header_do_not_come_back(bench: Bench) -> None:
    begin(bench)
    bench.apply(pool(dead(1, BackendState.CUT), *backends(2, 3)))
    frame = Ether(segment("PA", VIP4, b"data", ack=9))
    frame[IP].options = [IPOption_NOP()] * 40
    for name in ("ihl", "len", "chksum"):
        delattr(frame[IP], name)
    told = answer(bench, bytes(frame))
    assert told is not None
    assert (told[IP].ihl, told[TCP].seq, len(told)) == (5, 9, 54)


def test_a_member_that_comes_back_has_no_connection_that_was_reset(bench: Bench) -> None:
    """Its client begins anew, with the same port as well."""
    begin(bench)
    bench.apply(pool(dead(1, BackendState.CUT), *backends(2, 3)))
    assert answer(bench, segment("A", VIP4, ack=7)) is not None
    bench.apply(pool(*backends(1, 2, 3)))
    assert bench.direct(tcp("S", 40000)) in (1, 2, 3)
    assert counts(bench)[1][0] == 0


def test_what_becomes_of_a_connection_is_explained(bench: Bench) -> None:
    begin(bench)
    client, http = client_of(VIP4), Port(Protocol.TCP, 80)
    (pool_id,) = bench.engine.observe()
    bench.apply(pool(dead(1, BackendState.CUT), *backends(2, 3)))
    reset = bench.engine.explain(pool_id, client, 40000, http)
    assert (reset.member_id, reset.reason) == (None, Reason.CONNECTION)
    bench.apply(pool(dead(1, BackendState.DESERTED), *backends(2, 3)))
    moved = bench.engine.explain(pool_id, client, 40000, http)
    next_one = bench.direct(tcp("S", 41000))
    assert next_one
    assert (moved.member_id, moved.reason) == (member_id(next_one), Reason.TURN)


@GIVEN_UP
def test_what_a_member_has_begun_is_its_own(bench: Bench, state: BackendState) -> None:
    begin(bench)
    for key, flow in list(bench.maps.flows.items()):
        bench.maps.flows[key] = flow._replace(mode=ModeNumber.MASQUERADE)
    known = dict(bench.maps.flows.items())
    bench.apply(pool(dead(1, state), *backends(2, 3)))
    result, _ = bench.run("director", tcp("A", 40000), bench.uplink)
    assert result == DROP, "it has no session"
    members = {key: flow.member for key, flow in bench.maps.flows.items()}
    assert members == {key: flow.member for key, flow in known.items()}


@pytest.mark.requirement("A13")
@pytest.mark.parametrize(
    "scheduler", [Algorithm.ROUND_ROBIN, Algorithm.WLC_ACTIVE, Algorithm.MAGLEV]
)
def test_a_member_that_leaves_moves_its_own_flows_only(bench: Bench, scheduler: Algorithm) -> None:
    ports = range(40000, 40060)
    bench.apply(pool(*backends(1, 2, 3), vip=VIP6, algorithm=scheduler))
    before = {}
    for port in ports:
        before[port] = bench.direct(tcp("S", port, VIP6))
        assert bench.direct(tcp("A", port, VIP6)) == before[port]
    assert set(before.values()) == {1, 2, 3}
    bench.apply(pool(*backends(1, 3), vip=VIP6, algorithm=scheduler))
    after = {port: bench.direct(tcp("A", port, VIP6)) for port in ports}
    assert {port for port in ports if before[port] != after[port]} == {
        port for port in ports if before[port] == 2
    }
