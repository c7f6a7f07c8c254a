# SPDX-License-Identifier: Apache-2.0
"""Distributed packet rewriting: the hosts of the members direct, and no other host does."""

import json
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import ECHO_PORT, harm
from cloudlb.lab.services import config_path
from cloudlb.lab.traffic import Load
from cloudlb.model.pool import Forwarding
from tests.lab.churn import change_at_random
from tests.lab.control import TCP_MONITOR, Cloud, Sniffer, ask_udp, get, url, wait_until
from tests.lab.pairs import (
    ALL,
    announcers,
    route,
    shared,
    unplugged,
)
from tests.lab.spread import HOSTS, bridge_mac, distributed
from tests.lab.wire import Capture, without_offloads
from tests.soak import choose, count

FAMILIES = pytest.mark.parametrize("version", [4, 6])
LIMIT = 10
BODY = bytes(i % 251 for i in range(251)) * 12000


def by_day(forwarding: str) -> pytest.MarkDecorator:
    """One way of forwarding each day, all in the soak."""
    others = [way.value for way in Forwarding if way.value != forwarding]
    return pytest.mark.parametrize("forwarding", choose([forwarding], others))


@pytest.mark.requirement("D1")
@pytest.mark.requirement("D9")
@pytest.mark.parametrize(
    ("forwarding", "version"),
    choose([("dr", 4), ("tun", 6), ("nat", 4)], [("dr", 6), ("tun", 4), ("nat", 6)]),
)
def test_a_client_is_served_by_all_members_whichever_host_it_comes_by(
    lab: Lab, cloud: Cloud, forwarding: str, version: int
) -> None:
    pool = distributed(cloud, ALL, version, forwarding)
    assert pool["directors"] == list(HOSTS)
    for ways in ([HOSTS[0]], [HOSTS[1]], HOSTS):
        with shared(lab, pool, *ways):
            result = Load.count(lab, url(pool), 60)
            assert (result["failed"], set(result["servers"])) == (0, set(ALL)), ways
            assert set(ask_udp(lab, pool, 30)) == set(ALL), ways


@FAMILIES
@pytest.mark.requirement("D1")
def test_one_host_answers_for_the_address_on_the_link(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    """A client without a route finds the one that the hosts have elected."""
    pool = distributed(cloud, ALL, version)
    with Sniffer(lab, pool["address"]) as sniffer:
        lab.host("client").run(["ip", "neigh", "flush", "all"])
        result = Load.count(lab, url(pool), 40)
    assert (result["failed"], set(result["servers"])) == (0, set(ALL))
    (elected,) = announcers(cloud, pool)
    macs = {source for source, _ in sniffer.claims}
    assert macs <= {bridge_mac(lab, elected)}, sniffer.claims


@pytest.mark.requirement("D2")
def test_a_connection_has_the_same_member_by_every_host(lab: Lab, cloud: Cloud) -> None:
    pool = distributed(cloud, ALL)
    chosen = []
    for name in HOSTS:
        with shared(lab, pool, name):
            chosen.append(_servers_of_ports(lab, pool))
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) == set(ALL)


def _servers_of_ports(lab: Lab, pool: dict[str, Any]) -> list[str]:
    """The servers that answer datagrams from forty fixed ports."""
    program = (
        "import socket,sys\n"
        "for port in range(42000,42040):\n"
        "    s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5)\n"
        "    s.bind(('',port)); s.connect((sys.argv[1],7)); s.send(b'x')\n"
        "    print(s.recv(99).decode().split()[0])\n"
    )
    done = lab.host("client").run([sys.executable, "-c", program, pool["address"]])
    return done.stdout.split()


