# SPDX-License-Identifier: Apache-2.0
"""Directors tell each other of their connections: two of them, with sockets between."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from uuid import UUID

import pytest

from cloudlb.agents.circle import Circle, circle
from cloudlb.agents.eastwest import EastWest
from cloudlb.agents.witness import Witness
from cloudlb.engines.base import Sharer
from cloudlb.model.eastwest import FlowEntry, Run, Sign, SignKind, unseal
from cloudlb.model.ether import Mac
from cloudlb.model.host import Uplink
from cloudlb.model.load import Load
from cloudlb.model.snapshot import Key, Peer, PoolView
from tests.planes import member_id
from tests.unit.agents.wire import target
from tests.views import member, view

POOL = view(directors=("d1", "d2"), virtual_router=9)
SERVED = view(member(1, "d3"), member(2, "d4"), directors=("d1", "d2"), virtual_router=9)
MACS = tuple(Mac(f"02:00:00:00:00:0{n}") for n in range(1, 5))
PEERS = tuple(
    Peer(f"d{n}", ip_address(f"127.0.0.{n}"), (Uplink("lan", "eth0", mac),))
    for n, mac in enumerate(MACS, 1)
)
KEYS = (Key(1, "aa" * 32, age=400.0),)


def entry(number: int, pool: bytes = POOL.pool.id.bytes) -> FlowEntry:
    """A connection by number."""
    client = number.to_bytes(16)
    return FlowEntry(pool, client, b"\x9c\x40", b"\x00\x50", 6, 1, 2, 0, 0, b"m" * 16)


def sign(kind: SignKind, member: int = 1) -> Sign:
    """What a member does with a connection."""
    return Sign(
        SERVED.pool.id.bytes, member_id(member).bytes, b"c" * 16, b"\x9c\x40", b"\x00\x50", kind, 3
    )


class Table(Sharer):
    """A table of connections; ``add`` is a client's doing."""

    def __init__(self) -> None:
        self.entries: set[FlowEntry] = set()
        self.is_shared = True
        self.times_told_whole = 0
        self._news: list[FlowEntry] = []
        self.mates: dict[int, tuple[Mac, float]] = {}
        self._ready, self._bell = os.pipe()
        self.given: list[Sign] = []
        self._gives, self._gong = os.pipe()
        self.concluded: list[Sign] = []

    def add(self, *told: FlowEntry) -> None:
        self.entries |= set(told)
        self._news += told
        os.write(self._bell, b"x")

    def give(self, *signs: Sign) -> None:
        """A member's doing."""
        self.given += signs
        os.write(self._gong, b"x")

    def filenos(self) -> tuple[int, int]:
        return self._ready, self._gives

    def signs(self) -> Iterator[Sign]:
        _drain(self._gives)
        told, self.given = self.given, []
        return iter(told)

    def conclude(self, signs: Iterable[Sign]) -> None:
        self.concluded += signs

    def news(self) -> Iterator[FlowEntry]:
        _drain(self._ready)
        told, self._news = self._news, []
        return iter(told)

    def all(self, newer_than: float) -> Iterator[FlowEntry]:
        self.times_told_whole += newer_than == float("inf")
        return iter(sorted(self.entries) if self.is_shared else ())

    def befriend(
        self, router: int, mac: Mac, others: Sequence[Mac], silent: float, seconds: float
    ) -> None:
        self.mates[router] = mac, seconds

    def adopt(self, entries: Iterable[FlowEntry]) -> None:
        self.entries |= set(entries) if self.is_shared else set()


def _drain(pipe: int) -> None:
    if select.select([pipe], [], [], 0)[0]:
        os.read(pipe, 4096)


class Director:
    """A director, or the host of a guest, that talks in a thread of its own."""

    def __init__(self, number: int, port: int) -> None:
        self.name, self.table, self.port = f"d{number}", Table(), port
        address = ip_address(f"127.0.0.{number}") if number else None
        self.late = 0.0
        self.doubted: set[UUID] = set()
        self.witness = Witness()
        self.heard: list[tuple[str, Run]] = []
        self.talk = EastWest(
            self.name,
            address,
            port,
            self.table,
            threading.RLock(),
            self.doubted.update,
            lambda: time.monotonic() + self.late,
            witness=self.witness,
            heard=self._hear,
        )
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.talk.run, args=(self.stopping,))
        self.thread.start()

    def _hear(self, host: str, told: Iterable[Run]) -> None:
        self.heard += [(host, run) for run in told]

    def want(self, keys: Iterable[Key] = KEYS, pool: PoolView = POOL) -> "Director":
        self.talk.want(circle(self.name, [pool], PEERS, tuple(keys)))
        return self

    def tells(self, misses: int, *directors: str) -> None:
        """Its guest, the first member, has missed so many probes."""
        guest = target(listeners=directors)
        self.witness.follow({guest.member_id: guest})
        self.witness.note(guest, misses)

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()


