# SPDX-License-Identifier: Apache-2.0
"""Real clients reach real guests through a pool."""

import collections
import math
import time
from collections.abc import Iterator

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import HOSTS, LAN_NETWORK6
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, ask_udp, ask_udp_from, get, url
from tests.soak import choose

ALL = ["vm1", "vm2", "vm3", "vm4"]
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@FAMILIES
@pytest.mark.requirement("L4")
@pytest.mark.requirement("L1")
def test_requests_go_round_robin_in_the_order_of_the_members(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(ALL, version)
    order = Load.count(lab, url(pool), 40)["order"]
    assert order == ALL * 10


@FAMILIES
@pytest.mark.requirement("L1")
@pytest.mark.requirement("L4")
def test_datagrams_of_new_flows_go_round_robin(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = cloud.pool(["vm1", "vm3"], version)
    assert ask_udp(lab, pool, 10) == ["vm1", "vm3"] * 5


@pytest.mark.requirement("L4")
def test_concurrent_connections_are_shared_exactly(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(ALL)
    result = Load.count(lab, url(pool), 400, at_once=8)
    assert result["failed"] == 0
    assert set(result["servers"].values()) == {100}


@FAMILIES
@pytest.mark.requirement("L15")
def test_a_guest_with_nothing_but_the_address_serves_large_bodies(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm2"], version)
    big = f"{url(pool)}bytes/5000000"
    measure = ["curl", "-s", "-m", "40", "-o", "/dev/null", "-w", "%{size_download}"]
    done = lab.host("client").run([*measure, big])
    assert done.stdout == "5000000"


@pytest.mark.requirement("L8")
def test_source_hash_moves_only_the_clients_that_a_new_member_takes(
    lab: Lab, cloud: Cloud
) -> None:
    client = lab.host("client")
    sources = [f"10.60.0.{n}" for n in range(30, 90)]
    for source in sources:
        client.run(["ip", "address", "replace", f"{source}/32", "dev", "eth0"])
    pool = cloud.pool(["vm1", "vm2", "vm3"], scheduler="source_hash")

    def mapping() -> dict[str, str]:
        return {source: get(lab, pool, source) for source in sources}

    before = mapping()
    assert mapping() == before, "a client's member changed without a change of the pool"
    assert set(before.values()) == {"vm1", "vm2", "vm3"}
    cloud.hold("vm4", pool["address"])
    cloud.change(pool, "POST", "/members", {"member": {"server": "vm4"}})
    during = mapping()
    moved = {source for source in sources if during[source] != before[source]}
    assert moved
    assert {during[source] for source in moved} == {"vm4"}
    assert len(moved) <= len(sources) / 4 * 1.8, "about a quarter of the clients may move"
    member = cloud.members(pool)["vm4"]
    cloud.change(pool, "PATCH", f"/members/{member['id']}", {"member": {"weight": 0}})
    after = mapping()
    assert {s for s in sources if after[s] != during[s]} == moved
    for source in sources:
        client.run(["ip", "address", "del", f"{source}/32", "dev", "eth0"])


@pytest.mark.requirement("L24")
def test_the_default_weight_is_one_and_weight_zero_gets_nothing_new(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(["vm1", "vm3"])
    assert [m["weight"] for m in cloud.members(pool).values()] == [1, 1]
    member = cloud.members(pool)["vm3"]
    cloud.change(pool, "PATCH", f"/members/{member['id']}", {"member": {"weight": 0}})
    assert Load.count(lab, url(pool), 10)["servers"] == {"vm1": 10}


@pytest.mark.requirement("L24")
def test_clients_are_shared_in_proportion_to_the_weights(
    lab: Lab, cloud: Cloud, many_clients: list[str]
) -> None:
    """Each client goes where its hash says, so that shares vary like draws: within 5 sigma."""
    pool = cloud.pool([], 6, scheduler="source_hash")
    for name, weight in (("vm1", 1), ("vm3", 3)):
        body = {"member": {"server": name, "weight": weight}}
        cloud.change(pool, "POST", "/members", body)
        cloud.hold(name, pool["address"])
    shares = collections.Counter(ask_udp_from(lab, pool, many_clients))
    count = len(many_clients)
    assert sum(shares.values()) == count
    assert abs(shares["vm3"] - count * 3 / 4) < 5 * math.sqrt(count * 3 / 16), shares


@pytest.fixture
def many_clients(lab: Lab) -> Iterator[list[str]]:
    """Addresses of the client, as many as there would be clients."""
    addresses = [str(LAN_NETWORK6[0x10000 + n]) for n in range(400)]

    def change(verb: str, options: str = "") -> None:
        lines = [f"address {verb} {a}/128 dev eth0{options}" for a in addresses]
        lab.host("client").run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")

    change("add", " nodad")
    yield addresses
    change("del")


@FAMILIES
@pytest.mark.requirement("L16")
def test_counters_agree_with_what_the_client_did(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = cloud.pool(["vm1", "vm4"], version)
    Load.count(lab, url(pool), 20)
    with Load.flows(lab, pool["address"], 6, interval=0.2) as load:
        stats = cloud.stats(pool)["stats"]
        time.sleep(0.5)
    assert not harm(load.result), load.result
    by_name = {m["name"]: m for m in stats["members"]}
    assert {n: m["connections"] for n, m in by_name.items()} == {"vm1": 13, "vm4": 13}
    assert {n: m["active"] for n, m in by_name.items()} == {"vm1": 3, "vm4": 3}
    assert stats["connections"] == 26
    for member in by_name.values():
        assert member["packets_in"] > 13 * 4
        assert member["bytes_in"] > member["packets_in"] * 54
        assert member["packets_out"] > 13 * 3
        assert member["bytes_out"] > member["packets_out"] * 54
    assert stats["missing"] == []


@FAMILIES
@pytest.mark.requirement("L16")
def test_packets_count_as_they_are_on_the_link(lab: Lab, cloud: Cloud, version: int) -> None:
    """A guest leaves it to others to cut what it sends: its frames are larger than packets."""
    pool = cloud.pool(["vm1"], version)
    lab.host("client").run(["curl", "-s", "-o", "/dev/null", f"{url(pool)}bytes/5000000"])
    stats = cloud.stats(pool)["stats"]
    assert stats["bytes_out"] > 5_000_000
    assert 5_000_000 / 1500 < stats["packets_out"] < 5_000_000 / 1000


@pytest.mark.parametrize("version", choose([6], [4]))
@pytest.mark.parametrize(
    ("scheduler", "first"),
    [("round_robin", 20100), ("least_connections", 20200), ("maglev", 20300)],
)
def test_a_connection_goes_where_it_was_said_to(
    lab: Lab, cloud: Cloud, version: int, scheduler: str, first: int
) -> None:
    """Each from ports of its own, that the kernel gives nobody and keeps for a minute."""
    ports = range(first + 10 * version, first + 10 * version + 6)
    pool = cloud.pool(["vm1", "vm4"], version, scheduler=scheduler)
    (host,) = [each for each in HOSTS if each.name == "client"]
    client = host.lan4 if version == 4 else host.lan6
    path = f"/pools/{pool['id']}"
    for port in ports:
        packet = f"client={client}&client_port={port}&port=80"
        said = cloud.ok("GET", f"{path}/explain?{packet}")["explanation"]
        answer = lab.host("client").run(
            ["curl", "-sg", "--local-port", str(port), "--max-time", "10", url(pool)]
        )
        assert said["member_name"] in answer.stdout, said
    flows = cloud.ok("GET", f"{path}/flows")["flows"]
    assert {flow["client_port"] for flow in flows} == set(ports)


def test_a_closed_port_of_the_address_does_not_reach_the_director(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1"])
    director = lab.host("director")
    listener = director.popen(["busybox", "nc", "-ll", "-p", "2222", "-e", "echo", "hello"])
    try:
        done = lab.host("client").run(
            ["curl", "-s", "-m", "2", f"http://{pool['address']}:2222/"], check=False
        )
        assert done.returncode == 28, "a port that is no service must not answer"
    finally:
        listener.kill()
        listener.wait()


def test_the_address_answers_pings(lab: Lab, cloud: Cloud) -> None:
    for version in (4, 6):
        pool = cloud.pool(["vm1"], version)
        lab.host("client").run(["ping", "-c", "2", "-i", "0.2", "-W", "2", pool["address"]])


def test_two_pools_on_the_same_guests_do_not_disturb_each_other(lab: Lab, cloud: Cloud) -> None:
    first, second = cloud.pool(["vm1", "vm2"]), cloud.pool(["vm2", "vm3"])
    seen = collections.Counter(get(lab, pool) for pool in (first, second) * 4)
    assert seen == {"vm1": 2, "vm2": 4, "vm3": 2}