@by_day("tun")
@pytest.mark.requirement("D7")
def test_no_packet_passes_a_host_twice_even_if_hosts_disagree(
    lab: Lab, cloud: Cloud, forwarding: str
) -> None:
    """Either host believes that only the other one's members serve."""
    pool = distributed(cloud, ALL, 4, forwarding)
    ids = {name: member["id"] for name, member in cloud.members(pool).items()}
    path = f"/pools/{pool['id']}/members"
    theirs = {HOSTS[0]: ["vm3", "vm4"], HOSTS[1]: ["vm1", "vm2"]}
    agent = lab.host(HOSTS[1]).service("agent")
    try:
        for host in reversed(HOSTS):  # the second one stays with what it has heard
            members = [{"server": name, "weight": int(name in theirs[host])} for name in ids]
            cloud.ok("PATCH", path, {"members": members})
            wait_until(f"{host} has heard", lambda host=host: _has_realized(cloud, pool, host))
            if host == HOSTS[1]:
                agent.kill()
        for host in HOSTS:
            captures = {name: Capture(lab.host(name), pool["address"], "eth0") for name in HOSTS}
            with shared(lab, pool, host), captures[HOSTS[0]], captures[HOSTS[1]]:
                result = Load.count(lab, url(pool), 20)
            assert result["failed"] == 0
            assert set(result["servers"]) == set(theirs[host])
            _check_hops(lab, host, {name: one.frames for name, one in captures.items()})
    finally:
        agent.start()
    wait_until("both agree", lambda: cloud.realized(pool))


def _has_realized(cloud: Cloud, pool: dict[str, Any], host: str) -> bool:
    hosts = cloud.ok("GET", f"/pools/{pool['id']}/status")["status"]["hosts"]
    return any(one["host"] == host and one["state"] == "realized" for one in hosts)


def _check_hops(lab: Lab, entry: str, frames: dict[str, list[bytes]]) -> None:
    """What the entry host sent on reached the other one's guests, which sent none of it on."""
    (other,) = set(HOSTS) - {entry}
    sent = {name: bridge_mac(lab, name) for name in HOSTS}
    guests = {g.spec.mac for g in lab.guests if g.spec.home == other}
    forwarded = [f for f in frames[other] if f[6:12].hex(":") == sent[entry] and _is_ip(f)]
    assert len(forwarded) >= 20 * 4
    assert {f[:6].hex(":") for f in forwarded} <= guests
    assert not [f for f in frames[other] if f[6:12].hex(":") == sent[other] and _is_ip(f)]


