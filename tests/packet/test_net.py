# SPDX-License-Identifier: Apache-2.0
"""The kernel's links, filters and packet sockets, on interfaces made for these tests."""

import contextlib
import ctypes
import errno
import os
import platform
import queue
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from uuid import UUID

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Target, Verdict
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Health
from cloudlb.net.link import Link, LinkMonitor, addresses, gateways, links
from cloudlb.net.packet import PORTS, ProbeSocket, ReservedPorts, send_frame
from cloudlb.net.tc import Direction, Filters
from tests.planes import VIP4, VIP6, member_id
from tests.views import tcp_monitor

HERE, PEER = Mac("02:00:00:00:aa:01"), Mac("52:54:00:00:aa:02")
PORT = 45008 - 45008 % PORTS
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; a hundred frames may wait for a test
pytestmark = pytest.mark.usefixtures("namespace")


def _ip(*commands: str) -> None:
    batch = "\n".join(commands) + "\n"
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def _shown(link: str) -> str:
    command = ["ip", "link", "show", link]
    return subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE).stdout


def _index(name: str) -> int:
    return socket.if_nametoindex(name)


def until(what: str, holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)


@pytest.fixture
def pair(namespace: None) -> Iterator[None]:
    """near0, ours, and far0, where the members are."""
    _ip(
        f"link add near0 address {HERE} type veth peer name far0 address {PEER}",
        "link set near0 up",
        "link set far0 up",
    )
    until("its queue", lambda: "noqueue" in _shown("near0"))  # until then what is sent is dropped
    yield
    subprocess.run(["ip", "link", "del", "near0"], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def far(pair: None) -> Iterator[socket.socket]:
    """A socket at the members' end."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as made:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        made.bind(("far0", 3))
        made.settimeout(10)
        yield made


class TestProbeSocket:
    @pytest.fixture
    def channel(self, pair: None) -> Iterator[ProbeSocket]:
        made = ProbeSocket("near0", PORT)
        yield made
        made.close()

    def _received(self, channel: ProbeSocket, far: socket.socket, *frames: Packet) -> list[bytes]:
        """What arrives of some frames, told by a last one that must arrive."""
        last = Ether(src=str(PEER), dst=str(HERE)) / IP() / TCP(dport=PORT, flags="SA", seq=99)
        for frame in (*frames, last):
            far.send(bytes(frame))
        found: list[bytes] = []
        while bytes(last) not in found:
            ready, _, _ = select.select([channel], [], [], 10)
            assert ready, "the last frame did not arrive"
            found += channel.receive()
        return [frame for frame in found if frame != bytes(last)]

    ETHER = Ether(src=str(PEER), dst=str(HERE))
    V6 = IPv6(src="2001:db8::1", dst="fe80::1")

    @pytest.mark.parametrize(
        "frame",
        [
            ETHER / IP() / TCP(dport=PORT, flags="RA"),
            ETHER / IP(options=[b"\x94\x04\x00\x00"]) / TCP(dport=PORT, flags="SA"),
            ETHER / V6 / TCP(dport=PORT, flags="SA"),
            ETHER / IP() / ICMP(type=0),
            ETHER / V6 / ICMPv6EchoReply(),
            ETHER / IP() / TCP(dport=PORT + PORTS - 1),
            ETHER / V6 / TCP(dport=PORT + PORTS - 1),
            ETHER / IP() / UDP(dport=PORT),
            ETHER / V6 / UDP(dport=PORT + 1),
            ETHER / IP() / ICMP(type=3, code=3),
            ETHER / V6 / ICMPv6DestUnreach(code=4),
        ],
        ids=lambda frame: frame.summary().split("/", 1)[1],
    )
    def test_answers_pass(self, channel: ProbeSocket, far: socket.socket, frame: Packet) -> None:
        assert self._received(channel, far, frame) == [bytes(frame)]

    @pytest.mark.parametrize(
        "frame",
        [
            ETHER / IP() / TCP(dport=PORT + PORTS, flags="SA"),
            ETHER / IP() / TCP(dport=PORT - 1, flags="SA"),
            ETHER / V6 / TCP(dport=PORT + PORTS, flags="SA"),
            ETHER / V6 / UDP(dport=PORT - 1),
            ETHER / IP() / UDP(dport=PORT + PORTS),
            ETHER / IP(proto=47) / (PORT.to_bytes(2) * 2),
            ETHER / IP() / ICMP(type=8),
            ETHER / IP() / ICMP(type=3, code=1),
            ETHER / V6 / ICMPv6EchoRequest(),
            ETHER / V6 / ICMPv6DestUnreach(code=3),
            ETHER / ARP(),
            ETHER / Raw(b"x" * 60),
        ],
        ids=lambda frame: frame.summary().split("/", 1)[-1],
    )
    def test_nothing_else_does(
        self, channel: ProbeSocket, far: socket.socket, frame: Packet
    ) -> None:
        assert self._received(channel, far, frame) == []

    def test_what_we_send_reaches_the_other_end_and_not_ourselves(
        self, channel: ProbeSocket, far: socket.socket
    ) -> None:
        frame = bytes(Ether(src=str(HERE), dst=str(PEER)) / IP() / TCP(dport=PORT, flags="S"))
        assert channel.send([frame, frame]) == 2
        send_frame("near0", frame)
        for _ in range(3):
            while far.recv(256) != frame:
                pass
        assert self._received(channel, far) == []

    def test_more_frames_than_one_call_takes_arrive_in_their_order(
        self, channel: ProbeSocket, far: socket.socket
    ) -> None:
        head = bytes(Ether(src=str(HERE), dst=str(PEER), type=0x88B5))
        frames = [head + number.to_bytes(2) + bytes(number % 7 + 60) for number in range(150)]
        assert channel.send(frames) == 150
        found: list[bytes] = []
        while len(found) < 150:
            frame = far.recv(2048)
            found += [frame] if frame[12:14] == head[12:14] else []
        assert found == frames

    def test_as_many_are_received(self, channel: ProbeSocket, far: socket.socket) -> None:
        frames = [self.ETHER / IP() / TCP(dport=PORT, seq=n, flags="SA") for n in range(100, 250)]
        assert self._received(channel, far, *frames) == [bytes(frame) for frame in frames]

    def test_sending_out_of_an_interface_that_is_down_is_an_os_error(
        self, channel: ProbeSocket
    ) -> None:
        _ip("link set near0 down")
        with pytest.raises(OSError, match="Network is down"):
            channel.send([bytes(64)])

    def test_without_frames_nothing_is_waited_for(self, channel: ProbeSocket) -> None:
        assert channel.receive() == []

    def test_an_interface_that_is_missing_is_an_os_error(self, pair: None) -> None:
        with pytest.raises(OSError, match="No such device"):
            ProbeSocket("nowhere0", PORT)


def test_a_single_frame_is_sent(far: socket.socket) -> None:
    frame = bytes(Ether(src=str(HERE), dst=str(PEER)) / Raw(b"hello" * 12))
    send_frame("near0", frame)
    while far.recv(256) != frame:
        pass


class TestReservedPorts:
    @pytest.fixture
    def reserved(self, pair: None) -> Iterator[ReservedPorts]:
        made = ReservedPorts()
        yield made
        made.close()

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_they_are_nobody_elses(self, reserved: ReservedPorts, kind: int) -> None:
        for number in range(PORTS):
            with socket.socket(type=kind) as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", reserved.first + number))

    def test_others_are_tried_when_some_are_taken(self, reserved: ReservedPorts) -> None:
        taken = reserved.first // PORTS - 640
        draws = iter((taken, taken, taken + 1))
        second = ReservedPorts(lambda _: next(draws))
        assert second.first == reserved.first + PORTS
        second.close()

    def test_when_all_are_taken_that_is_an_os_error(self, reserved: ReservedPorts) -> None:
        taken = reserved.first // PORTS - 640
        with pytest.raises(OSError, match="in use"):
            ReservedPorts(lambda _: taken, attempts=3)

    @pytest.mark.parametrize("flags", ["S", "SA", "A", "PA", "U"])
    @pytest.mark.parametrize("version", [4, 6])
    def test_the_hosts_stack_says_nothing_to_what_comes_to_them(
        self, reserved: ReservedPorts, far: socket.socket, version: int, flags: str
    ) -> None:
        """It answers the same to the port beside them, which shows that it was asked."""
        _ip("address add 192.0.2.1/24 dev near0", "address add 2001:db8::1/64 dev near0 nodad")
        _ip(
            f"neighbour add 192.0.2.2 lladdr {PEER} dev near0",
            f"neighbour add 2001:db8::2 lladdr {PEER} dev near0",
        )
        ether = Ether(src=str(PEER), dst=str(HERE))
        if version == 4:
            head = ether / IP(src="192.0.2.2", dst="192.0.2.1")
        else:
            head = ether / IPv6(src="2001:db8::2", dst="2001:db8::1")
        kinds = [
            UDP(dport=port) if flags == "U" else TCP(dport=port, flags=flags, ack=9)
            for port in (reserved.first, reserved.first - 1)
        ]
        frames = [bytes(head / kind) for kind in kinds]
        assert _answering_port(far, version, frames) == reserved.first - 1


def _answering_port(far: socket.socket, version: int, questions: list[bytes]) -> int:
    """The port that the first answer is from, or about; all are asked until one answers."""
    far.settimeout(1)
    for _ in range(10):
        for question in questions:
            far.send(question)
        with contextlib.suppress(TimeoutError):
            return _next_answering_port(far, version)
    raise AssertionError("neither port answers")


def _next_answering_port(far: socket.socket, version: int) -> int:
    while True:
        frame = Ether(far.recv(2048))
        if frame.src != str(HERE):
            continue
        if TCP in frame:
            return int(frame[TCP].sport)
        refusal = frame.getlayer(ICMP if version == 4 else ICMPv6DestUnreach)
        if refusal is not None:
            return int(frame[UDPerror].dport)


class Member:
    """Answers at the far end as a member with the pool's address would."""

    def __init__(self, far: socket.socket) -> None:
        self.far, self.mood = far, "accepts"
        self.resets: queue.Queue[Packet] = queue.Queue()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.far.settimeout(0.05)
        while not self.stopping.is_set():
            try:
                packet = Ether(self.far.recv(256))
            except (TimeoutError, OSError):
                self.stopping.wait(0.01)
                continue
            if TCP in packet and packet.dst == str(PEER):
                self._take(packet)

    def _take(self, packet: Packet) -> None:
        if packet[TCP].flags & 4:
            self.resets.put(packet)
        elif self.mood != "hangs":
            ip = packet[IP] if IP in packet else packet[IPv6]
            answer = Ether(src=packet.dst, dst=packet.src) / type(ip)(src=ip.dst, dst=ip.src)
            flags = "SA" if self.mood == "accepts" else "RA"
            answer /= TCP(
                sport=packet[TCP].dport,
                dport=packet[TCP].sport,
                flags=flags,
                seq=7,
                ack=(packet[TCP].seq + 1) & 0xFFFFFFFF,
            )
            self.far.send(bytes(answer))

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)


