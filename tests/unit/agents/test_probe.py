# SPDX-License-Identifier: Apache-2.0
"""Probes and what they make of members, over a wire in this process; scapy answers them."""

import queue
import random
import threading
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cloudlb.agents import probe, wires
from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Verdict
from cloudlb.model.pool import Health, MonitorType
from cloudlb.net.packet import PORTS
from tests.planes import VIP4, VIP6, mac, member_id
from tests.unit.agents.wire import CALM, RST, UPLINK_MAC, Director, Wire, reply, target
from tests.views import pool


def _health(verdicts: list[Verdict]) -> list[Health]:
    return [verdict.health for verdict in verdicts]


ONLINE, OFFLINE = [Health.ONLINE], [Health.OFFLINE]


class TestPath:
    def test_a_probe_goes_the_way_of_the_traffic(self, director: Director) -> None:
        request = director.probes(target()).ask()
        assert (request.src, request.dst) == (str(UPLINK_MAC), str(mac(1)))
        assert (request[IP].src, request[IP].dst) == ("192.0.2.1", str(VIP4))
        assert request[TCP].dport == 80
        assert request[TCP].sport - director.wire.first_port in range(PORTS)
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

    def test_a_dead_member_that_is_silent_for_another_reason_says_so(
        self, director: Director
    ) -> None:
        director.probes(target())
        for _ in range(3):
            silent = director.missed()
        refused = [director.answered("RA") for _ in range(5)]
        assert [_health(verdicts) for verdicts in refused] == [[], [], OFFLINE, [], []]
        assert (silent[0].reason, refused[2][0].reason) == (
            "no answer within 1 s, 3 times in a row",
            "refuses connections to port 80",
        )

    def test_reasons_by_turns_are_no_news(self, director: Director) -> None:
        director.probes(target(monitor=replace(CALM, fall=2)))
        director.missed()
        assert _health(director.missed()) == OFFLINE
        for _ in range(3):
            assert director.answered("RA") == director.missed() == []
        for _ in range(2):
            assert director.answered("RA") == []
        director.answered()
        assert director.answered("RA") == []


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

    def test_a_member_that_cannot_be_probed_is_offline_for_the_reason(
        self, director: Director
    ) -> None:
        obstacle = "interface br0 of the director has no IPv4 address"
        director.probes(target(monitor=replace(CALM, fall=1), source=None, obstacle=obstacle))
        director.turn()
        assert Wire.opened == []
        (verdict,) = director.turn(1)
        assert verdict.health is Health.OFFLINE
        assert verdict.reason == f"cannot be probed: {obstacle}"

    def test_an_interface_that_is_missing_is_a_miss(
        self, director: Director, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(*_: object) -> Wire:
            raise OSError("No such device")

        monkeypatch.setattr(wires, "ProbeSocket", missing)
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

        def fail(_frames: list[bytes]) -> int:
            raise OSError("Network is down")

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

    def test_many_members_are_asked_evenly_over_the_interval(self, director: Director) -> None:
        director.prober._rounds._spread = random.Random(13).random
        director.probes(*(target(number) for number in range(200)))
        assert len(director.members()) == 200
        director.clock.pass_seconds(10)
        director.members()
        seconds = []
        for _ in range(20):
            director.clock.pass_seconds(1)
            seconds.append(len(director.members()))
        assert sum(seconds) == 400
        assert min(seconds) >= 10
        assert max(seconds) <= 35
        assert seconds[:10] == seconds[10:], "each has its place in the interval"

    def test_not_all_new_members_are_asked_in_one_turn(
        self, director: Director, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probe, "_MOST_AT_ONCE", 3)
        director.probes(*(target(number) for number in range(8)))
        assert [len(director.members()) for _ in range(4)] == [3, 3, 2, 0]

    def test_after_a_pause_of_the_machine_nothing_is_made_up_for(self, director: Director) -> None:
        director.probes(target()).members()
        director.clock.pass_seconds(1000)
        assert director.members() == [1]
        assert director.members() == []


@pytest.mark.requirement("L13")
class TestDoubt:
    """Clients complain of a member: it is refused, or there is no answer."""

    @pytest.fixture
    def alive(self, director: Director) -> Director:
        """A member that has answered."""
        director.probes(target()).answered()
        return director

    def _doubted(self, director: Director) -> Packet:
        """The probe that is sent at once, long before the next one is due."""
        director.prober.hurry([member_id(1), member_id(9)])
        director.turn()
        (request,) = director.wire.asked()
        return request

    def test_one_that_refuses_probes_too_is_out_at_once(self, alive: Director) -> None:
        request = self._doubted(alive)
        changes = []
        for _ in range(3):
            alive.wire.answer(reply(request, "RA"))
            changes.append(_health(alive.turn()))
            alive.turn(0.25)
            request, *_ = [*alive.wire.asked(), None]
        assert changes == [[], [], OFFLINE]
        assert request is None

    def test_one_that_answers_stays_and_is_left_alone(self, alive: Director) -> None:
        alive.wire.answer(reply(self._doubted(alive)))
        assert alive.turn() == []
        assert alive.turn(0.5) == []
        assert alive.wire.asked() == []
        assert alive.prober.down() == frozenset()

    def test_one_that_refuses_for_a_moment_stays(self, alive: Director) -> None:
        """Its service starts anew."""
        alive.wire.answer(reply(self._doubted(alive), "RA"))
        assert alive.turn() == []
        assert alive.turn(0.2) == []
        assert alive.wire.asked() == []
        alive.turn(0.05)
        (request,) = alive.wire.asked()
        alive.wire.answer(reply(request))
        assert alive.turn() == []
        assert alive.prober.down() == frozenset()

    def test_complaints_about_many_are_looked_into_one_after_the_other(
        self, director: Director
    ) -> None:
        director.probes(*(target(n) for n in range(1, 200)))
        asked = 0
        for _ in range(10):
            director.turn()
            for request in director.wire.asked():
                director.wire.answer(reply(request))
        director.turn()
        director.prober.hurry([member_id(n) for n in range(1, 200)])
        for _ in range(3):
            director.turn()
            asked += len(director.wire.asked())
        assert 0 < asked <= 64

    def test_one_that_is_silent_is_out_after_so_many_timeouts(self, alive: Director) -> None:
        self._doubted(alive)
        assert [_health(alive.turn(1.0)) + _health(alive.turn()) for _ in range(3)] == [
            [],
            [],
            OFFLINE,
        ]

    def test_many_complaints_make_one_probe(self, alive: Director) -> None:
        self._doubted(alive)
        alive.prober.hurry([member_id(1)])
        alive.turn()
        assert alive.wire.asked() == []

    def test_the_rhythm_goes_on_after_it(self, alive: Director) -> None:
        alive.wire.answer(reply(self._doubted(alive)))
        alive.turn()
        sent = 0
        for _ in range(40):
            alive.turn(1.0)
            sent += len(alive.wire.asked())
        assert sent == 4

    def test_one_that_is_dead_is_asked_in_its_rhythm(self, alive: Director) -> None:
        for _ in range(3):
            alive.missed()
        alive.prober.hurry([member_id(1)])
        alive.turn()
        assert alive.wire.asked() == []


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
        def send(self, frames: list[bytes]) -> int:
            for request in map(Ether, frames):
                if not request[TCP].flags & RST:
                    self.answer(reply(request))
            return len(frames)

    Wire.opened = []
    monkeypatch.setattr(wires, "ProbeSocket", Echo)
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
