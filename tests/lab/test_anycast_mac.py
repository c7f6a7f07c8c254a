# SPDX-License-Identifier: Apache-2.0
"""IPv6 anycast pools: members that run duplicate address detection, and untouched packets."""

import subprocess
import sys
import time
from typing import Any, Self

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import VIP_RANGE6
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, Sniffer, get, url, wait_until
from tests.lab.wire import Capture, taps, without_offloads
from tests.soak import choose

ALL = ["vm1", "vm2", "vm3", "vm4"]
NEXT_HEADER, TCP, ICMPV6 = 6, 6, 58
PATIENCE = 4
"""Seconds until a client whose segments were lost for some seconds has sent each of them again."""
RST = 4


def anycast(cloud: Cloud, members: list[str], **fields: Any) -> dict[str, Any]:
    """An anycast pool whose members, with duplicate address detection on, hold its address."""
    return cloud.pool(members, 6, data_plane="anycast_mac", **fields)


@pytest.mark.requirement("A12")
@pytest.mark.requirement("A14")
def test_packets_leave_as_they_came_and_are_answered_directly(lab: Lab, cloud: Cloud) -> None:
    computes = [lab.host("compute1"), lab.host("compute2")]
    with without_offloads(lab):
        pool = anycast(cloud, ["vm1", "vm3"])
        address = pool["address"]
        with (
            Capture(lab.host("client"), address, "eth0") as client,
            Capture(computes[0], address, *taps(computes[0])) as first,
            Capture(computes[1], address, *taps(computes[1])) as second,
        ):
            assert Load.count(lab, url(pool), 6)["order"] == ["vm1", "vm3"] * 3
    director = lab.host("director").spec.lan_mac
    macs = {name: lab.guest(name).spec.mac for name in ("vm1", "vm3")}
    sent = [f[14:] for f in client.frames if f[:6].hex(":") == director and _is_tcp(f)]
    arrived = {
        name: [f for f in frames if f[:6].hex(":") == macs[name] and _is_tcp(f)]
        for name, frames in (("vm1", first.frames), ("vm3", second.frames))
    }
    assert sorted(f[14:] for frames in arrived.values() for f in frames) == sorted(sent)
    assert {f[6:12].hex(":") for frames in arrived.values() for f in frames} == {director}
    ports = [{f[54:56] for f in frames} for frames in arrived.values()]
    assert [len(p) for p in ports] == [3, 3]
    assert not ports[0] & ports[1], "all packets of a connection reach the same member"
    answers = [f for f in client.frames if f[:6].hex(":") == lab.host("client").spec.lan_mac]
    assert {f[6:12].hex(":") for f in answers if _is_tcp(f)} == set(macs.values())


def _is_tcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x86\xdd" and frame[14 + NEXT_HEADER] == TCP


@pytest.mark.requirement("A15")
def test_members_detect_no_duplicate_and_only_the_director_is_heard(
    lab: Lab, cloud: Cloud
) -> None:
    address = str(VIP_RANGE6[60])
    with Sniffer(lab, address) as sniffer:
        pool = anycast(cloud, ALL, address=address)
        assert [get(lab, pool) for _ in range(4)] == ALL
    assert {mac for mac, _ in sniffer.claims} == {lab.host("director").spec.lan_mac}
    for guest in lab.guests:
        shown = guest.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout
        assert f"{address}/128" in shown
        assert "dadfailed" not in shown


@pytest.mark.requirement("A16")
def test_echo_requests_go_to_each_member_from_the_link_local_address(
    lab: Lab, cloud: Cloud
) -> None:
    compute = lab.host("compute1")
    pool = anycast(cloud, ["vm1", "vm3"], monitor=TCP_MONITOR | {"type": "icmp"})
    wait_until("both are online", lambda: _healths(cloud, pool) == {"online"})
    with Capture(compute, pool["address"], *taps(compute)) as capture:
        virsh(compute, "suspend", "vm1")
        try:
            wait_until("vm1 is offline", lambda: _health(cloud, pool, "vm1") == "offline")
            assert Load.count(lab, url(pool), 6)["servers"] == {"vm3": 6}
        finally:
            virsh(compute, "resume", "vm1")
    probes = [f for f in capture.frames if f[14 + NEXT_HEADER] == ICMPV6 and f[54] == 128]
    assert probes
    assert {f[:6].hex(":") for f in probes} == {lab.guest("vm1").spec.mac}
    assert {f[22:24].hex() for f in probes} == {"fe80"}
    wait_until("vm1 is back", lambda: _health(cloud, pool, "vm1") == "online")


