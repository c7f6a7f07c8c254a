# SPDX-License-Identifier: Apache-2.0
"""Probes by datagram: answered, refused, or met with silence."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPerror6, IPv6
from scapy.packet import Packet

from cloudlb.agents.target import Target
from cloudlb.model.pool import Health, MonitorType
from cloudlb.net.packet import PORTS
from tests.planes import VIP4, VIP6, mac
from tests.unit.agents.wire import CALM, Director, back, target

pytestmark = pytest.mark.requirement("L13")
MONITOR = replace(CALM, type=MonitorType.UDP, fall=1, rise=1)
LENIENT = replace(MONITOR, accept_silence=True)
NAME_SERVER = target(monitor=MONITOR, port=53)
SILENT = target(monitor=LENIENT, port=53)


def pong(request: Packet, **change: Any) -> Packet:
    """A member's answer."""
    asked = request[UDP]
    answer = back(request) / UDP(sport=asked.dport, dport=asked.sport) / b"pong"
    for name, value in change.items():
        setattr(answer[UDP], name, value)
    return answer


def refusal(request: Packet) -> Packet:
    """What the member's kernel says when nobody takes the datagram."""
    asked = request[UDP]
    quoted = UDPerror(sport=asked.sport, dport=asked.dport)
    if IP in request:
        ends = {"src": request[IP].src, "dst": request[IP].dst}
        return back(request) / ICMP(type=3, code=3) / IPerror(**ends, proto=17) / quoted
    ends = {"src": request[IPv6].src, "dst": request[IPv6].dst}
    return back(request) / ICMPv6DestUnreach(code=4) / IPerror6(**ends, nh=17) / quoted


def echo(request: Packet) -> Packet:
    """The answer to an echo request."""
    asked = request[ICMP]
    return back(request) / ICMP(type=0, id=asked.id, seq=asked.seq) / asked.payload


def asked(director: Director, *targets: Target) -> list[Packet]:
    """The frames of the next round of probes, by transport."""
    director.probes(*targets)
    director.clock.now = director.start + 10 * director.rounds
    director.rounds += 1
    assert director.turn() == []
    return sorted(director.wire.asked(), key=lambda frame: UDP not in frame)


def said(director: Director, *answers: Packet) -> list[tuple[Health, str]]:
    """What these answers change at once."""
    director.wire.answer(*answers)
    return [(v.health, v.reason) for v in director.turn()]


def late(director: Director) -> list[tuple[Health, str]]:
    """What the end of the time changes."""
    assert director.turn(0.9) == []
    return [(v.health, v.reason) for v in director.turn(0.1)]


def test_the_datagram_goes_the_way_of_the_traffic(director: Director) -> None:
    (request,) = asked(director, target(monitor=replace(MONITOR, payload="00ff"), port=53))
    assert (request.dst, request[IP].dst, request[UDP].dport) == (str(mac(1)), str(VIP4), 53)
    assert request[UDP].sport - director.wire.first_port in range(PORTS)
    assert bytes(request[UDP].payload) == b"\x00\xff"


def test_it_is_empty_by_default(director: Director) -> None:
    (request,) = asked(director, NAME_SERVER)
    assert request[UDP].len == 8


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_an_answer_makes_the_member_online(director: Director, address: Any) -> None:
    source = ip_address("fe80::1" if address == VIP6 else "192.0.2.1")
    (request,) = asked(director, replace(NAME_SERVER, address=address, source=source))
    assert said(director, pong(request)) == [(Health.ONLINE, "answers")]


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_port_unreachable_is_a_miss_at_once(director: Director, address: Any) -> None:
    source = ip_address("fe80::1" if address == VIP6 else "192.0.2.1")
    (request,) = asked(director, replace(NAME_SERVER, address=address, source=source))
    assert said(director, refusal(request)) == [(Health.OFFLINE, "has nobody at UDP port 53")]


def test_silence_is_a_miss(director: Director) -> None:
    asked(director, NAME_SERVER)
    assert late(director) == [(Health.OFFLINE, "no answer within 1 s, 1 times in a row")]


