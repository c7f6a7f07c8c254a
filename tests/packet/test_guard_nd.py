# SPDX-License-Identifier: Apache-2.0
"""The guard and neighbour discovery: the same for IPv6."""

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether

from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.frames import (
    ALL_NODES,
    CLIENT6,
    DROP,
    PASS,
    advertisement,
    checksums_hold,
    ether,
    solicitation,
)
from tests.planes import VIP6, backends, both, compute, director

OWN = VIP6 + 0x50
ROUTER = IPv6Address("fe80::1")
EUI64 = GUEST_MAC.link_local
PRIVATE = IPv6Address("fe80::1234:5678:9abc:def0")
NONCE = ICMPv6NDOptUnknown(type=14, len=1, data=b"\1\2\3\4\5\6")

pytestmark = pytest.mark.requirement("A15")


@pytest.fixture
def guarded(shared_bench: Bench) -> Bench:
    """A bench whose tap leads to a member of the pool; nothing is known of it yet."""
    shared_bench.apply(compute(17, address=VIP6))
    shared_bench.forget_guest()
    return shared_bench


@pytest.fixture
def neighbour(shared_bench: Bench) -> Bench:
    """A bench whose tap leads to a guest that is no member; another of the host is one."""
    shared_bench.apply(compute(30, address=VIP6))
    shared_bench.forget_guest()
    return shared_bench


def say(bench: Bench, frame: bytes) -> tuple[int, bytes]:
    """What comes of a frame that the guest sends."""
    return bench.run("from_guest", frame, bench.tap)


def tell(bench: Bench, frame: bytes) -> tuple[int, bytes]:
    """What comes of a frame on its way to the guest."""
    return bench.run("to_guest", frame, bench.tap)


def ask(source: object, target: object, option: object = None) -> bytes:
    return solicitation(source, target, GUEST_MAC, option)


def message(source: object, body: object) -> bytes:
    header = IPv6(src=str(source), dst="ff02::1", hlim=255)
    return bytes(ether(ALL_NODES, GUEST_MAC) / header / body)


SILENCED = {
    "unsolicited advertisement": advertisement(OWN, VIP6, GUEST_MAC),
    "advertisement in the address's name": advertisement(VIP6, VIP6, GUEST_MAC),
    "duplicate address detection": ask("::", VIP6, b""),
    "detection with nonce": ask("::", VIP6, NONCE),
    "solicitation of the address by itself": ask(VIP6, VIP6),
    "router advertisement": message(VIP6, ICMPv6ND_RA()),
    "redirect": message(VIP6, ICMPv6ND_Redirect(tgt=str(VIP6), dst=str(CLIENT6))),
}


@pytest.mark.parametrize("name", SILENCED)
def test_a_guest_is_not_heard_saying_it_has_the_address(guarded: Bench, name: str) -> None:
    before = guarded.engine.events()["guard_drop"]
    assert say(guarded, SILENCED[name])[0] == DROP
    assert guarded.engine.events()["guard_drop"] == before + 1


@pytest.mark.parametrize("option", [None, b"", NONCE], ids=["lladdr", "no option", "nonce"])
def test_a_question_in_the_addresss_name_is_asked_in_the_guests_own(
    guarded: Bench, option: object
) -> None:
    before = guarded.engine.events()["guard_rewrite"]
    result, out = say(guarded, ask(VIP6, ROUTER, option))
    assert (result, out) == (PASS, ask(EUI64, ROUTER, option))
    assert checksums_hold(out)
    assert guarded.engine.events()["guard_rewrite"] == before + 1


@pytest.mark.parametrize(
    "lesson",
    [
        ask(PRIVATE, ROUTER),
        ask("::", PRIVATE, b""),
        advertisement(PRIVATE, PRIVATE, GUEST_MAC),
        message(PRIVATE, ICMPv6ND_RS()),
    ],
    ids=["solicitation", "duplicate address detection", "advertisement", "router solicitation"],
)
def test_a_learned_link_local_address_is_used_instead_of_the_derived(
    guarded: Bench, lesson: bytes
) -> None:
    assert say(guarded, lesson) == (PASS, lesson)
    _, out = say(guarded, ask(VIP6, ROUTER))
    assert out == ask(PRIVATE, ROUTER)
    assert checksums_hold(out)


def test_a_global_address_does_not_replace_the_link_local_one(guarded: Bench) -> None:
    say(guarded, ask(OWN, ROUTER))
    assert Ether(say(guarded, ask(VIP6, ROUTER))[1])[IPv6].src == str(EUI64)


def test_a_router_solicitation_in_the_addresss_name_is_rewritten(guarded: Bench) -> None:
    frame = message(VIP6, ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=str(GUEST_MAC)))
    result, out = say(guarded, frame)
    assert (result, Ether(out)[IPv6].src) == (PASS, str(EUI64))
    assert checksums_hold(out)


def test_an_advertisement_of_another_address_in_the_addresss_name_is_rewritten(
    guarded: Bench,
) -> None:
    result, out = say(guarded, advertisement(VIP6, OWN, GUEST_MAC))
    assert (result, out) == (PASS, advertisement(EUI64, OWN, GUEST_MAC))


