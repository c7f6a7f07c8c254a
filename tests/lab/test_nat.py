# SPDX-License-Identifier: Apache-2.0
"""Edge NAT: guests serve pools without having their addresses, or listening on their ports."""

import json
import random
import time
from typing import Any

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import HOSTS
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
from tests.lab.wire import Repeats, given_client_ports
from tests.soak import choose, count

pytestmark = pytest.mark.usefixtures("fresh_ports")
ALL = ["vm1", "vm2", "vm3", "vm4"]
FAMILIES = pytest.mark.parametrize("version", [4, 6])
CLIENT = next(spec for spec in HOSTS if spec.name == "client")


def own_address(lab: Lab, name: str, version: int) -> str:
    """What a guest calls its own."""
    spec = lab.guest(name).spec
    return str(spec.ipv6 if version == 6 else spec.ipv4)


def translated(
    cloud: Cloud, names: list[str], version: int = 4, port: int | None = None, **fields: Any
) -> dict[str, Any]:
    """A pool of guests that do not get its address; their own ones are known."""
    members = [{"server": name, "port": port} for name in names]
    pool = cloud.pool([], version, data_plane="nat", members=members, **fields)
    for name in names:
        _make_known(cloud.lab, name, version)
    wait_until("the guests' addresses are known", lambda: _are_known(cloud, pool, version))
    wait_until("the hosts know them", lambda: cloud.realized(pool))
    return pool


def _make_known(lab: Lab, name: str, version: int) -> None:
    """Have a guest ask for a neighbour, as every guest does sooner or later."""
    lab.guest(name).run(["ip", "neigh", "flush", "dev", "eth0"])
    client = CLIENT.lan6 if version == 6 else CLIENT.lan4
    lab.guest(name).run(["ping", "-c", "1", "-W", "5", str(client)])


def _are_known(cloud: Cloud, pool: dict[str, Any], version: int) -> bool:
    return all(
        own_address(cloud.lab, name, version) in member["addresses"]
        for name, member in cloud.members(pool).items()
    )


def _health(cloud: Cloud, pool: dict[str, Any]) -> dict[str, str]:
    return {name: m["health"] for name, m in cloud.members(pool).items()}


