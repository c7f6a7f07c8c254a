# SPDX-License-Identifier: Apache-2.0
"""A TCP option by which full NAT tells members who their client is."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from tests.packet.conftest import Bench
from tests.packet.director import from_client, from_member, sent, translating
from tests.packet.edge import CLIENT_PORT, NUMBER, OWN_PORT, PORT, back, there
from tests.packet.frames import checksums_hold, client_of
from tests.planes import VIP4, VIP6
from tests.soak import count

pytestmark = pytest.mark.requirement("L19")
FAMILIES = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
KIND = 254
LINUX = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]


def told(vip: Address, *, tells: bool = True) -> Plane:
    """A pool whose member hears of its clients."""
    plane = translating(Mode.FULL_NAT, vip, NUMBER)
    assert plane.frontend
    return replace(plane, frontend=replace(plane.frontend, tells_clients=tells))


@pytest.fixture
def nat(shared_bench: Bench) -> Iterator[Bench]:
    """A director without pools."""
    yield shared_bench
    shared_bench.clear()
    shared_bench.engine.sweep()


def syn(**fields: Any) -> TCP:
    return there(TCP, body=b"", **{"flags": "S", "seq": 0x12345678, "options": LINUX, **fields})


def option(vip: Address) -> tuple[int, bytes]:
    return KIND, CLIENT_PORT.to_bytes(2) + client_of(vip).packed


def through(nat: Bench, vip: Address, segment: TCP) -> Ether:
    """What the member gets of a client's segment."""
    out = sent(nat, from_client(vip, segment))
    assert out
    assert checksums_hold(out)
    parsed = Ether(out)
    length = parsed[IP].len if vip.version == 4 else parsed[IPv6].plen + 40
    assert length == len(out) - 14
    return parsed


@FAMILIES
def test_segments_of_the_handshake_tell_the_client_and_no_others(nat: Bench, vip: Address) -> None:
    nat.apply(told(vip))
    opening = through(nat, vip, syn())[TCP]
    assert opening.options == [option(vip), *LINUX]
    assert (opening.seq, opening.flags, opening.dport) == (0x12345678, "S", OWN_PORT)
    again = through(nat, vip, syn())[TCP]
    assert again.options == opening.options
    accepted = back(TCP, OWN_PORT, dport=opening.sport, flags="SA", body=b"", options=LINUX)
    answer = sent(nat, from_member(vip, accepted))
    assert answer
    assert Ether(answer)[TCP].options == LINUX
    stamp = [("NOP", None), ("NOP", None), ("Timestamp", (8, 9))]
    acknowledging = there(TCP, body=b"", flags="A", options=stamp)
    assert through(nat, vip, acknowledging)[TCP].options == [option(vip), *stamp]
    assert through(nat, vip, acknowledging)[TCP].options == stamp
    data = there(TCP, body=b"GET", flags="PA", options=stamp)
    assert through(nat, vip, data)[TCP].options == stamp


@FAMILIES
def test_nothing_is_told_where_nobody_asked(nat: Bench, vip: Address) -> None:
    nat.apply(told(vip, tells=False))
    assert through(nat, vip, syn())[TCP].options == LINUX
    nat.apply(told(vip))
    datagram = sent(nat, from_client(vip, there(UDP)))
    assert datagram
    assert bytes(Ether(datagram)[UDP].payload) == bytes(there(UDP).payload)


@settings(
    max_examples=count(100, 20000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    vip=st.sampled_from((VIP4, VIP6)),
    words=st.integers(0, 10),
    padding=st.integers(0, 6),
    body=st.sampled_from((b"", b"", b"", b"early data")),
    client_port=st.integers(1, 65535),
)
def test_a_segment_without_room_for_it_goes_as_it_is(
    nat: Bench, vip: Address, words: int, padding: int, body: bytes, client_port: int
) -> None:
    """Behind what follows the header nothing can be put; what follows the packet is cut off."""
    nat.apply(told(vip))
    others = [("NOP", None)] * (4 * words)
    segment = there(TCP, body=body, flags="S", options=others, sport=client_port, dport=PORT)
    before = nat.engine.events()["client_untold"]
    out = sent(nat, from_client(vip, segment) + bytes(padding))
    assert out
    size = 4 * words + (8 if vip.version == 4 else 20)
    has_room = not body and size <= 40
    assert nat.engine.events()["client_untold"] - before == (not has_room)
    parsed = Ether(out)[TCP]
    expected = (KIND, client_port.to_bytes(2) + client_of(vip).packed)
    assert parsed.options == ([expected, *others] if has_room else others)
    assert bytes(parsed.payload).rstrip(b"\0") == body
    assert checksums_hold(out)
    nat.clear()
    nat.engine.sweep()


CLAIM = (KIND, bytes.fromhex("1234 c6336409"))
LONG = (KIND, bytes(18))
OTHER = (253, bytes(4))


@FAMILIES
@pytest.mark.parametrize(
    ("own", "left"),
    [
        ([CLAIM], [8]),
        ([LINUX[0], CLAIM, LINUX[1]], [LINUX[0], 8, LINUX[1]]),
        ([CLAIM, CLAIM], [16]),
        ([OTHER, ("NOP", None), ("NOP", None), CLAIM, ("EOL", None)], [OTHER, 10, ("EOL", None)]),
    ],
    ids=["alone", "between", "twice", "before the end"],
)
@pytest.mark.parametrize("body", [b"", b"early data"])
def test_what_a_client_says_of_itself_is_overwritten(
    nat: Bench, vip: Address, own: list[Any], left: list[Any], body: bytes
) -> None:
    """A number in ``left`` is of octets that say nothing."""
    nat.apply(told(vip))
    kept = [o for one in left for o in ([("NOP", None)] * one if isinstance(one, int) else [one])]
    out = through(nat, vip, there(TCP, body=body, flags="S", options=own))
    has_room = not body and (vip.version == 4 or len(kept) <= 20)
    shown = [o for o in out[TCP].options if o[0] != "EOL"]
    assert shown == ([option(vip)] if has_room else []) + [o for o in kept if o[0] != "EOL"]


def test_without_room_a_claim_goes_all_the_same(nat: Bench) -> None:
    nat.apply(told(VIP6))
    segment = syn(options=[LONG, LONG])
    assert through(nat, VIP6, segment)[TCP].options == [("NOP", None)] * 40
