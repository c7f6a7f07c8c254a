# SPDX-License-Identifier: Apache-2.0
"""Directors in pairs: who announces, and what a take-over does to traffic."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudlb.lab import services
from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.process import ProcessId
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, Sniffer, get, url, wait_until
from tests.lab.pairs import (
    ALL,
    FIRST,
    SECOND,
    alive,
    announcer,
    announcers,
    cut_off,
    elects,
    kill_election,
    neighbour,
    number,
    parted,
    pool_of,
    unharmed,
    unplugged,
)
from tests.lab.wire import Asking
from tests.soak import choose


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("version", [4, 6])
def test_the_first_of_two_directors_announces(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], version: int
) -> None:
    pool = pool_of(cloud, version=version)
    assert Load.count(lab, url(pool), 8)["servers"] == dict.fromkeys(ALL, 2)
    assert neighbour(lab, pool) == FIRST


@contextlib.contextmanager
def answered_by_the_first(lab: Lab, pool: dict[str, Any]) -> Iterator[None]:
    """Every question for the pool's address is answered, and by the first director alone."""
    with Sniffer(lab, pool["address"]) as sniffer, Asking(lab, pool["address"]) as asking:
        yield
    first = lab.host(FIRST).spec.lan_mac
    assert {mac for mac, _ in sniffer.claims} == {first}
    assert sniffer.claims[first, "arp-reply"] >= asking.asked > 0


@pytest.mark.requirement("L14")
@pytest.mark.requirement("L18")
@pytest.mark.parametrize("scheduler", choose(["round_robin"], ["maglev"]))
def test_a_director_whose_processes_are_killed_is_followed_and_takes_back(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], scheduler: str
) -> None:
    pool = pool_of(cloud, scheduler=scheduler)
    agent = lab.host(FIRST).service("agent")
    try:
        with unharmed(lab, pool):
            agent.kill()
            kill_election(lab.host(FIRST))
            wait_until("the client was told", lambda: neighbour(lab, pool) == SECOND)
    finally:
        agent.start()
    with unharmed(lab, pool):
        wait_until("the first one is back", lambda: announcer(cloud, pool) == FIRST)
        wait_until("the client was told", lambda: neighbour(lab, pool) == FIRST)


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("scheduler", choose(["least_connections"], ["round_robin"]))
def test_a_director_that_vanishes_is_followed(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], scheduler: str
) -> None:
    pool = pool_of(cloud, scheduler=scheduler)
    with unharmed(lab, pool), unplugged(lab, FIRST, "lan", "mgmt"):
        wait_until("the client was told", lambda: neighbour(lab, pool) == SECOND)
        wait_until("so was the API", lambda: announcer(cloud, pool) == SECOND)
    wait_until("the first one is back", lambda: announcer(cloud, pool) == FIRST)