@pytest.mark.requirement("A13")
def test_a_member_that_leaves_moves_its_own_flows_only(lab: Lab, cloud: Cloud) -> None:
    pool = anycast(cloud, ALL, drain_timeout=0)
    with Load.flows(lab, pool["address"], 20, interval=0.2) as load:
        leaving = cloud.members(pool)["vm2"]["id"]
        cloud.ok("DELETE", f"/pools/{pool['id']}/members/{leaving}")
        wait_until("it has left", lambda: "vm2" not in cloud.members(pool))
        assert Load.count(lab, url(pool), 6)["servers"] == {"vm1": 2, "vm3": 2, "vm4": 2}
    assert load.result["servers"] == dict.fromkeys(ALL, 5)
    assert load.result["broken_on"] == {"vm2": 5}, load.result


@pytest.mark.requirement("A17")
@pytest.mark.parametrize("action", choose(["reschedule", "reset"], ["keep"]))
def test_a_dead_members_flows_wait_move_or_are_reset_as_the_pool_says(
    lab: Lab, cloud: Cloud, action: str
) -> None:
    """By the probes' defaults. Who resets a flow is told by the Ethernet address."""
    compute = lab.host("compute1")
    pool = anycast(cloud, ["vm1", "vm3"], monitor={"type": "icmp"}, down_action=action)
    wait_until("both are online", lambda: _healths(cloud, pool) == {"online"})
    with (
        Capture(lab.host("client"), pool["address"], "eth0") as capture,
        Load.flows(lab, pool["address"], 8, interval=0.3) as load,
        Datagrams(lab, pool) as datagrams,
    ):
        first = {port: datagrams.server(port) for port in range(4)}
        assert sorted(first.values()) == ["vm1", "vm1", "vm3", "vm3"]
        virsh(compute, "suspend", "vm1")
        try:
            wait_until("vm1 is offline", lambda: _health(cloud, pool, "vm1") == "offline")
            assert Load.count(lab, url(pool), 6)["servers"] == {"vm3": 6}
            served = {port: datagrams.server(port) for port in range(4)}
            time.sleep(PATIENCE)
        finally:
            virsh(compute, "resume", "vm1")
        wait_until("vm1 is back", lambda: _healths(cloud, pool) == {"online"})
        assert Load.count(lab, url(pool), 6)["servers"] == {"vm1": 3, "vm3": 3}
    resetting = {f[6:12].hex(":") for f in capture.frames if _is_tcp(f) and f[67] & RST}
    by = {
        "keep": set(),
        "reschedule": {lab.guest("vm3").spec.mac},
        "reset": {lab.host("director").spec.lan_mac},
    }
    assert load.result["broken_on"] == ({} if action == "keep" else {"vm1": 4}), load.result
    assert resetting & {*by["reschedule"], *by["reset"]} == by[action]
    lost = {port for port, server in first.items() if server == "vm1"}
    moved = {port: "" if action == "keep" else "vm3" for port in lost}
    assert served == first | moved


class Datagrams:
    """Sockets of the client that keep their ports; ``server`` asks by one of them."""

    _PROGRAM = (
        "import socket,sys\n"
        "sockets=[socket.socket(socket.AF_INET6,socket.SOCK_DGRAM) for _ in range(4)]\n"
        "for s in sockets:\n"
        "    s.settimeout(2); s.connect((sys.argv[1],7))\n"
        "for line in sys.stdin:\n"
        "    s=sockets[int(line)]; s.send(b'x')\n"
        "    try: print(s.recv(99).decode().split()[0],flush=True)\n"
        "    except TimeoutError: print(flush=True)\n"
    )

    def __init__(self, lab: Lab, pool: dict[str, Any]) -> None:
        self._process = lab.host("client").popen(
            [sys.executable, "-c", self._PROGRAM, pool["address"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def server(self, socket: int) -> str:
        """The server that answers a datagram; empty if none does within two seconds."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"%d\n" % socket)
        self._process.stdin.flush()
        return str(self._process.stdout.readline().decode().strip())


def _health(cloud: Cloud, pool: dict[str, Any], name: str) -> str:
    return str(cloud.members(pool)[name]["health"])


def _healths(cloud: Cloud, pool: dict[str, Any]) -> set[str]:
    return {m["health"] for m in cloud.members(pool).values()}


def test_it_is_refused_for_ipv4_naming_those_that_can(cloud: Cloud) -> None:
    spec = {
        "network_id": cloud.network,
        "name": "wrong",
        "ip_version": 4,
        "data_plane": "anycast_mac",
        "ports": [{"protocol": "tcp", "port": 80}],
    }
    status, problem = cloud.request("POST", "/pools", {"pool": spec})
    assert status == 400, problem
    assert "IPv4" in problem["faultstring"]
    assert "tun" in problem["faultstring"]
