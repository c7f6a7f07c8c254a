# SPDX-License-Identifier: Apache-2.0
"""Traffic goes on while parts die, come back, and pools change."""

import time

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.traffic import Load
from tests.lab.churn import change_at_random
from tests.lab.control import Cloud, get, url, wait_agent_without_conductor, wait_until
from tests.lab.wire import Repeats, make_known
from tests.soak import choose, count

ALL = ["vm1", "vm2", "vm3", "vm4"]
FAMILIES = pytest.mark.parametrize("version", [4, 6])
WEIGHTS = {"round_robin": [0, 1], "source_hash": [0, 1, 5]}
CONDUCTOR_SWEEP = 5
CONNECTION_SWEEP = 2
"""Seconds between two looks for what is over."""


def _restart(lab: Lab, host: str, name: str) -> None:
    lab.host(host).service(name).start()


@pytest.mark.requirement("L18")
@pytest.mark.parametrize("host", ["director", "compute1"])
def test_no_request_fails_while_an_agent_is_killed_and_started(
    lab: Lab, cloud: Cloud, host: str
) -> None:
    pool = cloud.pool(ALL)
    agent = lab.host(host).service("agent")
    repeats = Repeats(lab)
    with Load.requests(lab, url(pool)) as load, Load.flows(lab, pool["address"], 20) as flows:
        time.sleep(1)
        agent.kill()
        time.sleep(1)
        agent.start()
        lab.wait_agent(host)
        time.sleep(1)
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert not harm(flows.result), flows.result
    assert set(load.result["servers"]) == set(ALL)


