# SPDX-License-Identifier: Apache-2.0
"""Members follow their servers: probes, servers that go and come, servers named by address."""

import time

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, get, url, wait_until


def _health(cloud: Cloud, pool: dict, name: str) -> str:  # type: ignore[type-arg]
    return str(cloud.members(pool)[name]["health"])


@pytest.mark.parametrize("version", [4, 6])
def test_a_member_whose_server_hangs_gets_nothing_new_and_comes_back_by_itself(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm1", "vm3"], version, monitor=TCP_MONITOR)
    wait_until("both are online", lambda: _health(cloud, pool, "vm1") == "online")
    bound = TCP_MONITOR["interval"] * TCP_MONITOR["fall"] + 1
    virsh(lab.host("compute1"), "suspend", "vm1")
    time.sleep(bound)
    try:
        result = Load.count(lab, url(pool), 20)
        assert (result["failed"], result["servers"]) == (0, {"vm3": 20})
        assert "TCPSynRetrans" not in result["resent"], "a SYN went to the dead member"
        wait_until("the API knows", lambda: _health(cloud, pool, "vm1") == "offline")
        assert "no answer" in cloud.members(pool)["vm1"]["health_reason"]
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")
    wait_until("it serves again", lambda: get(lab, pool) == "vm1")
    wait_until("the API knows", lambda: _health(cloud, pool, "vm1") == "online")


def test_a_member_that_refuses_connections_is_offline(lab: Lab, cloud: Cloud) -> None:
    monitor = TCP_MONITOR | {"port": 9}
    pool = cloud.pool(["vm1"], monitor=monitor)
    wait_until("it is offline", lambda: _health(cloud, pool, "vm1") == "offline")
    wait_until(
        "that is the reason", lambda: "port 9" in cloud.members(pool)["vm1"]["health_reason"]
    )


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_probes_take_the_path_of_the_traffic(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = cloud.pool(["vm1", "vm3"], version, monitor=TCP_MONITOR | {"type": "icmp"})
    wait_until("both are online", lambda: _health(cloud, pool, "vm3") == "online")
    length = 128 if version == 6 else 32
    address = f"{pool['address']}/{length}"
    lab.guest("vm3").run(["ip", "address", "del", address, "dev", "eth0"])
    wait_until(
        "without the pool's address it is offline, though it answers at its own",
        lambda: _health(cloud, pool, "vm3") == "offline",
    )
    own = lab.guest("vm3").spec
    lab.host("client").run(["ping", "-c", "1", str(own.ipv6 if version == 6 else own.ipv4)])
    assert Load.count(lab, url(pool), 6)["servers"] == {"vm1": 6}


def test_a_server_that_is_off_waits_and_serves_once_it_runs(lab: Lab, cloud: Cloud) -> None:
    guest = lab.guest("vm2")
    guest.destroy()
    wait_until("the control plane knows", lambda: _is_off(cloud, "vm2"))
    pool = cloud.pool(["vm1"], monitor=TCP_MONITOR)
    cloud.change(pool, "POST", "/members", {"member": {"server": "vm2"}})
    assert cloud.members(pool)["vm2"]["placement"] == "waiting"
    assert Load.count(lab, url(pool), 4)["servers"] == {"vm1": 4}
    guest.start()
    cloud.hold("vm2", pool["address"])
    wait_until("vm2 serves", lambda: get(lab, pool) == "vm2")
    assert cloud.members(pool)["vm2"]["placement"] == "hosted"


def _is_off(cloud: Cloud, name: str) -> bool:
    """Asked by a pool that is thrown away, since servers have no route of their own."""
    probe = cloud.pool([])
    member = cloud.ok("POST", f"/pools/{probe['id']}/members", {"member": {"server": name}})
    cloud.request("DELETE", f"/pools/{probe['id']}")
    return bool(member["member"]["placement"] == "waiting")


def test_a_member_can_be_named_by_an_address_of_its_server(lab: Lab, cloud: Cloud) -> None:
    address = str(lab.guest("vm3").spec.ipv4)
    lab.host("client").run(["ping", "-c", "1", address])
    lab.guest("vm3").run(["ping", "-c", "1", "-W", "2", "10.60.0.2"])
    pool = cloud.pool([])
    answer = wait_until(
        "the guest's address is known",
        lambda: _member_by_address(cloud, pool, address),
    )
    assert answer["server_name"] == "vm3"


def _member_by_address(cloud: Cloud, pool: dict, address: str) -> dict | None:  # type: ignore[type-arg]
    path = f"/pools/{pool['id']}/members"
    status, answer = cloud.request("POST", path, {"member": {"address": address}})
    return answer["member"] if status < 300 else None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"server": "vm99"}, 400, ["server", "vm99"]),
        ({"address": "10.60.0.250"}, 400, ["address", "10.60.0.250"]),
        ({"server": "vm1", "port": 8080}, 400, ["port translation", "8080", "nat"]),
        ({"server": "vm1", "port": 0}, 400, ["port"]),
        ({"server": "vm1", "weight": -1}, 400, ["weight"]),
    ],
)
def test_a_wrong_member_is_refused_with_the_reason(
    cloud: Cloud,
    body: dict,
    status: int,
    words: list[str],  # type: ignore[type-arg]
) -> None:
    pool = cloud.pool(["vm4"])
    answered, problem = cloud.request("POST", f"/pools/{pool['id']}/members", {"member": body})
    assert answered == status, problem
    for word in words:
        assert word in problem["faultstring"], problem


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"address": "10.60.0.7"}, ["10.60.0.7", "offers", "10.60.0.128/26"]),
        ({"address": "192.0.2.1"}, ["192.0.2.1"]),
        ({"address": "10.60.0.11"}, ["10.60.0.11"]),
        ({"data_plane": "nix"}, ["data_plane", "dr"]),
        ({"directors": ["compute1"]}, ["compute1", "director"]),
        ({"ports": []}, ["ports"]),
        ({"ports": [{"protocol": "sctp", "port": 80}]}, ["protocol"]),
    ],
)
def test_a_wrong_pool_is_refused_with_the_reason(
    cloud: Cloud,
    fields: dict,
    words: list[str],  # type: ignore[type-arg]
) -> None:
    spec = {
        "network_id": cloud.network,
        "name": "wrong",
        "ports": [{"protocol": "tcp", "port": 80}],
    }
    status, problem = cloud.request("POST", "/pools", {"pool": spec | fields})
    assert 400 <= status < 500, problem
    for word in words:
        assert word in problem["faultstring"], problem
