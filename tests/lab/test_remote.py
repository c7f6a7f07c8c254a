# SPDX-License-Identifier: Apache-2.0
"""Members on no host with an agent: a server that the lab's libvirt knows nothing of.

It is a process in a namespace of its own on a compute host's bridge, or on a host behind another.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import BRIDGE, HOSTS, LAN_NETWORK4, LAN_NETWORK6
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, get, url, wait_until
from tests.lab.remote_server import NAME
from tests.lab.test_nat import translated
from tests.lab.wire import without_offloads
from tests.soak import choose

pytestmark = [pytest.mark.usefixtures("fresh_ports"), pytest.mark.requirement("L21")]
FAMILIES = pytest.mark.parametrize("version", [4, 6])
ROUTER = next(s for s in HOSTS if s.name == "compute1")
FAR, NOBODY = "203.0.113.9", LAN_NETWORK4[99]
_SERVER = Path(__file__).with_name("remote_server.py")
_MAC = "52:54:00:60:02:01"  # the same each time, as the others may remember it
_SPACE, _ENTER = "remote", ("ip", "netns", "exec", "remote")
_OUTSIDE = f"""link add remote0 type veth peer name eth0 address {_MAC} netns {_SPACE}
link set remote0 master {BRIDGE} up
"""
_INSIDE = f"""link set lo up
link set eth0 up
address add {LAN_NETWORK4[90]}/24 dev eth0
address add {LAN_NETWORK6[90]}/64 dev eth0 nodad
"""


@contextmanager
def running(host: Host, *enter: str, device: str = "") -> Iterator[None]:
    """The server runs on a host, or in a namespace there."""
    command = [*enter, sys.executable, str(_SERVER), *([device] if device else [])]
    process = host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.communicate(timeout=10)


class Home:
    """A machine on the link of which no agent knows."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ip(self, *command: str) -> None:
        self._host.run(["ip", "-netns", _SPACE, *command])

    def set(self, name: str, value: int) -> None:
        self._host.run([*_ENTER, "sysctl", "-qw", f"{name}={value}"])

    def running(self, device: str = "") -> AbstractContextManager[None]:
        """The server runs there."""
        return running(self._host, *_ENTER, device=device)

    def hold(self, address: str) -> None:
        """Have an address and tell nobody of it, as the server's user has to see to."""
        for name, value in {"arp_ignore": 1, "arp_announce": 2, "rp_filter": 0}.items():
            self.set(f"net.ipv4.conf.all.{name}", value)
        length = 128 if ":" in address else 32
        self.ip("address", "add", f"{address}/{length}", "dev", "lo", "nodad")

    def unpack_to(self, device: str) -> None:
        """Have a device for what comes in tunnels."""
        self.ip("tuntap", "add", device, "mode", "tun", "multi_queue")
        self.ip("link", "set", device, "up")
        self.set(f"net.ipv4.conf.{device}.rp_filter", 0)


@pytest.fixture
def home(lab: Lab) -> Iterator[Home]:
    """In a namespace of a compute host, on its bridge; gone afterwards."""
    host = lab.host("compute2")
    host.run(["ip", "netns", "add", _SPACE])
    try:
        host.run(["ip", "-batch", "-"], input=_OUTSIDE)
        host.run(["ip", "-netns", _SPACE, "-batch", "-"], input=_INSIDE)
        yield Home(host)
    finally:
        host.run(["ip", "netns", "del", _SPACE])


def remote(address: object, **more: Any) -> dict[str, Any]:
    return {"address": str(address), "remote": True, **more}


def own(version: int) -> str:
    return str(LAN_NETWORK6[90] if version == 6 else LAN_NETWORK4[90])


def said(lab: Lab, pool: dict[str, Any]) -> dict[str, str]:
    done = lab.host("client").run(["curl", "-s", "-m", "5", url(pool)])
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@FAMILIES
@pytest.mark.requirement("L19")
def test_it_shares_requests_with_guests_that_are_translated_at_their_taps(
    lab: Lab, cloud: Cloud, home: Home, version: int
) -> None:
    pool = translated(cloud, ["vm1"], version)
    with home.running():
        answer = cloud.change(pool, "POST", "/members", {"member": remote(own(version))})
        assert answer["member"]["placement"] == "remote"
        result = Load.count(lab, url(pool), 40)
        assert (result["failed"], result["servers"]) == (0, {"vm1": 20, NAME: 20})
        clients = {one["server"]: one["client"] for one in (said(lab, pool) for _ in range(2))}
        assert clients[NAME] == pool["address"]
        assert clients["vm1"] != pool["address"]
    counted = {m["name"]: m for m in cloud.stats(pool)["stats"]["members"]}
    assert [counted[own(version)]["estimated"], counted["vm1"]["estimated"]] == [True, False]
    assert counted[own(version)]["connections"] == 21
    assert counted[own(version)]["packets_out"] > 21