@pytest.mark.requirement("L18")
def test_an_agent_that_starts_without_a_conductor_keeps_what_is_there(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(ALL)
    conductor, agent = (
        lab.host("control").service("conductor"),
        lab.host("director").service("agent"),
    )
    repeats = Repeats(lab)
    conductor.kill()
    try:
        with Load.requests(lab, url(pool)) as load:
            agent.kill()
            agent.start()
            wait_agent_without_conductor(lab, "director")
            time.sleep(1)
    finally:
        conductor.start()
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert Load.count(lab, url(pool), 8)["order"].count("vm1") == 2


@pytest.mark.requirement("L18")
def test_what_became_stale_while_an_agent_was_dead_is_removed(lab: Lab, cloud: Cloud) -> None:
    kept, removed = cloud.pool(["vm1"]), cloud.pool(["vm1"])
    agent = lab.host("director").service("agent")
    agent.kill()
    try:
        status, _ = cloud.request("DELETE", f"/pools/{removed['id']}")
        assert status == 202
        assert cloud.show(removed)["removing"]
        assert get(lab, removed) == "vm1", "without an agent the data plane goes on"
    finally:
        agent.start()
    wait_until(
        "the pool is gone", lambda: cloud.request("GET", f"/pools/{removed['id']}")[0] == 404
    )
    lab.host("client").run(["ip", "neigh", "flush", "all"])
    ping = ["ping", "-c", "1", "-W", "2", removed["address"]]
    lab.guest("vm1").run(["ip", "address", "del", f"{removed['address']}/32", "dev", "eth0"])
    assert lab.host("client").run(ping, check=False).returncode != 0
    assert get(lab, kept) == "vm1"


@pytest.mark.requirement("L9")
@pytest.mark.parametrize(
    ("data_plane", "scheduler", "version"),
    choose(
        [("dr", "round_robin", 4), ("anycast_mac", "source_hash", 6)],
        [
            ("dr", "round_robin", 6),
            ("dr", "source_hash", 4),
            ("tun", "round_robin", 6),
            ("tun", "source_hash", 4),
            ("nat", "round_robin", 4),
            ("nat", "source_hash", 6),
        ],
    ),
)
def test_random_changes_of_a_pool_break_no_connection(
    lab: Lab, cloud: Cloud, data_plane: str, scheduler: str, version: int
) -> None:
    make_known(lab, cloud)
    members = [{"server": name} for name in ALL]
    holders = [] if data_plane == "nat" else ALL
    fields = {"data_plane": data_plane, "scheduler": scheduler, "members": members}
    pool = cloud.pool(holders, version, **fields)
    with Load.flows(lab, pool["address"], 60, interval=0.2) as load:
        change_at_random(cloud, pool, WEIGHTS[scheduler], count(25, 1000))
    assert not harm(load.result), load.result


@pytest.mark.requirement("L9")
def test_a_removed_member_drains_and_is_then_forgotten(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm3"])
    member = cloud.members(pool)["vm1"]
    with Load.flows(lab, pool["address"], 4) as load:
        cloud.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
        wait_until("new requests go elsewhere", lambda: get(lab, pool) == "vm3")
        assert Load.count(lab, url(pool), 6)["servers"] == {"vm3": 6}
        time.sleep(3)
        assert cloud.members(pool)["vm1"]["removing"]
    assert not harm(load.result), load.result
    assert load.result["servers"] == {"vm1": 2, "vm3": 2}


@pytest.mark.requirement("L9")
def test_a_drain_ends_at_its_deadline(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm3"], drain_timeout=2)
    member = cloud.members(pool)["vm1"]
    with Load.flows(lab, pool["address"], 4, interval=0.2) as load:
        cloud.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
        wait_until("the member is forgotten", lambda: "vm1" not in cloud.members(pool))
        time.sleep(1)
    assert load.result["servers"] == {"vm1": 2, "vm3": 2}
    assert load.result["broken_on"] == {"vm1": 2}, "they go to vm3, which resets them"
    assert all("Reset" in error for error in load.result["errors"]), load.result
    assert load.result["least"], "they lived until then"


@pytest.mark.requirement("L17")
def test_replacing_all_members_again_and_again_drops_no_request(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(ALL)
    sets = [["vm1", "vm2"], ["vm3", "vm4"], ["vm2", "vm3"], ALL]
    repeats = Repeats(lab)
    with Load.requests(lab, url(pool), at_once=4) as load:
        for turn in range(count(12, 300)):
            members = [{"server": name} for name in sets[turn % len(sets)]]
            cloud.ok("PUT", f"/pools/{pool['id']}/members?wait=20", {"members": members})
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert set(load.result["servers"]) == set(ALL)


@pytest.mark.requirement("L17")
def test_many_changes_at_once_end_in_the_last_one(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm2"], scheduler="source_hash")
    member = cloud.members(pool)["vm1"]
    path = f"/pools/{pool['id']}/members/{member['id']}"
    for weight in [*range(1, 30), 0]:
        cloud.ok("PATCH", path, {"member": {"weight": weight}})
    wait_until("the last change is realized", lambda: cloud.realized(pool))
    assert Load.count(lab, url(pool), 6)["servers"] == {"vm2": 6}


def test_a_dead_host_holds_no_deletion_but_its_address(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm3"])
    agent = lab.host("compute2").service("agent")
    agent.kill()
    try:
        cloud.ok("DELETE", f"/pools/{pool['id']}")
        wait_until(
            "the pool is gone without compute2",
            lambda: cloud.request("GET", f"/pools/{pool['id']}")[0] == 404,
        )
        status, answer = cloud.request(
            "POST",
            "/pools",
            {
                "pool": {
                    "network_id": cloud.network,
                    "name": "again",
                    "address": pool["address"],
                    "ports": [{"protocol": "tcp", "port": 80}],
                }
            },
        )
        assert status == 409, answer
        assert "compute2" in answer["faultstring"]
    finally:
        agent.start()
    lab.wait_agent("compute2")
    wait_until("compute2 has let go of it", lambda: _claims(cloud, pool["address"]))
    again = cloud.pool(["vm3"], address=pool["address"])
    assert get(lab, again) == "vm3"


def _claims(cloud: Cloud, address: str) -> bool:
    """Whether a pool can have the address; it is left free."""
    spec = {"network_id": cloud.network, "name": "again", "address": address}
    ports = [{"protocol": "tcp", "port": 80}]
    status, answer = cloud.request("POST", "/pools", {"pool": spec | {"ports": ports}})
    if status == 202:
        cloud.ok("DELETE", f"/pools/{answer['pool']['id']}?wait=20")
    return status == 202


@pytest.mark.requirement("L9")
def test_a_member_that_is_removed_while_its_director_is_silent_drains(
    lab: Lab, cloud: Cloud
) -> None:
    """For longer than its silence counts as life: what it then hears cuts no connection."""
    pool = cloud.pool(["vm1", "vm3"])
    path = f"/pools/{pool['id']}/members/{cloud.members(pool)['vm1']['id']}"
    with Load.flows(lab, pool["address"], 12) as load:
        lab.host("director").service("agent").kill()
        try:
            cloud.ok("DELETE", path)
            wait_until("it counts as dead", lambda: not cloud.host("director")["alive"])
            time.sleep(2 * CONDUCTOR_SWEEP)
            assert cloud.ok("GET", path)["member"]["removing"]
        finally:
            lab.host("director").service("agent").start()
        lab.wait_agent("director")
        wait_until("the removal arrives", lambda: cloud.realized(pool))
        time.sleep(2 * CONNECTION_SWEEP)
        assert cloud.stats(pool)["stats"]["active"] == 12
    assert not harm(load.result), load.result


@pytest.mark.requirement("L18")
def test_without_the_bus_writes_are_taken_agents_start_and_traffic_goes_on(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(ALL)
    control, agent = lab.host("control"), lab.host("director").service("agent")
    member = cloud.members(pool)["vm1"]
    repeats = Repeats(lab)
    control.service("rabbitmq").kill()
    try:
        with Load.requests(lab, url(pool)) as load:
            for weight in (0, 1, 0):
                path = f"/pools/{pool['id']}/members/{member['id']}"
                cloud.ok("PATCH", path, {"member": {"weight": weight}})
            assert cloud.stats(pool)["stats"]["missing"] == ["compute1", "compute2", "director"]
            agent.kill()
            agent.start()
            wait_agent_without_conductor(lab, "director")
            time.sleep(1)
        assert not harm(load.result), load.result
        assert not repeats.lost(load.result), load.result
        assert Load.count(lab, url(pool), 8)["order"].count("vm1") == 2
    finally:
        control.service("rabbitmq").start()
    wait_until("the change arrives", lambda: cloud.realized(pool), seconds=90)
    assert "vm1" not in Load.count(lab, url(pool), 6)["servers"]


def test_libvirtd_may_restart(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm3"], monitor={"type": "tcp"})
    libvirtd = lab.host("compute1").service("libvirtd")
    repeats = Repeats(lab)
    with Load.requests(lab, url(pool)) as load:
        libvirtd.kill()
        time.sleep(2)
        libvirtd.start()
        time.sleep(2)
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert set(load.result["servers"]) == {"vm1", "vm3"}
    lab.guest("vm1").destroy()
    try:
        wait_until(
            "its events are heard again",
            lambda: cloud.members(pool)["vm1"]["placement"] == "waiting",
        )
    finally:
        lab.guest("vm1").start()


@pytest.mark.requirement("L18")
def test_a_dead_member_stays_out_when_the_directors_agent_restarts(lab: Lab, cloud: Cloud) -> None:
    monitor = {"type": "tcp", "interval": 1, "timeout": 1, "rise": 2, "fall": 3}
    pool = cloud.pool(["vm1", "vm3"], monitor=monitor)
    wait_until("it is online", lambda: cloud.members(pool)["vm1"]["health"] == "online")
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        wait_until("it is offline", lambda: cloud.members(pool)["vm1"]["health"] == "offline")
        agent = lab.host("director").service("agent")
        with Load.requests(lab, url(pool)) as load:
            agent.kill()
            agent.start()
            lab.wait_agent("director")
            time.sleep(2)
        assert not harm(load.result), load.result
        assert "TCPSynRetrans" not in load.result["resent"], "a SYN went to the dead member"
        assert set(load.result["servers"]) == {"vm3"}
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")
    wait_until("it is back", lambda: get(lab, pool) == "vm1")


def test_the_api_may_restart(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm2"])
    api = lab.host("control").service("api")
    repeats = Repeats(lab)
    with Load.requests(lab, url(pool)) as load:
        api.kill()
        api.start()
        wait_until("the API answers", lambda: _answers(cloud))
        member = cloud.members(pool)["vm1"]
        path = f"/members/{member['id']}"
        cloud.change(pool, "PATCH", path, {"member": {"weight": 0}})
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert Load.count(lab, url(pool), 4)["servers"] == {"vm2": 4}


def _answers(cloud: Cloud) -> bool:
    try:
        return cloud.request("GET", "/pools")[0] == 200
    except Exception:
        return False