@pytest.fixture
def member(far: socket.socket) -> Iterator[Member]:
    made = Member(far)
    yield made
    made.stop()


@pytest.fixture
def heard(pair: None) -> Iterator["queue.Queue[Verdict]"]:
    """What a running prober says of the member behind near0."""
    verdicts: queue.Queue[Verdict] = queue.Queue()
    prober, stopping = Prober(verdicts.put), threading.Event()
    thread = threading.Thread(target=prober.run, args=(stopping,))
    thread.start()
    monitor = tcp_monitor(interval=0.02, timeout=2.0, rise=1, fall=1)
    target = Target(
        member_id(1), UUID(int=1), monitor, 80, "near0", HERE, PEER, ip_address("192.0.2.1"), VIP4
    )
    prober.set_targets({target.member_id: target})
    yield verdicts
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.requirement("L13")
class TestProbes:
    def _until(self, heard: "queue.Queue[Verdict]", health: Health) -> Verdict:
        while True:
            verdict = heard.get(timeout=15)
            if verdict.health is health:
                return verdict

    def test_a_member_that_refuses_goes_and_comes_back(
        self, member: Member, heard: "queue.Queue[Verdict]"
    ) -> None:
        self._until(heard, Health.ONLINE)
        member.mood = "refuses"
        assert "refuses" in self._until(heard, Health.OFFLINE).reason
        member.mood = "accepts"
        self._until(heard, Health.ONLINE)

    def test_a_member_that_hangs_goes(self, member: Member, heard: "queue.Queue[Verdict]") -> None:
        self._until(heard, Health.ONLINE)
        member.mood = "hangs"
        assert "no answer" in self._until(heard, Health.OFFLINE).reason

    def test_every_accepted_connection_is_reset(
        self, member: Member, heard: "queue.Queue[Verdict]"
    ) -> None:
        self._until(heard, Health.ONLINE)
        reset = member.resets.get(timeout=15)
        assert (reset[IP].dst, reset[TCP].dport, reset[TCP].flags) == (str(VIP4), 80, "R")

    def test_an_interface_that_was_down_is_used_again(
        self, member: Member, heard: "queue.Queue[Verdict]"
    ) -> None:
        self._until(heard, Health.ONLINE)
        _ip("link set near0 down")
        self._until(heard, Health.OFFLINE)
        _ip("link set near0 up")
        self._until(heard, Health.ONLINE)