@pytest.fixture
def start() -> Iterator[Callable[[int], Director]]:
    """Starts directors by number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made: list[Director] = []

    def one(number: int) -> Director:
        made.append(Director(number, port))
        return made[-1]

    yield one
    for director in made:
        director.stop()


def until(what: str, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)


@pytest.mark.requirement("L14")
def test_a_connection_is_told_to_the_other(start: Callable[[int], Director]) -> None:
    first, second = start(1).want(), start(2).want()
    until("both know all", lambda: first.talk.is_ready() and second.talk.is_ready())
    first.table.add(entry(1))
    until("the second one has it", lambda: entry(1) in second.table.entries)
    second.table.add(entry(2))
    until("the first one has it", lambda: entry(2) in first.table.entries)


@pytest.mark.requirement("L14")
def test_one_that_comes_up_is_told_everything_before_it_is_ready(
    start: Callable[[int], Director],
) -> None:
    first = start(1).want()
    everything = [entry(number) for number in range(5000)]
    first.table.add(*everything)
    second = start(2).want()
    until("it is ready", second.talk.is_ready)
    assert second.table.entries == set(everything)


@pytest.mark.requirement("L14")
def test_the_other_director_gets_what_is_not_known_here_while_it_is_heard(
    start: Callable[[int], Director],
) -> None:
    first = start(1).want()
    until("it has spoken in vain", first.talk.is_ready)
    assert first.table.mates == {}
    start(2).want()
    until("it has heard of the other", lambda: 9 in first.table.mates)
    mac, seconds = first.table.mates[9]
    assert mac == MACS[1]
    assert 0 < seconds <= 60


def test_one_that_comes_up_alone_does_not_wait_for_ever(
    start: Callable[[int], Director],
) -> None:
    only = start(1).want()
    assert not only.talk.is_ready()
    until("it is ready", only.talk.is_ready)


def test_one_that_knows_nothing_yet_is_not_ready(start: Callable[[int], Director]) -> None:
    assert not start(1).talk.is_ready()


@pytest.mark.requirement("L14")
def test_what_was_lost_is_asked_for(start: Callable[[int], Director]) -> None:
    first, second = start(1).want(), start(2).want()
    until("both know all", lambda: first.talk.is_ready() and second.talk.is_ready())
    second.want(keys=(replace(KEYS[0], secret="bb" * 32),))  # hears nothing that it believes
    first.table.add(entry(1))
    first.table.add(entry(2))
    second.want()
    until("it has both", lambda: {entry(1), entry(2)} <= second.table.entries)


def test_connections_of_pools_that_one_does_not_direct_are_not_told_nor_taken(
    start: Callable[[int], Director],
) -> None:
    first, second = start(1).want(), start(2).want()
    until("both know all", lambda: first.talk.is_ready() and second.talk.is_ready())
    first.table.add(entry(1, b"another pool at1"), entry(2))
    until("what is shared comes", lambda: entry(2) in second.table.entries)
    assert second.table.entries == {entry(2)}
    first.talk.want(replace_pools(first))
    first.table.add(entry(3, b"another pool at1"), entry(4))
    until("what is shared comes", lambda: entry(4) in second.table.entries)
    assert second.table.entries == {entry(2), entry(4)}


def replace_pools(director: Director) -> Circle:
    """A circle by which the other pool is shared too, which the other side does not think."""
    known = circle(director.name, [POOL], PEERS, KEYS)
    return replace(known, pools={**known.pools, b"another pool at1": frozenset({"d2"})})


def test_a_new_key_is_signed_with_when_everybody_has_heard_of_it() -> None:
    keys = (Key(1, "aa", 90000.0), Key(2, "bb", 10.0))
    known = circle("d1", [POOL], PEERS, keys)
    assert known.secrets.keys() == {1, 2}
    assert (known.signing(0.0), known.signing(300.0)) == (keys[0], keys[1])


def test_the_first_key_is_signed_with_at_once() -> None:
    young = Key(1, "aa", 0.0)
    assert circle("d1", [POOL], PEERS, (young,)).signing(0.0) == young
    assert circle("d1", [POOL], PEERS, ()).signing(0.0) is None


def test_a_host_without_a_management_address_is_no_peer() -> None:
    known = circle("d1", [POOL], (PEERS[0], Peer("d2")), KEYS)
    assert known.peers == {}
    assert known.pools == {POOL.pool.id.bytes: frozenset()}


@pytest.mark.requirement("D6")
def test_hosts_tell_each_other_of_their_loads_and_forget_who_is_silent(
    start: Callable[[int], Director],
) -> None:
    first, second = start(1).want(), start(2).want()
    loads = Load(3, 10), Load(7.5, 20)
    first.talk.exchange_loads(loads[0])
    until("the second hears", lambda: second.talk.exchange_loads(loads[1]) == {"d1": loads[0]})
    until("the first hears", lambda: first.talk.exchange_loads(loads[0]) == {"d2": loads[1]})
    second.stop()
    assert first.talk.exchange_loads(loads[0]) == {"d2": loads[1]}, "for three periods"
    first.late = 3.5
    assert first.talk.exchange_loads(loads[0]) == {}


@pytest.mark.requirement("D6")
def test_a_load_that_was_signed_with_another_key_counts_for_nothing(
    start: Callable[[int], Director],
) -> None:
    first = start(1).want()
    stranger = start(2).want([Key(1, "bb" * 32, age=400.0)])
    stranger.talk.exchange_loads(Load(0, 10))
    time.sleep(2.5)
    assert first.talk.exchange_loads(Load(1, 10)) == {}


@pytest.mark.requirement("D8")
@pytest.mark.parametrize("late", [1, 2])
def test_what_was_told_before_a_pool_was_shared_on_both_hosts_is_told_again(
    start: Callable[[int], Director], late: int
) -> None:
    first, second = start(1), start(2)
    hosts = {1: first, 2: second}
    first.table.entries = {entry(1), entry(2)}
    hosts[late].table.is_shared = False
    for host in hosts.values():
        host.want()
    until("both think they know all", lambda: first.talk.is_ready() and second.talk.is_ready())
    assert second.table.entries == set()
    hosts[late].table.is_shared = True
    hosts[late].talk.begin_anew()
    until("the second has heard", lambda: second.table.entries == {entry(1), entry(2)})


@pytest.mark.requirement("L6")
def test_the_host_of_a_guest_tells_all_directors_what_it_ends(
    start: Callable[[int], Director],
) -> None:
    first, second, home = (start(number).want(pool=SERVED) for number in (1, 2, 3))
    home.table.give(sign(SignKind.CLOSED), sign(SignKind.RESET))
    told = [sign(SignKind.CLOSED), sign(SignKind.RESET)]
    until("the first knows", lambda: first.table.concluded == told)
    until("the second knows", lambda: second.table.concluded == told)


def test_a_director_concludes_what_its_own_guests_end(start: Callable[[int], Director]) -> None:
    only = start(0).want(pool=SERVED)
    only.table.give(sign(SignKind.RESET))
    until("it has", lambda: only.table.concluded == [sign(SignKind.RESET)])


def test_who_is_not_a_members_host_may_not_speak_for_it(start: Callable[[int], Director]) -> None:
    first, home = (start(number).want(pool=SERVED) for number in (1, 3))
    home.table.give(sign(SignKind.RESET, 2), sign(SignKind.RESET, 7), sign(SignKind.CLOSED, 1))
    until("what is its own is believed", lambda: first.table.concluded)
    assert first.table.concluded == [sign(SignKind.CLOSED, 1)]


def test_messages_that_nobody_asks_for_again_have_numbers_of_their_own(
    start: Callable[[int], Director],
) -> None:
    """Else an older agent, which does not know them, would take each for one that was lost."""
    first = start(1)
    with socket.socket(type=socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.2", first.port))
        ear.settimeout(15)
        first.want(pool=view(member(1, "d1"), directors=("d1", "d2"), virtual_router=9))
        numbers: dict[bool, list[int]] = {True: [], False: []}
        while min(map(len, numbers.values())) < 3:
            first.table.give(sign(SignKind.CLOSED))
            message = unseal(ear.recv(2000), {1: bytes.fromhex(KEYS[0].secret)})
            numbers[message.kind.is_passing].append(message.sequence)
    for told in numbers.values():
        assert told == [*range(1, len(told) + 1)]


@pytest.mark.requirement("L13")
def test_members_that_refuse_or_do_not_answer_are_doubted(
    start: Callable[[int], Director],
) -> None:
    only = start(0).want(pool=SERVED)
    only.table.give(sign(SignKind.REFUSED, 1), sign(SignKind.UNANSWERED, 2))
    until("both are", lambda: only.doubted == {member_id(1), member_id(2)})
    assert only.table.concluded == []


def test_hosts_of_guests_do_not_keep_a_director_from_being_ready(
    start: Callable[[int], Director],
) -> None:
    """Only other directors know connections."""
    first, second = (start(number).want(pool=SERVED) for number in (1, 2))
    until("both know all", lambda: first.talk.is_ready() and second.talk.is_ready())
    assert first.talk._peers.keys() == {"d2", "d3", "d4"}


def test_the_circle_has_the_directors_of_a_hosts_guests_and_the_homes_of_a_directors() -> None:
    home, first = (circle(name, [SERVED], PEERS, KEYS) for name in ("d3", "d1"))
    assert home.directors == {SERVED.pool.id.bytes: frozenset({"d1", "d2"})}
    assert (home.homes, home.sharing) == ({}, frozenset())
    assert first.homes == {member_id(1).bytes: "d3", member_id(2).bytes: "d4"}
    assert first.sharing == {"d2"}


@pytest.mark.requirement("D8")
def test_who_has_asked_before_it_was_known_to_direct_the_pool_is_told_afterwards(
    start: Callable[[int], Director],
) -> None:
    """The pool was shared before, so nothing begins anew at the one that has the connections."""
    first, second = start(1), start(2)
    others = view(number=2, directors=("d1", "d2"), virtual_router=9)
    first.talk.want(circle("d1", [others], PEERS, KEYS))
    first.table.entries = {entry(1), entry(2)}
    second.want()
    until("it has asked, and asked again", lambda: first.table.times_told_whole >= 2)
    until("the second thinks that it knows all", second.talk.is_ready)
    assert second.table.entries == set()
    first.want()
    until("the second has heard", lambda: second.table.entries == {entry(1), entry(2)})


@pytest.mark.requirement("L14")
def test_whoever_directs_with_it_from_now_on_is_told_everything(
    start: Callable[[int], Director],
) -> None:
    """The news comes while it waits, with nobody to tell before."""
    first = start(1)
    time.sleep(0.1)  # it waits; news of before that would be no news
    first.want()
    until("it has told the other one", lambda: first.table.times_told_whole == 1)


class TestHealth:
    """A host that shares no connections tells directors of its guests."""

    alone = view(directors=("d1",))

    def _want(self, *hosts: Director, keys: Iterable[Key] = KEYS) -> None:
        for host in hosts:
            host.talk.want(circle(host.name, [self.alone], PEERS, tuple(keys)))

    @pytest.mark.requirement("L13")
    def test_a_director_hears_of_a_guest_at_once(self, start: Callable[[int], Director]) -> None:
        director, host = start(1), start(2)
        self._want(director, host)
        for misses in (0, 1, 2):
            host.tells(misses, "d1")
            word = ("d2", (member_id(1).bytes, misses))
            until("it is heard", lambda word=word: word in director.heard)

    def test_it_is_ready_without_the_hosts_of_members(
        self, start: Callable[[int], Director]
    ) -> None:
        director = start(1)
        self._want(director)
        assert director.talk.is_ready()

    def test_a_word_that_was_signed_with_another_key_is_not_heard(
        self, start: Callable[[int], Director]
    ) -> None:
        director, host = start(1), start(2)
        self._want(director)
        self._want(host, keys=[Key(1, "bb" * 32, age=400.0)])
        host.tells(3, "d1")
        until("it has told", lambda: not host.witness.due())
        self._want(host)
        host.tells(1, "d1")
        until("the next is heard", lambda: director.heard)
        assert director.heard == [("d2", (member_id(1).bytes, 1))]

    def test_hosts_that_share_no_pool_are_not_told_of_connections(
        self, start: Callable[[int], Director]
    ) -> None:
        director, host = start(1), start(2)
        self._want(director, host)
        director.table.add(entry(1))
        host.tells(0, "d1")
        until("it is heard", lambda: director.heard)
        assert host.table.entries == set()