UNTOUCHED = {
    "solicitation": ask(OWN, ROUTER),
    "solicitation of the address": ask(OWN, VIP6),
    "duplicate address detection": ask("::", OWN, b""),
    "advertisement": advertisement(OWN, OWN, GUEST_MAC),
    "router advertisement": message(EUI64, ICMPv6ND_RA()),
    "multicast listener report": message(VIP6, ICMPv6MLReport2()),
    "truncated": ask("::", VIP6, b"")[:77],
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_a_guest_says_of_its_own_address_passes(guarded: Bench, name: str) -> None:
    assert say(guarded, UNTOUCHED[name]) == (PASS, UNTOUCHED[name])


def test_the_guests_own_addresses_are_learned_and_the_pools_is_not(guarded: Bench) -> None:
    for frame in (ask("::", EUI64, b""), ask(OWN, ROUTER), ask(VIP6, ROUTER), ask(OWN, VIP6)):
        say(guarded, frame)
    assert guarded.engine.guest_addresses(guarded.tap) == (OWN, EUI64)


def test_nobody_asks_a_guest_for_the_address(guarded: Bench) -> None:
    assert tell(guarded, solicitation(CLIENT6, VIP6))[0] == DROP
    assert tell(guarded, solicitation("::", VIP6, option=b""))[0] == DROP


def test_a_member_does_not_hear_that_somebody_else_has_its_address(guarded: Bench) -> None:
    assert tell(guarded, advertisement(VIP6, VIP6, UPLINK_MAC))[0] == DROP


HEARD = {
    "solicitation of its own address": solicitation(CLIENT6, OWN),
    "advertisement of the router": advertisement(ROUTER, ROUTER),
    "router advertisement": bytes(ether(ALL_NODES) / IPv6(src=str(ROUTER)) / ICMPv6ND_RA()),
    "truncated": solicitation(CLIENT6, VIP6)[:77],
}


@pytest.mark.parametrize("name", HEARD)
def test_a_guest_hears_everything_else(guarded: Bench, name: str) -> None:
    assert tell(guarded, HEARD[name]) == (PASS, HEARD[name])


def test_a_guest_that_is_no_member_hears_the_directors_answer(neighbour: Bench) -> None:
    reply = advertisement(VIP6, VIP6, UPLINK_MAC)
    assert tell(neighbour, reply) == (PASS, reply)


def test_a_guest_that_is_no_member_may_ask_for_the_address(neighbour: Bench) -> None:
    assert say(neighbour, ask(OWN, VIP6)) == (PASS, ask(OWN, VIP6))


def test_a_guest_that_is_no_member_cannot_take_the_address(neighbour: Bench) -> None:
    assert say(neighbour, advertisement(VIP6, VIP6, GUEST_MAC))[0] == DROP


def test_an_address_that_no_pool_has_may_be_announced(bench: Bench) -> None:
    for name, frame in SILENCED.items():
        assert say(bench, frame) == (PASS, frame), name


def test_a_director_guards_its_own_guests(bench: Bench) -> None:
    bench.apply(both(director(backends(17, 30), address=VIP6), 17))
    assert say(bench, advertisement(VIP6, VIP6, GUEST_MAC))[0] == DROP
    assert tell(bench, solicitation(CLIENT6, VIP6))[0] == DROP


def test_solicitations_are_as_scapy_reads_them() -> None:
    """The builders say what their names say: what the tests above rely on."""
    assert Ether(ask(OWN, ROUTER))[ICMPv6ND_NS].tgt == str(ROUTER)
    assert Ether(SILENCED["unsolicited advertisement"])[ICMPv6ND_NA].tgt == str(VIP6)


EXTENSIONS = {
    "hop by hop": IPv6ExtHdrHopByHop(),
    "destination options": IPv6ExtHdrDestOpt(),
    "both": IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_advertisement_behind_extension_headers_is_not_heard_either(
    guarded: Bench, name: str
) -> None:
    claim = ICMPv6ND_NA(tgt=str(VIP6)) / ICMPv6NDOptSrcLLAddr(lladdr=str(GUEST_MAC))
    outer = ether(ALL_NODES, GUEST_MAC) / IPv6(src=str(EUI64), dst="ff02::1", hlim=255)
    assert say(guarded, bytes(outer / EXTENSIONS[name] / claim))[0] == DROP
    other = ICMPv6ND_NA(tgt=str(OWN)) / ICMPv6NDOptSrcLLAddr(lladdr=str(GUEST_MAC))
    assert say(guarded, bytes(outer / EXTENSIONS[name] / other))[0] == PASS


def test_more_extension_headers_than_an_honest_guest_sends_are_dropped(guarded: Bench) -> None:
    outer = ether(ALL_NODES, GUEST_MAC) / IPv6(src=str(EUI64), dst="ff02::1", hlim=255)
    for _ in range(5):
        outer /= IPv6ExtHdrDestOpt()
    assert say(guarded, bytes(outer / ICMPv6ND_NA(tgt=str(VIP6))))[0] == DROP