class TestLinks:
    def test_an_interface_is_described(self, pair: None) -> None:
        with IPRoute() as ipr:
            found = {link.name: link for link in links(ipr)}
        assert found["near0"] == Link(_index("near0"), "near0", HERE, kind="veth")
        assert not found["near0"].is_tap

    def test_usable_addresses_are_told(self, pair: None) -> None:
        _ip("address add 192.0.2.1/24 dev near0", f"address add {VIP6}/64 dev near0 nodad")
        assert {ip_address("192.0.2.1"), VIP6} <= set(addresses(_index("near0")))

    def test_the_next_hops_to_elsewhere_are_told(self, pair: None) -> None:
        _ip("address add 192.0.2.1/24 dev near0", "address add 2001:db8:1::1/64 dev near0 nodad")
        assert gateways(_index("near0")) == []
        _ip(
            "route add default via 192.0.2.254 dev near0",
            "route add ::/0 via 2001:db8:1::ff dev near0",
            "route add 198.18.0.0/15 via 192.0.2.253 dev near0",
        )
        found = {ip_address("192.0.2.254"), ip_address("2001:db8:1::ff")}
        assert set(gateways(_index("near0"))) == found
        assert gateways(_index("lo")) == []

    def test_a_link_local_next_hop_is_in_no_pools_way(self, pair: None) -> None:
        _ip("route add default via inet6 fe80::1 dev near0")
        assert gateways(_index("near0")) == []

    def test_a_tentative_address_is_not(self, pair: None) -> None:
        _ip("link set far0 down", "link set near0 down", "address add 2001:db8::9/64 dev near0")
        assert ip_address("2001:db8::9") not in addresses(_index("near0"))

    def test_an_interface_that_is_gone_has_none(self, namespace: None) -> None:
        assert addresses(1 << 20) == []


