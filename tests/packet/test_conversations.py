# SPDX-License-Identifier: Apache-2.0
"""Probes by HTTP and HTTPS to a member whose TCP and TLS are those of its own kernel."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.probe import Prober
from cloudlb.agents.target import Target, Verdict
from cloudlb.model.ether import Mac
from cloudlb.model.pool import Health, Monitor, MonitorType
from tests.certificates import Authority
from tests.planes import VIP4, VIP6, member_id

HERE, PEER = Mac("02:00:00:00:ab:01"), Mac("52:54:00:00:ab:02")
SERVER = Path(__file__).with_name("web_server.py")
SOURCES = {4: ip_address("192.0.2.1"), 6: ip_address("fe80::1")}
ADDRESSES = {4: VIP4, 6: VIP6}
NAME = "www.example.org"
pytestmark = [pytest.mark.usefixtures("namespace"), pytest.mark.requirement("L13")]
FAMILIES = pytest.mark.parametrize("version", [4, 6])


class Member:
    """A process in a namespace of its own at the far end of a link."""

    def __init__(self, certificate: Path) -> None:
        words = [f"{source}={HERE}" for source in SOURCES.values()]
        words += [f"{VIP4}/32", f"{VIP6}/128"]
        own = [sys.executable, str(SERVER), "far7", str(certificate), *words]
        self.process = subprocess.Popen(
            ["unshare", "--net", *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.requests: queue.Queue[str] = queue.Queue()
        self.ready = threading.Event()

    def listen(self) -> None:
        """Hear what it says, until it ends."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line == "ready\n":
                self.ready.set()
            else:
                self.requests.put(line)

    def become(self, mood: str) -> None:
        """Have it answer like that from now on."""
        assert self.process.stdin
        self.ready.clear()
        self.process.stdin.write(f"{mood}\n")
        self.process.stdin.flush()
        assert self.ready.wait(10), f"the member did not become {mood!r}"

    def sockets(self) -> str:
        """The TCP connections that its kernel knows."""
        enter = ["nsenter", "--net", "--target", str(self.process.pid)]
        command = [*enter, "ss", "-Htan", "state", "connected"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def member(
    namespace: None, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Member]:
    """It has the pool's addresses; the link's near end is near7."""
    certificate = authority.server(tmp_path_factory.mktemp("tls") / "server.pem", NAME, str(VIP4))
    made = Member(certificate)
    link = f"link add near7 address {HERE} type veth peer name far7 address {PEER}"
    for command in (link, f"link set far7 netns {made.process.pid}", "link set near7 up"):
        subprocess.run(["ip", *command.split()], check=True)
    listener = threading.Thread(target=made.listen)
    listener.start()
    assert made.ready.wait(20), "the member is not ready"
    yield made
    made.process.kill()
    made.process.wait()
    listener.join(10)


Probe = Callable[..., "queue.Queue[Verdict]"]


@pytest.fixture
def probe(member: Member) -> Iterator[Probe]:
    """Probes the member as a monitor says; what it says of it."""
    member.become("200 OK")
    stopping, threads = threading.Event(), []

    def start(version: int = 4, kind: str = "http", **settings: Any) -> "queue.Queue[Verdict]":
        verdicts: queue.Queue[Verdict] = queue.Queue()
        prober = Prober(verdicts.put)
        threads.append(threading.Thread(target=prober.run, args=(stopping,)))
        threads[-1].start()
        times = {"interval": 0.1, "timeout": 5.0, "rise": 1, "fall": 1}
        monitor = replace(Monitor(MonitorType(kind)), **times | settings)
        port = monitor.port or (443 if kind == "https" else 80)
        ends = SOURCES[version], ADDRESSES[version]
        one = Target(member_id(1), UUID(int=1), monitor, port, "near7", HERE, PEER, *ends)
        prober.set_targets({one.member_id: one})
        return verdicts

    yield start
    stopping.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def first(verdicts: "queue.Queue[Verdict]") -> tuple[Health, str]:
    """What is said of the member first."""
    verdict = verdicts.get(timeout=15)
    return verdict.health, verdict.reason


@FAMILIES
@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_good_answer_makes_the_member_online(probe: Probe, version: int, kind: str) -> None:
    assert first(probe(version, kind)) == (Health.ONLINE, "answers with status 200")


@FAMILIES
@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_bad_one_makes_it_offline_until_there_is_a_good_one(
    member: Member, probe: Probe, version: int, kind: str
) -> None:
    heard = probe(version, kind, expected_codes="200,204")
    assert first(heard)[0] is Health.ONLINE
    member.become("503 Service Unavailable")
    assert first(heard) == (Health.OFFLINE, "answers with status 503, expected is 200,204")
    member.become("204 No Content")
    assert first(heard) == (Health.ONLINE, "answers with status 204")


def test_the_request_is_the_monitors(member: Member, probe: Probe) -> None:
    first(probe(4, method="HEAD", path="/up?x=1", host="shop.example", http_version="1.0"))
    request = ""
    while not request.startswith("HEAD"):  # those of other tests may still come in
        request = member.requests.get(timeout=10).strip("'\n")
    lines = request.split(r"\r\n")
    assert lines[:2] == ["HEAD /up?x=1 HTTP/1.0", "Host: shop.example"]


@pytest.mark.parametrize("kind", ["http", "https"])
@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("closes", "ends the connection before it has answered"),
        ("hangs", "accepts the connection and does not answer in time"),
    ],
)
def test_a_connection_without_an_answer_is_a_miss_with_its_reason(
    member: Member, probe: Probe, kind: str, mood: str, reason: str
) -> None:
    member.become(mood)
    assert first(probe(4, kind, interval=2.0, timeout=2.0)) == (Health.OFFLINE, reason)


def test_a_closed_port_is_a_refusal(probe: Probe) -> None:
    reason = "refuses connections to port 81"
    assert first(probe(4, port=81)) == (Health.OFFLINE, reason)


def test_an_answer_in_another_language_is_none(probe: Probe) -> None:
    """TLS' alert to a request in plain text."""
    health, reason = first(probe(4, "http", port=443))
    assert (health, reason) == (Health.OFFLINE, "ends the connection before it has answered")


class TestCertificates:
    def test_one_of_the_authority_with_the_name_is_good(
        self, probe: Probe, authority: Authority
    ) -> None:
        assert first(probe(4, "https", ca=authority.pem, sni=NAME))[0] is Health.ONLINE

    def test_the_name_may_be_the_address_that_is_asked(
        self, probe: Probe, authority: Authority
    ) -> None:
        assert first(probe(4, "https", ca=authority.pem))[0] is Health.ONLINE

    def test_another_name_is_a_miss(self, probe: Probe, authority: Authority) -> None:
        health, reason = first(probe(4, "https", ca=authority.pem, sni="shop.example.org"))
        assert health is Health.OFFLINE
        assert "fails at TLS: certificate: Hostname mismatch" in reason

    def test_another_authority_is_a_miss(self, probe: Probe) -> None:
        health, reason = first(probe(4, "https", ca=Authority("other").pem, sni=NAME))
        assert health is Health.OFFLINE
        assert "fails at TLS: certificate: unable to get local issuer" in reason


def test_nothing_is_left_at_the_member(member: Member, probe: Probe) -> None:
    """Neither half-open connections nor such that wait for a last segment."""
    assert first(probe(4, interval=1000.0))[0] is Health.ONLINE
    for _ in range(100):
        if not member.sockets():
            return
        threading.Event().wait(0.05)
    pytest.fail(member.sockets())
