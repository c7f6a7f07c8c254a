# SPDX-License-Identifier: Apache-2.0
"""Probes and what they make of members, over a wire in this process; scapy answers them."""

import itertools
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.agents import probe
from cloudlb.agents.probe import Prober, Target, Verdict
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Health, Monitor, MonitorType
from tests.planes import VIP4, VIP6, mac, member_id
from tests.unit.agents.conftest import Clock
from tests.views import pool, tcp_monitor

UPLINK_MAC = Mac("02:00:00:00:00:01")
RST = 0x04


class Wire:
    """What probes are sent on: keeps the frames, and brings back what a test answers."""

    opened: list["Wire"]
    is_cut = False

    def __init__(self, interface: str, port: int) -> None:
        self.interface, self.port, self.sent = interface, port, []
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self.is_closed = False
        self.opened.append(self)

    def fileno(self) -> int:
        return self.near.fileno()

    def send(self, frame: bytes) -> None:
        if self.is_cut:
            raise OSError("No such device or address")
        self.sent.append(Ether(frame))

    def receive(self) -> list[bytes]:
        if self.is_cut:
            raise OSError("Network is down")
        frames = []
        while True:
            try:
                frames.append(self.near.recv(256))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        self.is_closed = True
        self.near.close()
        self.far.close()

    def answer(self, *frames: Packet) -> None:
        """Have frames arrive."""
        for frame in frames:
            self.far.send(bytes(frame))

    def asked(self) -> list[Packet]:
        """The probes sent since the last question, without what hung up."""
        frames, self.sent = self.sent, []
        return [f for f in frames if TCP not in f or not f[TCP].flags & RST]


def reply(request: Packet, flags: str = "SA", source: Mac | None = None) -> Packet:
    """A member's answer to a connection attempt."""
    answer = Ether(src=str(source) if source else request.dst, dst=request.src)
    if IP in request:
        answer /= IP(src=request[IP].dst, dst=request[IP].src)
    else:
        answer /= IPv6(src=request[IPv6].dst, dst=request[IPv6].src)
    return answer / TCP(
        sport=request[TCP].dport,
        dport=request[TCP].sport,
        flags=flags,
        seq=7,
        ack=(request[TCP].seq + 1) & 0xFFFFFFFF,
    )


CALM = tcp_monitor(interval=10.0, timeout=1.0, rise=2, fall=3)


def target(number: int = 1, monitor: Monitor = CALM, **change: Any) -> Target:
    """A member by number, probed on port 80 every ten seconds."""
    whole = Target(
        member_id(number),
        pool().id,
        monitor,
        80,
        "br0",
        UPLINK_MAC,
        mac(number),
        ip_address("192.0.2.1"),
        VIP4,
    )
    return replace(whole, **change)


