# SPDX-License-Identifier: Apache-2.0
"""The guard and ARP: a guest that holds a pool's address is never heard or asked about it."""

from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute
from scapy.layers.l2 import ARP, Ether

from cloudlb.engines.base import HostPort, PortKind
from tests.packet.conftest import GUEST_MAC, TAP_MAC, UPLINK_MAC, Bench
from tests.packet.frames import BROADCAST, CLIENT4, CLIENT_MAC, DROP, PASS, arp
from tests.planes import NETWORK, VIP4, backends, both, compute, director

OWN = VIP4 + 50
ROUTER = VIP4 + 1
NOBODY = "0.0.0.0"  # noqa: S104 (RFC 5227's probe)

pytestmark = pytest.mark.requirement("A15")


@pytest.fixture
def guarded(shared_bench: Bench) -> Bench:
    """A bench whose tap leads to a member of the pool; nothing is known of it yet."""
    shared_bench.apply(compute(17))
    shared_bench.forget_guest()
    return shared_bench


@pytest.fixture
def neighbour(shared_bench: Bench) -> Bench:
    """A bench whose tap leads to a guest that is no member; another of the host is one."""
    shared_bench.apply(compute(30))
    shared_bench.forget_guest()
    return shared_bench


def say(bench: Bench, frame: bytes) -> tuple[int, bytes]:
    """What comes of a frame that the guest sends."""
    return bench.run("from_guest", frame, bench.tap)


def tell(bench: Bench, frame: bytes) -> tuple[int, bytes]:
    """What comes of a frame on its way to the guest."""
    return bench.run("to_guest", frame, bench.tap)


def by_guest(
    sender: object, target: object, op: int = 1, destination: object = BROADCAST
) -> bytes:
    return arp(sender, target, op, GUEST_MAC, destination)


SILENCED = {
    "reply": by_guest(VIP4, CLIENT4, op=2, destination=CLIENT_MAC),
    "reply to all": by_guest(VIP4, CLIENT4, op=2),
    "gratuitous request": by_guest(VIP4, VIP4),
    "gratuitous reply": by_guest(VIP4, VIP4, op=2),
    "probe": by_guest(NOBODY, VIP4),
    "reverse request": by_guest(VIP4, CLIENT4, op=3),
}


@pytest.mark.parametrize("name", SILENCED)
def test_a_guest_is_not_heard_saying_it_has_the_address(guarded: Bench, name: str) -> None:
    before = guarded.engine.events()["guard_drop"]
    assert say(guarded, SILENCED[name])[0] == DROP
    assert guarded.engine.events()["guard_drop"] == before + 1


def test_a_question_in_the_addresss_name_is_asked_in_the_guests_own(guarded: Bench) -> None:
    before = guarded.engine.events()["guard_rewrite"]
    say(guarded, by_guest(OWN, ROUTER))
    result, out = say(guarded, by_guest(VIP4, ROUTER))
    assert (result, out) == (PASS, by_guest(OWN, ROUTER))
    assert guarded.engine.events()["guard_rewrite"] == before + 1


def test_without_a_known_own_address_the_question_goes_out_as_a_probe(guarded: Bench) -> None:
    result, out = say(guarded, by_guest(VIP4, ROUTER))
    assert (result, out) == (PASS, by_guest(NOBODY, ROUTER))


@pytest.mark.parametrize("op", [1, 2], ids=["request", "reply"])
def test_the_own_address_is_the_one_used_last(guarded: Bench, op: int) -> None:
    say(guarded, by_guest(OWN + 1, ROUTER))
    say(guarded, by_guest(OWN, ROUTER, op))
    _, out = say(guarded, by_guest(VIP4, ROUTER))
    assert Ether(out)[ARP].psrc == str(OWN)


def test_a_probe_for_the_guests_own_address_teaches_nothing_yet(guarded: Bench) -> None:
    assert say(guarded, by_guest(NOBODY, OWN))[0] == PASS
    _, out = say(guarded, by_guest(VIP4, ROUTER))
    assert Ether(out)[ARP].psrc == NOBODY


