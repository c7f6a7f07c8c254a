# SPDX-License-Identifier: Apache-2.0
"""NAT through the director: by one interface, for members that route their answers by it or that
know nothing of it.
"""

import contextlib
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cloudlb.lab.host import Host
from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import HOSTS, UPLINK
from cloudlb.lab.traffic import Load
from tests.lab.control import (
    PORTS,
    TCP_MONITOR,
    Cloud,
    ask_udp,
    exchange_bodies,
    get,
    is_refused,
    url,
    wait_until,
)
from tests.lab.test_nat import own_address, translated
from tests.soak import choose, count

pytestmark = pytest.mark.usefixtures("fresh_ports")
ALL = ["vm1", "vm2", "vm3", "vm4"]
BOTH = ["vm1", "vm3"]
FAMILIES = pytest.mark.parametrize("version", [4, 6])
CHOSEN = pytest.mark.parametrize("version", choose([6], [4]))
"""For tests that take long: by both ways there are all kinds each day."""
CLIENT, DIRECTOR = (next(s for s in HOSTS if s.name == n) for n in ("client", "director"))


KERNEL = {
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/sys/net/ipv6/conf/all/forwarding": "1",
    "/proc/sys/net/ipv4/conf/all/send_redirects": "0",
    f"/proc/sys/net/ipv4/conf/{UPLINK}/send_redirects": "0",
}
"""A director by which guests reach others forwards packets, back to the link they came from."""
NO_REDIRECTS = """table ip6 redirects {
  chain output { type filter hook output priority 0; icmpv6 type nd-redirect drop; }
}
"""
"""It does not tell them of the shorter way; with IPv6 no setting keeps a kernel from that."""


@pytest.fixture(params=["director", "full"])
def way(request: pytest.FixtureRequest, lab: Lab) -> Iterator[str]:
    """How a pool is translated, and guests that are ready for it."""
    with contextlib.ExitStack() as stack:
        if request.param == "director":
            stack.enter_context(forwarding(lab.host("director")))
            for address in (DIRECTOR.lan4, DIRECTOR.lan6):
                stack.enter_context(routed(lab, str(address)))
        yield request.param


@contextlib.contextmanager
def forwarding(host: Host) -> Iterator[None]:
    """A director by which guests reach others."""
    before = {path: host.run(["cat", path]).stdout.strip() for path in KERNEL}
    _set(host, KERNEL)
    host.run(["nft", "-f", "-"], input=NO_REDIRECTS)
    yield
    host.run(["nft", "delete", "table", "ip6", "redirects"])
    _set(host, before)


@contextlib.contextmanager
def routed(lab: Lab, gateway: str) -> Iterator[None]:
    """Guests reach the client by the director, as LVS' NAT wants it."""
    is_six = ":" in gateway
    target = f"{CLIENT.lan6}/128" if is_six else f"{CLIENT.lan4}/32"
    command = ["ip", "-6" if is_six else "-4", "route"]
    for guest in lab.guests:
        guest.run([*command, "add", target, "via", gateway])
    yield
    for guest in lab.guests:
        guest.run([*command, "del", target])


def _set(host: Host, values: Mapping[str, str]) -> None:
    for path, value in values.items():
        host.run(["sh", "-c", f"echo {value} >{path}"])