@pytest.mark.requirement("L14")
def test_when_directors_hear_each_other_again_clients_are_told_who_announces(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    """The first one was master all the time, and is asked by nobody to say so."""
    pool = pool_of(cloud)
    with unharmed(lab, pool):
        with cut_off(lab, FIRST, "lan", "mgmt"):
            wait_until("the client was told", lambda: neighbour(lab, pool) == SECOND)
        wait_until("the client was told", lambda: neighbour(lab, pool) == FIRST)


@pytest.mark.requirement("L14")
def test_a_director_whose_interface_is_down_is_followed(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = pool_of(cloud, scheduler="maglev")
    with unharmed(lab, pool), unplugged(lab, FIRST, "lan"):
        wait_until("the second one announces", lambda: announcer(cloud, pool) == SECOND)
    wait_until("the first one is back", lambda: announcer(cloud, pool) == FIRST)


@pytest.mark.requirement("L14")
def test_a_director_that_shall_stay_does_when_the_first_one_comes_back(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = pool_of(cloud, scheduler="maglev", failover="stay")
    with unharmed(lab, pool):
        with unplugged(lab, FIRST, "lan", "mgmt"):
            wait_until("the second one announces", lambda: announcer(cloud, pool) == SECOND)
        wait_until("the first one is alive again", lambda: alive(cloud, FIRST))
        time.sleep(8)  # preempt_delay and a while, in which a preempting one would be back
        assert announcer(cloud, pool) == SECOND


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("path", choose(["lan"], ["mgmt"]))
def test_the_loss_of_one_of_two_heartbeat_paths_is_no_reason_to_take_over(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], path: str
) -> None:
    pool = pool_of(cloud, scheduler="maglev")
    with answered_by_the_first(lab, pool), unharmed(lab, pool):
        with parted(lab, path):
            time.sleep(4)  # eight heartbeats; three that are missing would be enough
            assert announcer(cloud, pool) == FIRST
        time.sleep(3)


@pytest.mark.requirement("L14")
def test_the_loss_of_both_paths_is_and_ends_with_one_of_them(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = pool_of(cloud, scheduler="maglev")
    with parted(lab, "lan"):
        with parted(lab, "mgmt"):
            wait_until("both announce", lambda: announcers(cloud, pool) == {FIRST, SECOND})
        wait_until("one of them does", lambda: announcers(cloud, pool) == {FIRST})


@pytest.mark.requirement("L14")
@pytest.mark.requirement("L18")
def test_a_director_takes_over_though_its_agent_is_dead(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = pool_of(cloud, scheduler="maglev")
    agent = lab.host(SECOND).service("agent")
    agent.kill()
    try:
        with unharmed(lab, pool), unplugged(lab, FIRST, "lan", "mgmt"):
            wait_until("the client was told", lambda: neighbour(lab, pool) == SECOND)
    finally:
        agent.start()
        wait_until("its agent is heard again", lambda: alive(cloud, SECOND))
    wait_until("the first one is back", lambda: announcer(cloud, pool) == FIRST)


@pytest.mark.requirement("L18")
@pytest.mark.parametrize("killed", choose(["pid"], ["keepalived.pid"]))
def test_an_election_outlives_each_of_its_processes(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], killed: str
) -> None:
    pool = pool_of(cloud, scheduler="maglev")
    before = number(lab.host(FIRST), killed)
    with unharmed(lab, pool):
        os.kill(before, signal.SIGKILL)
        wait_until("there is another one", lambda: number(lab.host(FIRST), killed) != before)
        wait_until("the first one announces", lambda: announcers(cloud, pool) == {FIRST})


@pytest.mark.requirement("L18")
def test_tearing_a_director_down_ends_its_election(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = pool_of(cloud, scheduler="maglev", directors=[SECOND, FIRST])
    host = lab.host(SECOND)
    agent, process = host.service("agent"), ProcessId.of(number(host, "pid"))
    agent.stop()
    try:
        assert process.alive(), "a stopped agent leaves it alone"
        command = ["cloudlb-agent", f"--config-file={services.config_path(host.state)}"]
        said = host.run([*command, "teardown"]).stdout
        assert not process.alive()
        assert "ended the process that elects" in said
        assert get(lab, pool)
        wait_until("the client was told", lambda: neighbour(lab, pool) == FIRST)
    finally:
        agent.start()
    wait_until("the second one is back", lambda: announcer(cloud, pool) == SECOND)


def test_keepalived_takes_configurations_of_every_kind(lab: Lab) -> None:
    """IPv6, one path, three directors: see tests/unit/agents/test_candidacy.py."""
    text = Path(__file__).parents[1] / "unit" / "agents" / "keepalived.conf"
    done = lab.host(FIRST).run(["keepalived", "-t", "-f", str(text)], check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.requirement("L17")
def test_a_pool_that_gets_a_second_director_is_announced_all_the_time(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host]
) -> None:
    pool = cloud.pool(ALL)
    with answered_by_the_first(lab, pool), unharmed(lab, pool):
        cloud.change(pool, "PATCH", "", {"pool": {"directors": [FIRST, SECOND]}})
        time.sleep(16)
        assert elects(lab.host(SECOND))
    assert announcers(cloud, pool) == {FIRST}