class Director:
    """A prober on a clock that stands still."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.start, self.rounds = clock, clock(), 0
        tokens = itertools.count(0xFFFFFFF0)  # wraps around soon
        self.prober = Prober(lambda _verdict: None, clock, lambda _: next(tokens) & 0xFFFFFFFF)

    def probes(self, *targets: Target) -> "Director":
        """Probe exactly these members."""
        self.prober.set_targets({t.member_id: t for t in targets})
        return self

    def turn(self, seconds: float = 0.0) -> list[Verdict]:
        """Let time pass and have the prober send, receive and judge once."""
        self.clock.pass_seconds(seconds)
        return self.prober._judge(self.prober._exchange())

    @property
    def wire(self) -> Wire:
        return Wire.opened[-1]

    def ask(self) -> Packet:
        """The next probe of the one target."""
        self.clock.now = self.start + 10 * self.rounds
        self.rounds += 1
        assert self.turn() == []
        (request,) = self.wire.asked()
        return request

    def answered(self, flags: str = "SA") -> list[Verdict]:
        """What a probe that the member answers changes."""
        request = self.ask()
        self.wire.answer(reply(request, flags))
        return self.turn()

    def missed(self) -> list[Verdict]:
        """What a probe that nobody answers changes."""
        self.ask()
        assert self.turn(0.9) == []
        return self.turn(0.1)

    def members(self) -> list[int]:
        """The numbers of the members that are probed now."""
        self.turn()
        return [int(request.dst[-2:], 16) for wire in Wire.opened for request in wire.asked()]


@pytest.fixture
def director(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Director]:
    monkeypatch.setattr(probe, "ProbeSocket", Wire)
    monkeypatch.setattr(probe, "_LONGEST_WAIT", 0.0)
    Wire.opened = []
    made = Director(clock)
    yield made
    for wire in Wire.opened:
        wire.close()
    made.prober._port_holder.close()


def _health(verdicts: list[Verdict]) -> list[Health]:
    return [verdict.health for verdict in verdicts]


ONLINE, OFFLINE = [Health.ONLINE], [Health.OFFLINE]


class TestPath:
    def test_a_probe_goes_the_way_of_the_traffic(self, director: Director) -> None:
        request = director.probes(target()).ask()
        assert (request.src, request.dst) == (str(UPLINK_MAC), str(mac(1)))
        assert (request[IP].src, request[IP].dst) == ("192.0.2.1", str(VIP4))
        assert (request[TCP].dport, request[TCP].sport) == (80, director.wire.port)
        assert request[TCP].flags == "S"

    def test_ipv6_likewise(self, director: Director) -> None:
        source = ip_address("fe80::1")
        request = director.probes(target(address=VIP6, source=source)).ask()
        assert (request[IPv6].src, request[IPv6].dst) == ("fe80::1", str(VIP6))
        director.wire.answer(reply(request))
        assert _health(director.turn()) == ONLINE

    def test_icmp_asks_for_an_echo(self, director: Director) -> None:
        monitor = replace(CALM, type=MonitorType.ICMP)
        request = director.probes(target(monitor=monitor)).ask()
        echo = request[ICMP]
        answer = Ether(src=request.dst, dst=request.src) / IP(src=VIP4, dst="192.0.2.1")
        director.wire.answer(answer / ICMP(type=0, id=echo.id, seq=echo.seq) / echo.payload)
        assert _health(director.turn()) == ONLINE

    def test_icmpv6_too(self, director: Director) -> None:
        monitor = replace(CALM, type=MonitorType.ICMP)
        source = ip_address("fe80::1")
        request = director.probes(target(monitor=monitor, address=VIP6, source=source)).ask()
        echo = request[ICMPv6EchoRequest]
        answer = Ether(src=request.dst, dst=request.src) / IPv6(src=str(VIP6), dst="fe80::1")
        director.wire.answer(answer / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data))
        assert _health(director.turn()) == ONLINE

    def test_each_interface_has_its_socket(self, director: Director) -> None:
        director.probes(target(1), target(2), target(3, interface="br1")).turn()
        assert [(w.interface, len(w.asked())) for w in Wire.opened] == [("br0", 2), ("br1", 1)]


@pytest.mark.requirement("L13")
class TestRiseAndFall:
    def test_the_first_answer_makes_a_member_online(self, director: Director) -> None:
        assert director.probes(target()).answered() == [
            Verdict(member_id(1), pool().id, Health.ONLINE, "answers")
        ]

    def test_misses_in_a_row_make_it_offline(self, director: Director) -> None:
        director.probes(target()).answered()
        assert [_health(director.missed()) for _ in range(5)] == [[], [], OFFLINE, [], []]

    def test_an_answer_in_between_begins_the_count_anew(self, director: Director) -> None:
        director.probes(target()).answered()
        for _ in range(3):
            assert director.missed() == director.missed() == director.answered() == []

    def test_answers_in_a_row_bring_it_back(self, director: Director) -> None:
        director.probes(target())
        for _ in range(3):
            director.missed()
        assert director.answered() == []
        assert director.missed() == []
        assert director.answered() == []
        assert _health(director.answered()) == ONLINE

    def test_one_that_was_never_judged_is_not_offline_before_it_falls(
        self, director: Director
    ) -> None:
        director.probes(target())
        director.missed()
        director.missed()
        assert director.prober.down() == frozenset()
        director.missed()
        assert director.prober.down() == {member_id(1)}

    def test_silence_is_named_as_the_reason(self, director: Director) -> None:
        director.probes(target(monitor=replace(CALM, fall=1)))
        (verdict,) = director.missed()
        assert verdict.reason == "no answer within 1 s, 1 times in a row"

    def test_a_refused_connection_is_a_miss_at_once(self, director: Director) -> None:
        director.probes(target(monitor=replace(CALM, fall=1)))
        (verdict,) = director.answered("RA")
        assert verdict.health is Health.OFFLINE
        assert verdict.reason == "refuses connections to port 80"

    def test_a_refusal_is_counted_once(self, director: Director) -> None:
        director.probes(target(monitor=replace(CALM, fall=2)))
        director.answered("RA")
        assert director.turn(5) == []


class TestStrangers:
    """What is no answer to a probe under way says nothing of the member."""

    @pytest.fixture
    def asked(self, director: Director) -> Packet:
        """A probe of a member that one miss makes offline."""
        return director.probes(target(monitor=replace(CALM, fall=1))).ask()

    def test_another_machines_refusal(self, director: Director, asked: Packet) -> None:
        director.wire.answer(reply(asked, "RA", source=mac(2)), reply(asked))
        assert _health(director.turn()) == ONLINE

    def test_an_answer_to_a_question_that_nobody_asked(
        self, director: Director, asked: Packet
    ) -> None:
        other = reply(asked, "RA")
        other[TCP].ack += 1
        director.wire.answer(other, reply(asked))
        assert _health(director.turn()) == ONLINE

    def test_a_second_answer(self, director: Director, asked: Packet) -> None:
        director.wire.answer(reply(asked), reply(asked, "RA"))
        assert _health(director.turn()) == ONLINE
        assert director.prober.down() == frozenset()

    def test_noise(self, director: Director, asked: Packet) -> None:
        director.wire.answer(Ether() / b"noise", Ether(bytes(reply(asked))[:40]), reply(asked))
        assert _health(director.turn()) == ONLINE

    def test_an_answer_for_a_member_that_is_no_target_any_more(
        self, director: Director, asked: Packet
    ) -> None:
        director.probes()
        director.wire.answer(reply(asked))
        assert director.turn() == []


class TestHangUp:
    """Every connection that a member accepted is ended."""

    def test_an_accepted_connection_is_reset_where_the_member_expects_it(
        self, director: Director
    ) -> None:
        request = director.probes(target()).ask()
        director.wire.answer(reply(request))
        director.turn()
        (reset,) = director.wire.sent
        assert (reset.src, reset.dst) == (request.src, request.dst)
        assert (reset[IP].src, reset[IP].dst) == (request[IP].src, request[IP].dst)
        assert (reset[TCP].sport, reset[TCP].dport) == (request[TCP].sport, 80)
        assert reset[TCP].flags == "R"
        assert reset[TCP].seq == (request[TCP].seq + 1) & 0xFFFFFFFF

    def test_one_that_is_accepted_late_is_reset_and_counts_for_nothing(
        self, director: Director
    ) -> None:
        director.probes(target(monitor=replace(CALM, fall=1)))
        request = director.ask()
        assert _health(director.turn(1)) == OFFLINE
        director.wire.answer(reply(request))
        assert director.turn() == []
        assert [frame[TCP].flags for frame in director.wire.sent] == ["R"]

    def test_a_refusal_is_not_answered(self, director: Director) -> None:
        director.probes(target()).answered("RA")
        assert director.wire.sent == []


class TestTrouble:
    """What the director cannot send is a miss, and its own trouble ends when it ends."""

    def test_without_an_address_of_the_family_the_reason_says_so(self, director: Director) -> None:
        director.probes(target(monitor=replace(CALM, fall=1), source=None))
        director.turn()
        assert Wire.opened == []
        (verdict,) = director.turn(1)
        assert verdict.health is Health.OFFLINE
        assert verdict.reason == (
            "cannot be probed: interface br0 of the director has no IPv4 address"
        )

    def test_an_interface_that_is_missing_is_a_miss(
        self, director: Director, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(*_: object) -> Wire:
            raise OSError("No such device")

        monkeypatch.setattr(probe, "ProbeSocket", missing)
        director.probes(target(monitor=replace(CALM, fall=1))).turn()
        assert _health(director.turn(1)) == OFFLINE

    def test_an_interface_that_was_made_anew_is_used(self, director: Director) -> None:
        director.probes(target()).answered()
        director.wire.is_cut = True
        director.turn(10)
        director.rounds += 1
        assert director.answered() == []
        assert len(Wire.opened) == 2
        assert Wire.opened[0].is_closed

    def test_an_interface_that_goes_down_stops_nobody(self, director: Director) -> None:
        director.probes(target(), target(2, interface="br1")).turn()
        first, second = Wire.opened
        (request,) = second.asked()
        first.answer(reply(first.asked()[0]))
        first.is_cut = True
        second.answer(reply(request))
        heard = director.turn()
        heard += director.turn()
        assert [verdict.member_id for verdict in heard] == [member_id(2)]

    def test_a_reset_that_cannot_be_sent_stops_nobody(
        self, director: Director, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = director.probes(target()).ask()
        director.wire.answer(reply(request))

        def fail(_frame: bytes) -> None:
            raise OSError("No buffer space available")

        monkeypatch.setattr(director.wire, "send", fail)
        assert _health(director.turn()) == ONLINE


class TestRhythm:
    """A member is probed once in each interval, whatever happens to it."""

    def _probes_in(self, director: Director, seconds: int) -> int:
        count = 0
        for _ in range(seconds):
            director.turn(1)
            count += len(director.members())
        return count

    def test_one_probe_per_interval(self, director: Director) -> None:
        director.probes(target())
        assert director.members() == [1]
        assert self._probes_in(director, 50) == 5

    def test_the_same_targets_again_change_nothing(self, director: Director) -> None:
        director.probes(target()).members()
        for _ in range(5):
            director.probes(target())
        assert self._probes_in(director, 20) == 2

    def test_a_member_that_leaves_and_returns_keeps_one_rhythm(self, director: Director) -> None:
        director.probes(target()).members()
        for _ in range(5):
            director.probes().probes(target())
        assert director.members() == [1]
        assert self._probes_in(director, 20) == 2

    def test_a_member_that_left_is_not_probed(self, director: Director) -> None:
        director.probes(target(1), target(2)).members()
        director.probes(target(2))
        director.clock.pass_seconds(10)
        assert director.members() == [2]

    def test_another_interval_holds_at_once_and_alone(self, director: Director) -> None:
        director.probes(target()).members()
        director.probes(target(monitor=replace(CALM, interval=5.0)))
        assert director.members() == [1]
        assert self._probes_in(director, 20) == 4

    def test_after_a_pause_of_the_machine_nothing_is_made_up_for(self, director: Director) -> None:
        director.probes(target()).members()
        director.clock.pass_seconds(1000)
        assert director.members() == [1]
        assert director.members() == []


class TestRecord:
    """What is known of a member stays with it while it is a target."""

    @pytest.fixture
    def dead(self, director: Director) -> Director:
        """A director that found its member dead."""
        director.probes(target())
        for _ in range(3):
            director.missed()
        assert director.prober.down() == {member_id(1)}
        return director

    def test_a_changed_monitor_keeps_it(self, dead: Director) -> None:
        dead.probes(target(monitor=replace(CALM, interval=5.0)))
        assert dead.prober.down() == {member_id(1)}

    def test_a_member_that_moved_keeps_it_and_is_asked_at_its_new_place(
        self, dead: Director
    ) -> None:
        dead.probes(target(member_mac=mac(9)))
        assert dead.prober.down() == {member_id(1)}
        assert dead.members() == []
        assert dead.ask().dst == str(mac(9))

    def test_a_member_that_leaves_loses_it(self, dead: Director) -> None:
        dead.probes()
        assert dead.prober.down() == frozenset()
        dead.probes(target())
        assert dead.prober.down() == frozenset()

    def test_another_members_is_another(self, director: Director) -> None:
        quick = replace(CALM, fall=1)
        director.probes(target(1, quick), target(2, quick)).turn()
        first, second = director.wire.asked()
        director.wire.answer(reply(first, "RA"), reply(second))
        assert {v.member_id: v.health for v in director.turn()} == {
            member_id(1): Health.OFFLINE,
            member_id(2): Health.ONLINE,
        }


def test_the_thread_probes_tells_and_closes_its_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Echo(Wire):
        def send(self, frame: bytes) -> None:
            request = Ether(frame)
            if not request[TCP].flags & RST:
                self.answer(reply(request))

    Wire.opened = []
    monkeypatch.setattr(probe, "ProbeSocket", Echo)
    heard: queue.Queue[Verdict] = queue.Queue()
    prober, stopping = Prober(heard.put), threading.Event()
    thread = threading.Thread(target=prober.run, args=(stopping,))
    thread.start()
    prober.set_targets({member_id(1): target()})
    assert heard.get(timeout=10).health is Health.ONLINE
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()
    assert [wire.is_closed for wire in Wire.opened] == [True]
