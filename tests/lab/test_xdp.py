# SPDX-License-Identifier: Apache-2.0
"""A director whose uplink's driver forwards what belongs to known connections.

The uplink is a virtual one here, so its other end at the switch is made to be like a wire: what
goes to the director has its checksums, and is cut to the MTU.
"""

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.network import namespace
from cloudlb.lab.services import config_path
from cloudlb.lab.topology import LAN, SWITCH, UPLINK
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, ask_udp, exchange_bodies, url, wait_until
from tests.lab.wire import Repeats
from tests.soak import choose

pytestmark = pytest.mark.usefixtures("fresh_ports", "by_the_driver")
ALL = ["vm1", "vm2", "vm3", "vm4"]
FAMILIES = pytest.mark.parametrize("version", [4, 6])
CHOSEN = pytest.mark.parametrize("version", choose([6], [4]))
_HERE = Path(__file__).parent
_PORT = f"{LAN}-director"


@pytest.fixture(scope="module")
def wire(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The switch's end of the director's link."""
    target = tmp_path_factory.mktemp("pass") / "pass.o"
    headers = f"-I/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", headers, "-c", str(_HERE / "pass.bpf.c")]
    subprocess.run(["clang", *flags, "-o", str(target)], check=True)

    def on_switch(*command: str) -> None:
        name = namespace(lab.name, SWITCH)
        subprocess.run(["ip", "netns", "exec", name, *command], check=True)

    def offloads(state: str) -> None:
        on_switch(sys.executable, str(_HERE / "offload.py"), state, _PORT)

    offloads("off")
    on_switch("ip", "link", "set", _PORT, "xdpdrv", "obj", str(target), "sec", "xdp")
    yield
    on_switch("ip", "link", "set", _PORT, "xdpdrv", "off")
    offloads("on")


def configure(lab: Lab, xdp: str) -> None:
    """The director's agent is followed by one with this option, which has done what it says."""
    path = config_path(lab.host("director").state)
    head, agent, rest = path.read_text().partition("[agent]\n")
    kept = re.sub(r"xdp = .*\n", "", rest)
    path.write_text(f"{head}{agent}xdp = {xdp}\n{kept}")
    service = lab.host("director").service("agent")
    service.stop()
    service.start()
    lab.wait_agent("director")
    wanted = xdp == "always"
    wait_until(f"the driver's program is as {xdp} says", lambda: bool(program(lab)) == wanted)


@pytest.fixture(scope="module")
def by_the_driver(lab: Lab, wire: None) -> Iterator[None]:
    """The director's driver forwards, and does so no more afterwards."""
    lab.host("director").run([sys.executable, str(_HERE.parent / "tags.py"), UPLINK])
    lab.api.network()
    configure(lab, "always")
    yield
    configure(lab, "auto")


def program(lab: Lab) -> int | None:
    """The number of the program in the driver of the director's uplink."""
    shown = lab.host("director").run(["ip", "-json", "link", "show", UPLINK]).stdout
    return (json.loads(shown)[0].get("xdp") or {}).get("prog", {}).get("id")  # type: ignore[no-any-return]


def met_the_filter(lab: Lab) -> int:
    """Packets that the filter of the director's uplink has seen."""
    shown = lab.host("director").run(["tc", "-s", "qdisc", "show", "dev", UPLINK]).stdout
    (packets,) = re.findall(r"clsact.*\n\s*Sent \d+ bytes (\d+) pkt", shown)
    return int(packets)


def forwarded(cloud: Cloud, pool: dict[str, Any]) -> int:
    """Packets that went to a pool's members."""
    return int(cloud.stats(pool)["stats"]["packets_in"])


@FAMILIES
@pytest.mark.requirement("L4")
@pytest.mark.requirement("L15")
def test_bodies_go_there_and_back_and_the_filter_sees_few_of_their_packets(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm1"], version)
    filtered, counted = met_the_filter(lab), forwarded(cloud, pool)
    exchange_bodies(lab, pool)
    counted = forwarded(cloud, pool) - counted
    assert counted > 3_000_000 / 1500
    assert met_the_filter(lab) - filtered < counted / 10


@FAMILIES
@pytest.mark.requirement("L4")
@pytest.mark.requirement("L16")
def test_requests_are_shared_and_counted(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = cloud.pool(ALL, version)
    assert Load.count(lab, url(pool), 40)["order"] == ALL * 10
    assert ask_udp(lab, pool, 8) == ALL * 2
    with Load.flows(lab, pool["address"], 8, interval=0.2) as load:
        time.sleep(0.5)
        stats = cloud.stats(pool)["stats"]
    assert not harm(load.result), load.result
    by_name = {member["name"]: member for member in stats["members"]}
    assert {name: member["connections"] for name, member in by_name.items()} == dict.fromkeys(
        ALL, 14
    )
    for member in by_name.values():
        assert member["packets_in"] > 10 * 4
        assert member["bytes_in"] > member["packets_in"] * 54


@pytest.mark.requirement("L18")
def test_nothing_breaks_while_the_agent_is_dead_and_when_it_is_back(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(ALL)
    agent, there = lab.host("director").service("agent"), program(lab)
    repeats = Repeats(lab)
    with Load.requests(lab, url(pool)) as load, Load.flows(lab, pool["address"], 20) as flows:
        agent.kill()
        time.sleep(1)
        assert program(lab) == there
        agent.start()
        lab.wait_agent("director")
        time.sleep(1)
    assert not harm(load.result), load.result
    assert not repeats.lost(load.result), load.result
    assert not harm(flows.result), flows.result
    assert program(lab) == there


@CHOSEN
@pytest.mark.requirement("L18")
def test_connections_go_on_when_it_is_switched_off_and_on(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(ALL, version)
    with Load.flows(lab, pool["address"], 20, interval=0.1) as flows:
        configure(lab, "never")
        before = met_the_filter(lab)
        wait_until("packets meet the filter", lambda: met_the_filter(lab) > before + 100)
        configure(lab, "always")
        time.sleep(1)
    assert not harm(flows.result), flows.result