class TestStrangers:
    @pytest.mark.parametrize("change", [{"sport": 54}, {"dport": 9}])
    def test_a_datagram_from_or_to_another_port_says_nothing(
        self, director: Director, change: dict[str, int]
    ) -> None:
        (request,) = asked(director, NAME_SERVER)
        assert said(director, pong(request, **change)) == []

    def test_another_machines_answer_says_nothing(self, director: Director) -> None:
        (request,) = asked(director, NAME_SERVER)
        answer = pong(request)
        answer.src = str(mac(2))
        assert said(director, answer) == []

    def test_an_answer_from_another_address_says_nothing(self, director: Director) -> None:
        (request,) = asked(director, NAME_SERVER)
        answer = pong(request)
        answer[IP].src = "192.0.2.99"
        assert said(director, answer) == []

    def test_an_answer_that_comes_late_says_nothing(self, director: Director) -> None:
        (request,) = asked(director, NAME_SERVER)
        late(director)
        assert said(director, pong(request)) == []

    def test_members_with_the_same_address_are_told_by_their_ethernet_addresses(
        self, director: Director
    ) -> None:
        first, second = asked(director, NAME_SERVER, target(2, MONITOR, port=53))
        assert said(director, refusal(first), pong(second)) == [
            (Health.OFFLINE, "has nobody at UDP port 53"),
            (Health.ONLINE, "answers"),
        ]

    def test_pools_that_ask_the_same_end_ask_from_different_ports(
        self, director: Director
    ) -> None:
        alike = [target(number, MONITOR, port=53, member_mac=mac(1)) for number in range(PORTS)]
        requests = asked(director, *alike)
        assert len({request[UDP].sport for request in requests}) == PORTS
        answers = [pong(request) for request in requests]
        assert said(director, *answers) == [(Health.ONLINE, "answers")] * PORTS


def test_a_member_for_which_no_port_is_free_is_not_judged(director: Director) -> None:
    alike = [target(number, MONITOR, port=53, member_mac=mac(1)) for number in range(PORTS + 1)]
    assert len(asked(director, *alike)) == PORTS
    assert len(late(director)) == PORTS


class TestSilence:
    """Where it is accepted, an echo request goes beside the datagram."""

    def test_with_an_echo_it_is_a_hit_at_the_end_of_the_time(self, director: Director) -> None:
        _, ping = asked(director, SILENT)
        assert said(director, echo(ping)) == []
        assert late(director) == [(Health.ONLINE, "is silent, and answers an echo request")]

    def test_without_an_echo_it_is_a_miss(self, director: Director) -> None:
        asked(director, SILENT)
        assert late(director) == [(Health.OFFLINE, "no answer within 1 s, 1 times in a row")]

    def test_an_answer_counts_at_once(self, director: Director) -> None:
        request, ping = asked(director, SILENT)
        assert said(director, echo(ping), pong(request)) == [(Health.ONLINE, "answers")]

    def test_a_refusal_counts_though_there_is_an_echo(self, director: Director) -> None:
        request, ping = asked(director, SILENT)
        told = said(director, echo(ping), refusal(request))
        assert told == [(Health.OFFLINE, "has nobody at UDP port 53")]

    def test_soon_after_a_refusal_it_is_a_miss_since_kernels_refuse_rarely(
        self, director: Director
    ) -> None:
        quick = replace(LENIENT, interval=2.0)
        director.probes(replace(SILENT, monitor=quick))
        director.turn()
        request = next(frame for frame in director.wire.asked() if UDP in frame)
        said(director, refusal(request))
        heard = []
        for _ in range(3):
            director.turn(2)
            ping = next(frame for frame in director.wire.asked() if ICMP in frame)
            director.wire.answer(echo(ping))
            heard.append([v.health for v in director.turn() + director.turn(1)])
            director.clock.pass_seconds(-1)
        assert heard == [[], [], [Health.ONLINE]]

    def test_the_echo_request_goes_where_it_is_answered(self, director: Director) -> None:
        own = ip_address("192.0.2.11")
        request, ping = asked(director, replace(SILENT, echo_address=own))
        assert (request[IP].dst, ping[IP].dst) == (str(VIP4), str(own))
