# SPDX-License-Identifier: Apache-2.0
"""Guests are probed by their own hosts, seldom by directors, and are out as soon as before."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.network import namespace
from cloudlb.lab.topology import SWITCH
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, url, wait_until
from tests.lab.wire import Capture, make_known, tap
from tests.soak import choose

pytestmark = pytest.mark.requirement("L13")
BOUND = 2 * (TCP_MONITOR["interval"] * TCP_MONITOR["fall"] + TCP_MONITOR["timeout"])
"""Twice what it takes, for slow machines: the time itself is shown by unit tests."""
BOTH = {"vm1": "online", "vm3": "online"}
OTHERS = choose([("dr", 4), ("tun", 6)], [("dr", 6), ("nat", 4), ("anycast_mac", 6)])
SECONDS = 10


def health(cloud: Cloud, pool: dict[str, Any]) -> dict[str, str]:
    """What probes say of the members."""
    return {name: m["health"] for name, m in cloud.members(pool).items()}


def probed(lab: Lab, cloud: Cloud, version: int = 4, data_plane: str = "dr") -> dict[str, Any]:
    """A pool whose members are probed by their hosts, and have answered for a while."""
    make_known(lab, cloud)
    holders = [] if data_plane == "nat" else ["vm1", "vm3"]
    members = [{"server": "vm1"}, {"server": "vm3"}]
    pool = cloud.pool(holders, version, data_plane=data_plane, members=members)
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": TCP_MONITOR}})
    wait_until("both are online", lambda: health(cloud, pool) == BOTH)
    wait_until("the director probes seldom", lambda: is_rare(lab, pool))
    return pool


def probes(lab: Lab, pool: dict[str, Any], seconds: float) -> Counter[str]:
    """How often the director and its own host ask vm1 in so many seconds, or somewhat more.

    The client must ask nothing meanwhile: its packets come from the director, too.
    """
    host = lab.host("compute1")
    names = {lab.host(n).spec.lan_mac: n for n in ("director", "compute1")}
    address = pool["address"]
    if pool["data_plane"] == "nat":  # translated at the tap
        own = lab.guest("vm1").spec
        address = str(own.ipv6 if ":" in address else own.ipv4)
    with Capture(host, address, tap(host, "vm1")) as capture:
        time.sleep(seconds)
    begun = [frame[6:12].hex(":") for frame in capture.frames if is_syn(frame)]
    return Counter(names[mac] for mac in begun if mac in names)


def is_syn(frame: bytes) -> bool:
    """Whether a frame begins a connection."""
    ip = frame[14:]
    if ip[0] >> 4 == 4:
        protocol, segment = ip[9], ip[20:]
    else:
        protocol, segment = ip[6], ip[40:]
    return protocol == 6 and segment[13] & 0x12 == 0x02


def is_rare(lab: Lab, pool: dict[str, Any]) -> bool:
    """Whether the director has begun to leave the member to its host."""
    count = probes(lab, pool, 4)
    return count["compute1"] - count["director"] >= 2


@contextmanager
def suspended(lab: Lab) -> Iterator[None]:
    """vm1 hangs while the block runs."""
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        yield
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")


@contextmanager
def led_astray(lab: Lab) -> Iterator[None]:
    """The switch sends to the client what is for vm1 while the block runs."""
    bridge = ["bridge", "-netns", namespace(lab.name, SWITCH), "fdb"]
    entry = [lab.guest("vm1").spec.mac, "dev", "lan-client", "master", "static", "sticky"]
    subprocess.run([*bridge, "replace", *entry], check=True)
    try:
        yield
    finally:
        subprocess.run([*bridge, "del", *entry[:3], "master"], check=True)


def all_goes_to_vm3(lab: Lab, pool: dict[str, Any]) -> None:
    """Requests find no dead member, not even with the first SYN."""
    result = Load.count(lab, url(pool), 10)
    assert (result["failed"], result["servers"]) == (0, {"vm3": 10})
    assert "TCPSynRetrans" not in result["resent"], "a SYN went to the dead member"


@pytest.mark.requirement("A16")
@pytest.mark.parametrize(("data_plane", "version"), OTHERS)
def test_the_host_probes_in_each_interval_and_the_director_in_every_second(
    lab: Lab, cloud: Cloud, data_plane: str, version: int
) -> None:
    pool = probed(lab, cloud, version, data_plane)
    count = probes(lab, pool, SECONDS)
    assert count["compute1"] >= SECONDS - 1
    assert count["director"] == pytest.approx(count["compute1"] / 2, abs=1.5)


@pytest.mark.requirement("A17")
def test_a_guest_that_hangs_is_out_in_time_and_comes_back(lab: Lab, cloud: Cloud) -> None:
    pool = probed(lab, cloud)
    with suspended(lab):
        wait_until("it is out", lambda: health(cloud, pool)["vm1"] == "offline", seconds=BOUND)
        all_goes_to_vm3(lab, pool)
        wait_until("both say so", lambda: "its host finds the same" in reason(cloud, pool))
    wait_until("it is back", lambda: health(cloud, pool) == BOTH)


def reason(cloud: Cloud, pool: dict[str, Any]) -> str:
    """Why vm1 is what it is."""
    return str(cloud.members(pool)["vm1"]["health_reason"])


@pytest.mark.requirement("A17")
def test_a_guest_that_the_traffic_does_not_reach_is_out_in_time_though_its_host_reaches_it(
    lab: Lab, cloud: Cloud
) -> None:
    pool = probed(lab, cloud)
    with led_astray(lab):
        wait_until("it is out", lambda: health(cloud, pool)["vm1"] == "offline", seconds=BOUND)
        all_goes_to_vm3(lab, pool)
        assert reason(cloud, pool).endswith("its host gets answers")
    wait_until("it is back", lambda: health(cloud, pool) == BOTH)


def test_a_director_that_was_restarted_soon_leaves_guests_to_their_hosts_again(
    lab: Lab, cloud: Cloud
) -> None:
    pool = probed(lab, cloud)
    agent = lab.host("director").service("agent")
    with Load.requests(lab, url(pool)) as load:
        agent.kill()
        agent.start()
        lab.wait_agent("director")
        time.sleep(5)
    wait_until("the director probes seldom", lambda: is_rare(lab, pool))
    assert not harm(load.result), load.result
    assert set(load.result["servers"]) == {"vm1", "vm3"}


def test_without_the_hosts_agent_the_director_probes_as_often_as_ever_and_nobody_is_out(
    lab: Lab, cloud: Cloud
) -> None:
    pool = probed(lab, cloud)
    agent = lab.host("compute1").service("agent")
    try:
        with Load.requests(lab, url(pool)) as load:
            agent.kill()
            time.sleep(3 + 2)  # its last word is old, and the pause that it allowed is over
        count = probes(lab, pool, SECONDS)
        assert count["compute1"] == 0
        assert count["director"] >= SECONDS - 1
        assert health(cloud, pool) == BOTH
    finally:
        agent.start()
        lab.wait_agent("compute1")
    assert not harm(load.result), load.result
    assert set(load.result["servers"]) == {"vm1", "vm3"}
    wait_until("the director probes seldom", lambda: is_rare(lab, pool))
