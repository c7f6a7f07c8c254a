# SPDX-License-Identifier: Apache-2.0
"""Agents whose programs have other maps than those before them, under load.

Another size of the tables makes other programs and other maps, as another release does.
"""

import re
import time
from collections.abc import Iterator

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.services import config_path
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until
from tests.lab.test_nat import translated
from tests.soak import choose

pytestmark = [pytest.mark.usefixtures("fresh_ports"), pytest.mark.requirement("L18")]
ALL = ["vm1", "vm2", "vm3", "vm4"]
HOSTS = ["director", "compute1"]
ENDS_DROPPED = 3
"""Connections whose last packet may have been dropped at a filter's exchange: the next one with
their ports goes where they went, and is not counted as a new one."""
SIZES = {"edge": 16384, "full": 32768}
"""Connections that agents remember in the test of each way."""


@pytest.fixture(scope="module")
def configured(lab: Lab) -> Iterator[None]:
    """The agents have their configuration back afterwards, and work by it."""
    paths = [config_path(lab.host(name).state) for name in HOSTS]
    texts = [path.read_text() for path in paths]
    yield
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    for name in HOSTS:
        follow(lab, name)


def follow(lab: Lab, name: str) -> None:
    """A host's agent is followed by one that reads the configuration anew."""
    agent = lab.host(name).service("agent")
    agent.stop()
    agent.start()
    lab.wait_agent(name)


def configure(lab: Lab, name: str, size: int) -> None:
    path = config_path(lab.host(name).state)
    head, agent, rest = path.read_text().partition("[agent]\n")
    kept = re.sub(r"flow_table_size = .*\n", "", rest)
    path.write_text(f"{head}{agent}flow_table_size = {size}\n{kept}")


def sizes(lab: Lab, name: str) -> set[str]:
    """The sizes of the first table, by the names of what is pinned on a host."""
    shown = lab.host(name).run(["ls", "/sys/fs/bpf/cloudlb"]).stdout
    return {one.split("-")[2] for one in shown.split()}


@pytest.mark.parametrize("way", choose(["full"], ["edge"]))
def test_no_connection_breaks_when_programs_and_maps_change(
    lab: Lab, cloud: Cloud, configured: None, way: str
) -> None:
    """Edge NAT is remembered at taps, too, full NAT in two tables of the director."""
    pool = translated(cloud, ALL, translation=way)
    before = cloud.stats(pool)["stats"]["connections"]
    with Load.requests(lab, url(pool)) as load, Load.flows(lab, pool["address"], 20) as flows:
        time.sleep(1)
        for name in HOSTS:
            configure(lab, name, SIZES[way])
            follow(lab, name)
        time.sleep(2)
    assert not harm(load.result), load.result
    assert not harm(flows.result), flows.result
    assert set(load.result["servers"]) == set(ALL)
    counted = cloud.stats(pool)["stats"]["connections"] - before
    made = load.result["requests"] + 20
    assert made - ENDS_DROPPED <= counted <= made
    wanted = {str(SIZES[way])}
    for name in HOSTS:
        wait_until(f"{name} has nothing else", lambda name=name: sizes(lab, name) == wanted)