@FAMILIES
@pytest.mark.requirement("L1")
@pytest.mark.requirement("L4")
@pytest.mark.requirement("L15")
def test_guests_share_requests_without_the_address_and_at_another_port(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    ports = [{"protocol": "tcp", "port": 8080}]
    pool = translated(cloud, ALL, version, port=80, ports=ports)
    result = Load.count(lab, url(pool)[:-1] + ":8080/", 60)
    assert (result["failed"], result["order"]) == (0, ALL * 15)
    for guest in lab.guests:
        assert pool["address"] not in guest.run(["ip", "address"]).stdout


@FAMILIES
@pytest.mark.requirement("L1")
def test_a_guest_sees_the_client_and_its_own_address(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = translated(cloud, ["vm3"], version)
    said = json.loads(lab.host("client").run(["curl", "-s", "-m", "5", url(pool)]).stdout)
    client = CLIENT.lan6 if version == 6 else CLIENT.lan4
    assert said == {
        "server": "vm3",
        "address": own_address(lab, "vm3", version),
        "client": str(client),
    }


@FAMILIES
@pytest.mark.requirement("L1")
def test_datagrams_are_shared_and_answered_from_the_address(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = translated(cloud, ["vm1", "vm3"], version)
    assert ask_udp(lab, pool, 10) == ["vm1", "vm3"] * 5


@FAMILIES
@pytest.mark.requirement("L15")
def test_large_bodies_arrive_as_they_were_sent(lab: Lab, cloud: Cloud, version: int) -> None:
    """More than a frame at once: checksums and segments are left to the devices."""
    pool = translated(cloud, ["vm2"], version)
    exchange_bodies(lab, pool)


@FAMILIES
@pytest.mark.requirement("L12")
def test_a_guests_icmp_error_reaches_the_clients_socket(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    """The client's kernel gives it to the socket whose packet it quotes."""
    pool = translated(cloud, ["vm1"], version, ports=[{"protocol": "udp", "port": 9}])
    assert is_refused(lab, pool, 9)


@pytest.mark.requirement("L13")
@pytest.mark.parametrize(
    ("version", "kind"), choose([(4, "tcp"), (6, "icmp")], [(6, "tcp"), (4, "icmp")])
)
def test_probes_find_a_guest_that_hangs(lab: Lab, cloud: Cloud, version: int, kind: str) -> None:
    ports = [{"protocol": "tcp", "port": 8080}]
    monitor = TCP_MONITOR | {"type": kind}
    pool = translated(cloud, ["vm1", "vm3"], version, port=80, ports=ports, monitor=monitor)
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


@FAMILIES
def test_a_guest_is_reached_at_its_own_address_at_the_same_time(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    """From different ports: the guest cannot tell two connections of one port from each other."""
    pool = translated(cloud, ["vm1"], version)
    own = {"address": own_address(lab, "vm1", version)}
    with (
        given_client_ports(lab, 10_000, 10_999),
        Load.flows(lab, pool["address"], 20, interval=0.1) as load,
        given_client_ports(lab, 12_000, 31_999),
    ):
        direct = Load.count(lab, url(own), 200)
    assert (direct["failed"], direct["servers"]) == (0, {"vm1": 200}), direct
    assert not harm(load.result), load.result
    assert load.result["servers"] == {"vm1": 20}


@FAMILIES
@pytest.mark.requirement("L9")
def test_changes_of_weights_break_no_connection(lab: Lab, cloud: Cloud, version: int) -> None:
    rng = random.Random(version)
    pool = translated(cloud, ALL, version, scheduler="weighted_round_robin")
    ids = [member["id"] for member in cloud.members(pool).values()]
    with Load.flows(lab, pool["address"], 60, interval=0.2) as load:
        for _ in range(count(25, 1000)):
            path = f"/pools/{pool['id']}/members/{rng.choice(ids)}"
            cloud.ok("PATCH", path, {"member": {"weight": rng.choice([0, 1, 5])}})
    assert not harm(load.result), load.result


@pytest.mark.requirement("L9")
def test_a_removed_member_drains(lab: Lab, cloud: Cloud) -> None:
    pool = translated(cloud, ["vm1", "vm3"])
    member = cloud.members(pool)["vm1"]
    with Load.flows(lab, pool["address"], 4, interval=0.2) as load:
        cloud.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
        wait_until("new requests go elsewhere", lambda: get(lab, pool) == "vm3")
        assert Load.count(lab, url(pool), 6)["servers"] == {"vm3": 6}
        assert cloud.members(pool)["vm1"]["removing"]
    assert not harm(load.result), load.result
    assert load.result["servers"] == {"vm1": 2, "vm3": 2}


@pytest.mark.requirement("L18")
def test_sessions_outlive_the_agent_of_their_host(lab: Lab, cloud: Cloud) -> None:
    pool = translated(cloud, ["vm1"])
    agent = lab.host("compute1").service("agent")
    repeats = Repeats(lab)
    with Load.flows(lab, pool["address"], 10, interval=0.2) as load:
        agent.kill()
        agent.start()
        lab.wait_agent("compute1")
        time.sleep(1)
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result


@pytest.mark.requirement("L2")
def test_pools_of_both_data_planes_share_guests(lab: Lab, cloud: Cloud) -> None:
    """The mode is the pool's choice; a guest holds the one address and not the other."""
    by_nat, by_dr = translated(cloud, ["vm1", "vm3"]), cloud.pool(["vm1", "vm3"])
    for pool in (by_nat, by_dr):
        assert [get(lab, pool) for _ in range(4)] == ["vm1", "vm3"] * 2


@FAMILIES
@pytest.mark.requirement("L16")
def test_counters_agree_with_what_the_client_did(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = translated(cloud, ["vm1", "vm4"], version, ports=PORTS)
    assert Load.count(lab, url(pool), 20)["failed"] == 0
    stats = cloud.stats(pool)["stats"]
    for member in stats["members"]:
        assert member["connections"] == 10
        assert member["packets_in"] > 10 * 4
        assert member["packets_out"] > 10 * 3
        assert member["bytes_out"] > member["packets_out"] * 54


@FAMILIES
@pytest.mark.requirement("L1")
def test_a_client_uses_a_port_for_one_pool_right_after_another(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    """The guests see the port come back before they have forgotten it."""
    pools = [translated(cloud, ["vm1", "vm4"], version) for _ in range(2)]
    with given_client_ports(lab, 8_000, 8_039):
        for pool in pools * 2:
            result = Load.count(lab, url(pool), 20)
            assert (result["failed"], result["requests"]) == (0, 20), result