class Watched:
    """A monitor in its thread and what it told."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.gone: list[int] = []
        self.readdressed: list[int] = []
        self.before_listed: set[str] | None = None
        monitor = LinkMonitor(
            lambda link: self.links.update({link.index: link}),
            self._gone,
            self._listed,
            self.readdressed.append,
        )
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=monitor.run, args=(self.stopping,))
        self.thread.start()

    def _gone(self, index: int) -> None:
        self.gone.append(index)
        self.links.pop(index, None)

    def _listed(self) -> None:
        self.before_listed = {link.name for link in self.links.values()}

    def named(self, name: str) -> Link | None:
        return next((link for link in list(self.links.values()) if link.name == name), None)


@pytest.fixture
def watched(pair: None) -> Iterator[Watched]:
    made = Watched()
    until("the list", lambda: made.before_listed is not None)
    yield made
    made.stopping.set()
    made.thread.join(10)
    assert not made.thread.is_alive()


class TestMonitor:
    def test_all_present_links_are_told_before_the_end_of_the_list(self, watched: Watched) -> None:
        assert watched.before_listed is not None
        assert {"lo", "near0", "far0"} <= watched.before_listed

    def test_a_tap_is_told_with_the_bridge_that_it_joins_and_leaves(
        self, watched: Watched
    ) -> None:
        _ip(
            "link add br7 type bridge", "tuntap add mode tap name tap7", "link set tap7 master br7"
        )
        try:
            until("the port", lambda: (t := watched.named("tap7")) and t.master == _index("br7"))
            tap = watched.named("tap7")
            assert tap is not None
            assert tap.is_tap
            _ip("link set tap7 nomaster")
            until("the leave", lambda: (t := watched.named("tap7")) and t.master == 0)
            _ip("link set tap7 master br7")
            until("the return", lambda: (t := watched.named("tap7")) and t.master)
            _ip("link del br7")
            until("the bridge's end", lambda: watched.named("br7") is None)
            until("the port's freedom", lambda: (t := watched.named("tap7")) and t.master == 0)
            assert tap.index not in watched.gone
        finally:
            _ip("link del tap7")
        until("the tap's end", lambda: watched.named("tap7") is None)

    def test_a_new_name_and_address_are_told(self, watched: Watched) -> None:
        _ip(
            "link set far0 down",
            "link set far0 name far1",
            "link set far1 address 02:00:00:00:aa:09",
        )
        until("the change", lambda: (f := watched.named("far1")) and str(f.mac).endswith("09"))
        assert watched.named("far0") is None

    def test_another_mtu_is_told(self, watched: Watched) -> None:
        _ip("link set near0 mtu 1400")
        until("the change", lambda: (n := watched.named("near0")) and n.mtu == 1400)

    @pytest.mark.parametrize("address", ["192.0.2.9/24", "2001:db8::9/64"])
    def test_addresses_that_come_and_go_are_told(self, watched: Watched, address: str) -> None:
        near = _index("near0")
        for verb in ("add", "del"):
            watched.readdressed.clear()
            nodad = " nodad" if verb == "add" and ":" in address else ""
            _ip(f"address {verb} {address} dev near0{nodad}")
            until(f"the {verb}", lambda: near in watched.readdressed)


def _program() -> int:
    """The file descriptor of a program that lets every packet pass."""
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    code = struct.pack("=BBhi", 0xB7, 0, 0, -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    instructions, license_text = ctypes.create_string_buffer(code), ctypes.c_char_p(b"GPL")
    sched_cls, count = 3, 2
    attributes = struct.pack(
        "=IIQQ32x",
        sched_cls,
        count,
        ctypes.addressof(instructions),
        ctypes.cast(license_text, ctypes.c_void_p).value,
    )
    buffer = ctypes.create_string_buffer(attributes, 128)
    fd = ctypes.CDLL(None, use_errno=True).syscall(number, 5, buffer, 128)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return int(fd)


def _tc(*words: str) -> str:
    command = ["tc", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class TestFilters:
    @pytest.fixture
    def filters(self, pair: None) -> Iterator[Filters]:
        made = Filters()
        yield made
        made.close()

    @pytest.fixture
    def program(self) -> Iterator[int]:
        fd = _program()
        yield fd
        os.close(fd)

    def test_a_filter_is_found_by_its_name(self, filters: Filters, program: int) -> None:
        index = _index("near0")
        assert filters.attached(index, Direction.INGRESS) is None
        filters.attach(index, Direction.INGRESS, program, "guard:1")
        assert filters.attached(index, Direction.INGRESS) == "guard:1"
        assert filters.attached(index, Direction.EGRESS) is None
        assert index in filters.marked()
        assert _index("far0") not in filters.marked()

    def test_a_newer_one_takes_its_place(self, filters: Filters, program: int) -> None:
        index = _index("near0")
        for name in ("guard:1", "guard:2"):
            filters.attach(index, Direction.EGRESS, program, name)
        shown = _tc("filter", "show", "dev", "near0", "egress")
        assert "cloudlb:guard:2" in shown
        assert "cloudlb:guard:1" not in shown

    def test_nothing_is_left_of_it(self, filters: Filters, program: int) -> None:
        index = _index("near0")
        for direction in Direction:
            filters.attach(index, direction, program, "guard:1")
        filters.detach(index)
        assert "clsact" not in _tc("qdisc", "show", "dev", "near0")
        assert index not in filters.marked()

    def test_a_strangers_filter_stays_with_what_it_needs(
        self, filters: Filters, program: int
    ) -> None:
        _tc("qdisc", "add", "dev", "near0", "clsact")
        _tc(
            *("filter", "add", "dev", "near0", "ingress", "pref", "7"),
            *("protocol", "all", "u32", "match", "u32", "0", "0"),
        )
        index = _index("near0")
        filters.attach(index, Direction.INGRESS, program, "guard:1")
        filters.detach(index)
        shown = _tc("filter", "show", "dev", "near0", "ingress")
        assert "pref 7 u32" in shown
        assert "cloudlb" not in shown

    def test_a_strangers_program_is_not_taken_for_ours(
        self, filters: Filters, program: int
    ) -> None:
        index = _index("near0")
        with IPRoute() as ipr:
            ipr.tc("add", "clsact", index)
            ipr.tc(
                *("add-filter", "bpf", index),
                **{"fd": program, "name": "theirs", "parent": Direction.INGRESS, "prio": 7},
            )
        assert filters.attached(index, Direction.INGRESS) is None
        filters.detach(index)
        assert "theirs" in _tc("filter", "show", "dev", "near0", "ingress")

    def test_an_interface_that_is_gone_is_no_trouble(self, filters: Filters) -> None:
        filters.detach(1 << 20)
        assert filters.attached(1 << 20, Direction.INGRESS) is None

    @pytest.mark.parametrize(
        "end", [("link", "del", "near0"), ("qdisc", "del", "dev", "near0", "clsact")]
    )
    def test_what_goes_while_it_is_removed_is_no_trouble(
        self,
        filters: Filters,
        program: int,
        monkeypatch: pytest.MonkeyPatch,
        end: tuple[str, ...],
    ) -> None:
        index = _index("near0")
        for direction in Direction:
            filters.attach(index, direction, program, "guard:1")
        found = filters.attached

        def find_and_end(index: int, direction: Direction) -> str | None:
            name = found(index, direction)
            command = ["ip" if end[0] == "link" else "tc", *end]
            subprocess.run(command, capture_output=True, check=False)
            return name

        monkeypatch.setattr(filters, "attached", find_and_end)
        filters.detach(index)
        assert index not in filters.marked()

    def test_an_interface_that_is_gone_takes_no_filter(
        self, filters: Filters, program: int
    ) -> None:
        with pytest.raises(OSError, match="interface 1048576") as caught:
            filters.attach(1 << 20, Direction.INGRESS, program, "guard:1")
        assert caught.value.errno == errno.ENODEV
