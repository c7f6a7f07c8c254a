# SPDX-License-Identifier: Apache-2.0
"""Agents whose programs have other maps than those before them, under load.

Another size of the tables makes other programs and other maps, as another release does.
"""

import time
from collections.abc import Iterator

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.services import config_path
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until
from tests.lab.test_nat import translated

pytestmark = [pytest.mark.usefixtures("fresh_ports"), pytest.mark.requirement("L18")]
ALL = ["vm1", "vm2", "vm3", "vm4"]
HOSTS = ["director", "compute1"]
SIZES = {
    "flow_table_size": 16384,
    "client_table_size": 8192,
    "fragment_table_size": 1024,
    "member_table_size": 70000,
}


@pytest.fixture
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


def with_sizes(lab: Lab, name: str) -> None:
    path = config_path(lab.host(name).state)
    head, agent, rest = path.read_text().partition("[agent]\n")
    lines = "".join(f"{option} = {size}\n" for option, size in SIZES.items())
    path.write_text(f"{head}{agent}{lines}{rest}")


@pytest.mark.parametrize("way", ["dr", "edge", "full"])
def test_no_connection_breaks_when_programs_and_maps_change(
    lab: Lab, cloud: Cloud, configured: None, way: str
) -> None:
    pool = cloud.pool(ALL) if way == "dr" else translated(cloud, ALL, translation=way)
    before = cloud.stats(pool)["stats"]["connections"]
    with Load.requests(lab, url(pool)) as load, Load.flows(lab, pool["address"], 20) as flows:
        time.sleep(1)
        for name in HOSTS:
            with_sizes(lab, name)
            follow(lab, name)
        time.sleep(2)
    assert not harm(load.result), load.result
    assert not harm(flows.result), flows.result
    assert set(load.result["servers"]) == set(ALL)
    counted = cloud.stats(pool)["stats"]["connections"] - before
    assert 0.9 * load.result["requests"] < counted <= load.result["requests"] + 20
    sizes = "-".join(map(str, SIZES.values()))
    for name in HOSTS:
        wait_until(f"{name} has nothing else", lambda name=name: pins(lab, name) == {sizes})


def pins(lab: Lab, name: str) -> set[str]:
    """The sizes in the names of what is pinned on a host."""
    shown = lab.host(name).run(["ls", "/sys/fs/bpf/cloudlb"]).stdout
    return {one.split("-", 2)[2] for one in shown.split()}