UNTOUCHED = {
    "request": by_guest(OWN, ROUTER),
    "request for the address": by_guest(OWN, VIP4),
    "reply": by_guest(OWN, CLIENT4, op=2),
    "announcement": by_guest(OWN, OWN),
    "probe": by_guest(NOBODY, OWN),
    "truncated": by_guest(VIP4, CLIENT4, op=2)[:41],
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_a_guest_says_of_its_own_address_passes(guarded: Bench, name: str) -> None:
    assert say(guarded, UNTOUCHED[name]) == (PASS, UNTOUCHED[name])


def test_the_guests_own_addresses_are_learned_newest_first(guarded: Bench) -> None:
    for address in (OWN, OWN + 1):
        say(guarded, by_guest(address, ROUTER))
    say(guarded, by_guest(VIP4, ROUTER))
    assert guarded.engine.guest_addresses(guarded.tap) == (OWN + 1, OWN)


def test_an_address_that_is_used_again_stays_when_others_make_room(guarded: Bench) -> None:
    for number in range(100):
        say(guarded, by_guest(VIP4 + 1000 + number, ROUTER))
        say(guarded, by_guest(OWN, ROUTER))
    learned = guarded.engine.guest_addresses(guarded.tap)
    assert learned[:2] == (OWN, VIP4 + 1099)
    assert len(learned) == 16


@pytest.fixture
def second_tap() -> Iterator[int]:
    """The number of another guest's tap."""
    with IPRoute() as ipr:
        ipr.link("add", ifname="tap2", kind="veth", peer={"ifname": "guest2"})
        (index,) = ipr.link_lookup(ifname="tap2")
        yield index
        ipr.link("del", index=index)


def test_a_guest_that_invents_addresses_takes_no_other_guests_place(
    bench: Bench, second_tap: int
) -> None:
    bench.engine.attach(HostPort(second_tap, PortKind.TAP, NETWORK, TAP_MAC))
    bench.run("from_guest", by_guest(OWN, ROUTER), second_tap)
    for number in range(2 * 4096):
        say(bench, by_guest(VIP4 + 1000 + number, ROUTER))
    assert bench.engine.guest_addresses(second_tap) == (OWN,)
    bench.run("from_guest", by_guest(OWN + 1, ROUTER), second_tap)
    assert bench.engine.guest_addresses(second_tap) == (OWN + 1, OWN)
    assert len(list(bench.maps.learned.items())) == 16 + 2
    bench.engine.detach(bench.tap)
    assert len(list(bench.maps.learned.items())) == 2


def test_nobody_asks_a_guest_for_the_address(guarded: Bench) -> None:
    assert tell(guarded, arp(CLIENT4, VIP4))[0] == DROP
    assert tell(guarded, arp(CLIENT4, VIP4, destination=GUEST_MAC))[0] == DROP


def test_a_member_does_not_hear_that_somebody_else_has_its_address(guarded: Bench) -> None:
    assert tell(guarded, arp(VIP4, VIP4, hardware=UPLINK_MAC))[0] == DROP
    assert tell(guarded, arp(VIP4, OWN, op=2, hardware=UPLINK_MAC))[0] == DROP


HEARD = {
    "request for its own address": arp(CLIENT4, OWN),
    "reply of the router": arp(ROUTER, OWN, op=2),
    "reply to a question that went out as a probe": arp(ROUTER, NOBODY, op=2),
    "truncated": arp(CLIENT4, VIP4)[:41],
}


@pytest.mark.parametrize("name", HEARD)
def test_a_guest_hears_everything_else(guarded: Bench, name: str) -> None:
    assert tell(guarded, HEARD[name]) == (PASS, HEARD[name])


def test_a_guest_that_is_no_member_hears_the_directors_answer(neighbour: Bench) -> None:
    reply = arp(VIP4, OWN, op=2, hardware=UPLINK_MAC, destination=GUEST_MAC)
    assert tell(neighbour, reply) == (PASS, reply)


@pytest.mark.requirement("L14")
def test_a_guest_that_does_not_hold_the_address_hears_where_it_is_now(neighbour: Bench) -> None:
    """The pool's address may be its next hop, and moves from one director to another."""
    announcement = arp(VIP4, VIP4, hardware=UPLINK_MAC)
    assert tell(neighbour, announcement) == (PASS, announcement)


def test_a_guest_that_is_no_member_may_ask_for_the_address(neighbour: Bench) -> None:
    assert say(neighbour, by_guest(OWN, VIP4)) == (PASS, by_guest(OWN, VIP4))


def test_a_guest_that_is_no_member_cannot_take_the_address(neighbour: Bench) -> None:
    assert say(neighbour, by_guest(VIP4, VIP4))[0] == DROP


def test_an_address_that_no_pool_has_may_be_announced(bench: Bench) -> None:
    for name, frame in SILENCED.items():
        assert say(bench, frame) == (PASS, frame), name


def test_a_director_guards_its_own_guests(bench: Bench) -> None:
    bench.apply(both(director(backends(17, 30)), 17))
    assert say(bench, SILENCED["reply"])[0] == DROP
    assert tell(bench, arp(CLIENT4, VIP4))[0] == DROP


def test_the_guard_is_for_its_network_alone(bench: Bench) -> None:
    bench.apply(compute(17))
    bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK + 1, TAP_MAC))
    assert say(bench, SILENCED["reply"]) == (PASS, SILENCED["reply"])


def test_the_guard_goes_with_the_pool(guarded: Bench) -> None:
    guarded.engine.apply(compute(17).pool_id, None)
    assert say(guarded, SILENCED["reply"])[0] == DROP, "it is still claimed"
    guarded.engine.guard(NETWORK, ())
    assert say(guarded, SILENCED["reply"]) == (PASS, SILENCED["reply"])
    assert tell(guarded, arp(VIP4, OWN, op=2))[0] == PASS


def test_a_guest_that_comes_after_the_pool_is_guarded(bench: Bench) -> None:
    bench.engine.detach(bench.tap)
    bench.apply(compute(17))
    bench.engine.attach(HostPort(bench.tap, PortKind.TAP, NETWORK, TAP_MAC))
    assert tell(bench, arp(VIP4, OWN, op=2))[0] == DROP


def test_what_was_learned_before_it_became_a_pools_address_is_not_said(guarded: Bench) -> None:
    guarded.engine.guard(NETWORK, ())
    say(guarded, by_guest(VIP4, ROUTER))
    guarded.engine.guard(NETWORK, (VIP4,))
    result, out = say(guarded, by_guest(VIP4, ROUTER))
    assert result == PASS
    assert Ether(out)[ARP].psrc == NOBODY