@FAMILIES
@pytest.mark.requirement("L1")
@pytest.mark.requirement("L19")
@pytest.mark.requirement("L23")
def test_guests_share_requests_without_the_address_and_at_another_port(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    ports = [{"protocol": "tcp", "port": 8080}]
    pool = translated(cloud, ALL, version, port=80, ports=ports, translation=way)
    result = Load.count(lab, url(pool)[:-1] + ":8080/", 60)
    assert (result["failed"], result["order"]) == (0, ALL * 15)
    for guest in lab.guests:
        assert pool["address"] not in guest.run(["ip", "address"]).stdout


@CHOSEN
@pytest.mark.requirement("L1")
def test_a_guest_sees_what_the_way_says_of_the_client(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    pool = translated(cloud, ["vm3"], version, translation=way)
    said = json.loads(lab.host("client").run(["curl", "-s", "-m", "5", url(pool)]).stdout)
    client = CLIENT.lan6 if version == 6 else CLIENT.lan4
    assert said == {
        "server": "vm3",
        "address": own_address(lab, "vm3", version),
        "client": str(client) if way == "director" else pool["address"],
    }


@CHOSEN
@pytest.mark.requirement("L1")
@pytest.mark.requirement("L12")
def test_datagrams_are_shared_and_answered_also_in_parts(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    pool = translated(cloud, BOTH, version, ports=PORTS, translation=way)
    assert ask_udp(lab, pool, 10) == BOTH * 5
    program = (
        "import socket,sys\n"
        "f=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1],7))\n"
        "for size in (10,1400,3000,9000):\n"
        "    sent=bytes(65+n%26 for n in range(size)); s.send(sent)\n"
        "    assert s.recv(65535).endswith(sent), size\n"
    )
    lab.host("client").run([sys.executable, "-c", program, pool["address"]])


@CHOSEN
@pytest.mark.requirement("L1")
def test_large_bodies_arrive_as_they_were_sent(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    """More than a frame at once: checksums and segments are left to the devices."""
    pool = translated(cloud, ["vm2"], version, translation=way)
    exchange_bodies(lab, pool)


@FAMILIES
@pytest.mark.requirement("L12")
def test_a_guests_icmp_error_reaches_the_clients_socket(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    ports = [{"protocol": "udp", "port": 9}]
    pool = translated(cloud, ["vm1"], version, ports=ports, translation=way)
    assert is_refused(lab, pool, 9)


@CHOSEN
@pytest.mark.requirement("L13")
def test_probes_find_a_guest_that_hangs(lab: Lab, cloud: Cloud, way: str, version: int) -> None:
    ports = [{"protocol": "tcp", "port": 8080}]
    fields = {"port": 80, "ports": ports, "monitor": TCP_MONITOR, "translation": way}
    pool = translated(cloud, BOTH, version, **fields)
    both = {"vm1": "online", "vm3": "online"}
    wait_until("both are online", lambda: _health(cloud, pool) == both)
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        wait_until("it is offline", lambda: _health(cloud, pool) == both | {"vm1": "offline"})
        result = Load.count(lab, url(pool)[:-1] + ":8080/", 10)
        assert (result["failed"], result["servers"]) == (0, {"vm3": 10})
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")
    wait_until("it is back", lambda: _health(cloud, pool) == both)


def _health(cloud: Cloud, pool: dict[str, Any]) -> dict[str, str]:
    return {name: m["health"] for name, m in cloud.members(pool).items()}


@CHOSEN
@pytest.mark.requirement("L9")
def test_random_changes_break_no_connection(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    rng = random.Random(version)
    fields = {"scheduler": "weighted_round_robin", "translation": way}
    pool = translated(cloud, ALL, version, **fields)
    ids = [member["id"] for member in cloud.members(pool).values()]
    with Load.flows(lab, pool["address"], 60, interval=0.2) as load:
        for _ in range(count(25, 1000)):
            path = f"/pools/{pool['id']}/members/{rng.choice(ids)}"
            cloud.ok("PATCH", path, {"member": {"weight": rng.choice([0, 1, 5])}})
    assert not harm(load.result), load.result


@pytest.mark.requirement("L9")
def test_a_removed_member_drains(lab: Lab, cloud: Cloud, way: str) -> None:
    pool = translated(cloud, BOTH, translation=way)
    member = cloud.members(pool)["vm1"]
    with Load.flows(lab, pool["address"], 4, interval=0.2) as load:
        cloud.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
        wait_until("new requests go elsewhere", lambda: get(lab, pool) == "vm3")
        assert Load.count(lab, url(pool), 6)["servers"] == {"vm3": 6}
        assert cloud.members(pool)["vm1"]["removing"]
    assert not harm(load.result), load.result
    assert load.result["servers"] == {"vm1": 2, "vm3": 2}


@pytest.mark.requirement("L18")
def test_connections_outlive_the_directors_agent(lab: Lab, cloud: Cloud, way: str) -> None:
    pool = translated(cloud, BOTH, translation=way)
    agent = lab.host("director").service("agent")
    flows = Load.flows(lab, pool["address"], 10, interval=0.2)
    with Load.requests(lab, url(pool)) as load, flows:
        agent.kill()
        time.sleep(1)
        agent.start()
        lab.wait_agent("director")
        time.sleep(3)
    for result in (load.result, flows.result):
        assert not harm(result), result


@CHOSEN
@pytest.mark.requirement("L2")
def test_connections_keep_the_way_in_which_they_began(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    """At the edge, and with answers that are routed by the director there."""
    other = "edge" if way == "full" else "full"
    pool = translated(cloud, BOTH, version, translation=way)
    loads = []
    with contextlib.ExitStack() as stack:
        for next_way in (other, way, other):
            load = Load.flows(lab, pool["address"], 6, interval=0.2)
            loads.append(stack.enter_context(load))
            cloud.ok("PATCH", f"/pools/{pool['id']}", {"pool": {"translation": next_way}})
            wait_until("it is realized", lambda: cloud.realized(pool))
            assert Load.count(lab, url(pool), 6)["failed"] == 0
    for load in loads:
        assert not harm(load.result), load.result


@CHOSEN
@pytest.mark.requirement("L16")
def test_counters_agree_with_what_the_client_did(
    lab: Lab, cloud: Cloud, way: str, version: int
) -> None:
    pool = translated(cloud, ["vm1", "vm4"], version, translation=way)
    assert Load.count(lab, url(pool), 20)["failed"] == 0
    for member in cloud.stats(pool)["stats"]["members"]:
        assert member["connections"] == 10
        assert member["packets_in"] > 10 * 4
        assert member["packets_out"] > 10 * 3
        assert member["bytes_out"] > member["packets_out"] * 54