def _is_ip(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00"


@pytest.mark.parametrize("version", choose([6], [4]))
@pytest.mark.requirement("D4")
def test_large_uploads_survive_the_tunnel(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = distributed(cloud, ["vm1", "vm3"], version, "tun")
    client = lab.host("client")
    (client.root / "run/body").write_bytes(BODY)
    with without_offloads(lab), shared(lab, pool, HOSTS[0]):
        told = [_post(lab, pool)]
        while len({one["server"] for one in told}) < 2:
            assert len(told) < 20, "one elsewhere, one of the host's own"
            told.append(_post(lab, pool))
    assert {one["server"] for one in told} == {"vm1", "vm3"}
    assert {(one["length"], one["crc32"]) for one in told} == {(len(BODY), zlib.crc32(BODY))}


def _post(lab: Lab, pool: dict[str, Any]) -> dict[str, Any]:
    command = ["curl", "-s", "-S", "-m", "50", "--data-binary", "@/run/body", url(pool)]
    told: dict[str, Any] = json.loads(lab.host("client").run(command).stdout)
    return told


@by_day("nat")
@pytest.mark.requirement("D8")
def test_changes_of_members_break_no_connection(lab: Lab, cloud: Cloud, forwarding: str) -> None:
    """A host that gets its first member starts to direct, and ends when the last one has left.

    It is told of the connections that there are, and they may come by it from then on.
    """
    pool = distributed(cloud, ["vm1", "vm2"], 4, forwarding, drain_timeout=2)
    assert pool["directors"] == [HOSTS[0]]
    if forwarding != "nat":
        cloud.hold("vm3", pool["address"])
    path = f"/pools/{pool['id']}/members"
    with Load.flows(lab, pool["address"], 20, interval=0.2) as load:
        member = cloud.ok("POST", path, {"member": {"server": "vm3"}})["member"]
        wait_until("it is realized", lambda: cloud.realized(pool))
        assert cloud.show(pool)["directors"] == list(HOSTS)
        assert set(Load.count(lab, url(pool), 40)["servers"]) == {"vm1", "vm2", "vm3"}
        wait_until("the new host knows them", lambda: _talking_by(cloud, pool, HOSTS[1]) == 20)
        with shared(lab, pool, HOSTS[1]):
            time.sleep(5)  # two sweeps, and many lines of each connection
            assert _talking_by(cloud, pool, HOSTS[1]) == 20
        cloud.ok("DELETE", f"{path}/{member['id']}")
        wait_until("it has left", lambda: cloud.show(pool)["directors"] == [HOSTS[0]])
        assert set(Load.count(lab, url(pool), 20)["servers"]) == {"vm1", "vm2"}
    assert not harm(load.result), load.result


def _talking_by(cloud: Cloud, pool: dict[str, Any], host: str) -> int:
    """How many connections of the load a host knows."""
    known = cloud.ok("GET", f"/pools/{pool['id']}/flows?limit=1000")["flows"]
    return sum(one["director"] == host and one["port"] == ECHO_PORT for one in known)


@pytest.mark.requirement("D10")
@pytest.mark.parametrize(("version", "dead"), choose([(6, HOSTS[1])], [(4, HOSTS[0])]))
def test_the_death_of_a_host_breaks_no_connection_that_another_one_serves(
    lab: Lab, cloud: Cloud, version: int, dead: str
) -> None:
    """Whether they came by it or not; and the address has another host within three periods."""
    pool = distributed(cloud, ALL, version, monitor=TCP_MONITOR)
    wait_until("all are online", lambda: _healths(cloud, pool) == {"online"})
    (left,) = set(HOSTS) - {dead}
    served = {g.name for g in lab.guests if g.spec.home == left}
    with shared(lab, pool, dead), Load.flows(lab, pool["address"], 40, interval=0.3) as load:
        with unplugged(lab, dead, "lan", "mgmt"):
            route(lab, pool, left)
            time.sleep(5)
            result = Load.count(lab, url(pool), 20)
            assert (result["failed"], set(result["servers"])) == (0, served)
            wait_until("the other one announces", lambda: announcers(cloud, pool) == {left})
        wait_until("all are back", lambda: _healths(cloud, pool) == {"online"})
    assert not served & load.result["broken_on"].keys(), load.result


def _healths(cloud: Cloud, pool: dict[str, Any]) -> set[str]:
    return {member["health"] for member in cloud.members(pool).values()}


def _hosts_stats(cloud: Cloud, pool: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["host"]: one for one in cloud.stats(pool)["stats"]["hosts"]}


@pytest.mark.requirement("D11")
@pytest.mark.parametrize("scheduler", choose(["round_robin"], ["flow_hash"]))
def test_what_each_host_served_and_passed_on_adds_up_to_what_was_asked(
    lab: Lab, cloud: Cloud, scheduler: str
) -> None:
    pool = distributed(cloud, ALL, 4, scheduler=scheduler)
    first, second = HOSTS
    with shared(lab, pool, first):
        result = Load.count(lab, url(pool), 60)
        served = {lab.guest(name).spec.home: 0 for name in ALL}
        for name, count in result["servers"].items():
            served[lab.guest(name).spec.home] += count
        with Load.flows(lab, pool["address"], 20, interval=0.2) as load:
            wait_until("the other host has heard", lambda: _in_tables(cloud, pool) == {20})
            during = wait_until("loads show", lambda: _weighed(cloud, pool, scheduler))
    for name, count in load.result["servers"].items():
        served[lab.guest(name).spec.home] += count
    shown = _hosts_stats(cloud, pool)
    assert (shown[first]["served"], shown[first]["passed_on"]) == (served[first], served[second])
    assert (shown[second]["served"], shown[second]["passed_on"]) == (0, 0)
    assert sum(one["serving"] for one in during.values()) == 20
    assert shown[first]["packets_passed_on"] >= 4 * served[second]
    assert shown[second]["packets_served"] == 0, "they came by the other host"
    limits = {one["load_limit"] for one in during.values()}
    assert limits == ({None} if scheduler == "flow_hash" else {1000.0})
    assert (served[second] == 0) is (scheduler == "round_robin"), "below its limit it serves all"


def _weighed(cloud: Cloud, pool: dict[str, Any], scheduler: str) -> dict[str, dict[str, Any]]:
    """What hosts show once their loads, where these matter, are those of twenty connections."""
    shown = _hosts_stats(cloud, pool)
    loads = [one["load"] for one in shown.values()]
    wanted = [None, None] if scheduler == "flow_hash" else [20, 0]
    return shown if loads == wanted else {}


def _in_tables(cloud: Cloud, pool: dict[str, Any]) -> set[int]:
    """How many established connections of the load each host's table has."""
    return {_talking_by(cloud, pool, host) for host in HOSTS}


@pytest.fixture
def limited(lab: Lab) -> Iterator[None]:
    """Hosts that take ten connections, and pass further ones on."""
    configurations = {host: config_path(host.state) for host in map(lab.host, HOSTS)}
    before = {path: path.read_text() for path in configurations.values()}

    def restart(more: str) -> None:
        for host, path in configurations.items():
            path.write_text(before[path] + more)
            host.service("agent").stop()
            host.service("agent").start()

    restart(f"max_load = {LIMIT}\n")
    yield
    restart("")


def _answering_host(lab: Lab, pool: dict[str, Any]) -> str:
    """The host whose guest serves a new connection."""
    name = get(lab, pool)
    return lab.guest(name).spec.home if name else ""


@by_day("dr")
@pytest.mark.usefixtures("limited")
@pytest.mark.requirement("D3")
@pytest.mark.requirement("D5")
@pytest.mark.requirement("D6")
def test_a_host_serves_up_to_its_limit_and_passes_on_to_one_that_is_below_its_own(
    lab: Lab, cloud: Cloud, forwarding: str
) -> None:
    pool = distributed(cloud, ALL, 4, forwarding, scheduler="round_robin")
    first, second = HOSTS

    def served_by(host: str) -> None:
        wait_until(f"{host} serves", lambda: _answering_host(lab, pool) == host, seconds=10)

    with shared(lab, pool, first):
        served_by(first)
        with Load.flows(lab, pool["address"], 2 * LIMIT, interval=0.3) as begun:
            served_by(second)
            result = Load.count(lab, url(pool), 20)
            assert (result["failed"], result["servers"]) == (0, {"vm3": 10, "vm4": 10})
            with Load.flows(lab, pool["address"], 2 * LIMIT, interval=0.3) as more:
                served_by(first)
        served_by(first)
    assert [load.result["broken"] for load in (begun, more)] == [0, 0]
    assert set(begun.result["servers"]) == {"vm1", "vm2"}
    assert set(more.result["servers"]) == {"vm3", "vm4"}


@pytest.mark.usefixtures("limited")
@pytest.mark.requirement("D6")
def test_a_host_that_is_not_heard_gets_nothing_until_it_is_heard_again(
    lab: Lab, cloud: Cloud
) -> None:
    pool = distributed(cloud, ALL, 4, scheduler="round_robin")
    first, second = HOSTS
    agent = lab.host(second).service("agent")
    with shared(lab, pool, first), Load.flows(lab, pool["address"], 2 * LIMIT) as begun:
        wait_until("the other serves", lambda: _answering_host(lab, pool) == second)
        agent.kill()
        wait_until("it is dead", lambda: _answering_host(lab, pool) == first, seconds=8)
        assert set(Load.count(lab, url(pool), 10)["servers"]) == {"vm1", "vm2"}
        agent.start()
        wait_until("it is heard", lambda: _answering_host(lab, pool) == second)
    assert begun.result["broken"] == 0, begun.result


@pytest.mark.requirement("L9")
@pytest.mark.requirement("D8")
@pytest.mark.parametrize(
    ("forwarding", "version"),
    choose([("dr", 4)], [("dr", 6), ("tun", 4), ("tun", 6), ("nat", 4), ("nat", 6)]),
)
def test_random_changes_break_no_connection(
    lab: Lab, cloud: Cloud, forwarding: str, version: int
) -> None:
    pool = distributed(cloud, ALL, version, forwarding)
    with Load.flows(lab, pool["address"], 60, interval=0.2) as load:
        change_at_random(cloud, pool, [0, 1, 5], count(25, 1000))
    assert not harm(load.result), load.result