@FAMILIES
@pytest.mark.requirement("L19")
def test_it_is_told_who_its_clients_are(lab: Lab, cloud: Cloud, home: Home, version: int) -> None:
    """A program asks its kernel for the SYN; curl says which port it had."""
    members = [remote(own(version))]
    pool = cloud.pool([], version, data_plane="nat", translation="full", members=members)
    with home.running():
        assert said(lab, pool)["told"] == ""
        cloud.change(pool, "PATCH", "", {"pool": {"client_address": "tcp_option"}})
        done = lab.host("client").run(
            ["curl", "-s", "-m", "5", "-w", "\n%{local_ip} %{local_port}", url(pool)]
        )
        answer, client = done.stdout.splitlines()
        assert json.loads(answer)["told"] == client
        assert Load.count(lab, url(pool), 40)["servers"] == {NAME: 40}


@pytest.mark.requirement("L13")
def test_behind_a_router_it_is_probed_and_comes_back_by_itself(lab: Lab, cloud: Cloud) -> None:
    router, director = lab.host(ROUTER.name), lab.host("director")
    router.run(["ip", "address", "add", f"{FAR}/32", "dev", "lo"])
    director.run(["ip", "route", "add", f"{FAR}/32", "via", str(ROUTER.lan4)])
    try:
        pool = translated(cloud, ["vm3"], monitor=TCP_MONITOR)
        cloud.change(pool, "POST", "/members", {"member": remote(FAR)})

        def is_health(word: str) -> bool:
            return bool(cloud.members(pool)[FAR]["health"] == word)

        def reason() -> str:
            return str(cloud.members(pool)[FAR]["health_reason"])

        wait_until("nobody listens", lambda: is_health("offline"))
        wait_until("that is said", lambda: "refuses connections" in reason())
        assert Load.count(lab, url(pool), 10)["servers"] == {"vm3": 10}
        with running(router):
            wait_until("it answers", lambda: is_health("online"))
            wait_until("the director knows", lambda: cloud.realized(pool))
            assert Load.count(lab, url(pool), 10)["servers"] == {"vm3": 5, NAME: 5}
        wait_until("it is gone", lambda: is_health("offline"))
        director.run(["ip", "route", "change", f"{FAR}/32", "via", str(NOBODY)])
        wait_until("nobody leads there", lambda: f"nobody answers for {NOBODY}" in reason())
    finally:
        director.run(["ip", "route", "del", f"{FAR}/32"])
        router.run(["ip", "address", "del", f"{FAR}/32", "dev", "lo"])


@pytest.mark.parametrize(
    ("data_plane", "version"), choose([("dr", 4), ("tun", 6)], [("dr", 6), ("tun", 4)])
)
def test_a_prepared_one_answers_clients_itself(
    lab: Lab, cloud: Cloud, home: Home, data_plane: str, version: int
) -> None:
    """The tunnel is of IPv4 for pools of both families. What unpacks it gets packets as they are
    on a real link, where no checksum is left to be computed.
    """
    address = own(4 if data_plane == "tun" else version)
    member = remote(address, prepared=True)
    pool = cloud.pool([], version, data_plane=data_plane, members=[member], monitor=TCP_MONITOR)
    home.hold(pool["address"])
    home.unpack_to("unpacked")
    with without_offloads(lab):
        with home.running("unpacked"):
            wait_until("it answers", lambda: get(lab, pool) == NAME)
            wait_until("probes reach it", lambda: _health(cloud, pool, address) == "online")
            assert Load.count(lab, url(pool), 20)["servers"] == {NAME: 20}
            assert said(lab, pool)["client"] != pool["address"]
        wait_until("probes miss it", lambda: _health(cloud, pool, address) == "offline")


def _health(cloud: Cloud, pool: dict[str, Any], name: str) -> Any:
    return cloud.members(pool)[name]["health"]
