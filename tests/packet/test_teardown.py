# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-agent teardown``: all that is cloudlb's goes, and nothing else."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from cloudlb.engines import teardown
from cloudlb.net.tc import Direction, Filters
from tests.packet.conftest import Bench
from tests.planes import backends, director

PINS = Path("/sys/fs/bpf/cloudlb")
NOTHING = "Nothing of cloudlb is in this host's kernel.\n"
AGENT = [sys.executable, "-W", "ignore", "-m", "cloudlb.cmd.agent"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of an agent that hears nobody."""
    file = tmp_path / "cloudlb.conf"
    file.write_text(
        f"""[DEFAULT]
transport_url = kombu+inprocess://
[agent]
libvirt_uri =
state_dir = {tmp_path / "state"}
bpffs = {PINS}
flow_table_size = 1024
"""
    )
    return file


def _tear_down(config: Path) -> subprocess.CompletedProcess[str]:
    command = [*AGENT, "--config-file", str(config), "teardown"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_filters_and_pins_go_and_are_named(bench: Bench) -> None:
    bench.apply(director(backends(1)))
    version = bench.programs.version
    assert list(teardown.remove(PINS, PINS.parent.parent)) == [
        f"interface up0: filters director:{version}",
        f"interface tap0: filters from_guest:{version}, to_guest:{version}",
        str(bench.programs.pins),
        str(bench.programs._pinned),
    ]
    with closing(Filters()) as filters:
        assert filters.marked() == frozenset()
    assert not PINS.exists()
    qdiscs = subprocess.run(["tc", "qdisc"], capture_output=True, text=True, check=True).stdout
    assert "clsact" not in qdiscs


def test_a_second_time_finds_nothing(bench: Bench) -> None:
    assert list(teardown.remove(PINS, PINS.parent.parent))
    assert list(teardown.remove(PINS, PINS.parent.parent)) == []


def test_what_is_somebody_elses_stays(bench: Bench) -> None:
    theirs = PINS / "of-somebody-else"
    theirs.mkdir()
    with IPRoute() as ipr:
        ipr.tc(
            *("add-filter", "bpf", bench.uplink),
            **{"fd": bench.programs.fd("to_guest"), "name": "theirs", "prio": 9},
            parent=Direction.INGRESS,
        )
        assert str(theirs) not in list(teardown.remove(PINS, PINS.parent.parent))
        left = list(ipr.get_filters(index=bench.uplink, parent=Direction.INGRESS))
        ipr.tc("del", "clsact", bench.uplink)
    names = [f.get_attr("TCA_OPTIONS") for f in left]
    assert [options.get_attr("TCA_BPF_NAME") for options in names if options] == ["theirs"]
    assert theirs.is_dir()


@pytest.fixture
def agent(namespace: None, config: Path, objects: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that runs, with its programs loaded."""
    state = config.parent / "state"
    state.mkdir()
    objects.mkdir(exist_ok=True)
    (state / "programs").symlink_to(objects)
    with (config.parent / "agent.log").open("w") as log:
        running = subprocess.Popen([*AGENT, "--config-file", str(config)], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while "state=running" not in (config.parent / "agent.log").read_text():
        assert running.poll() is None, (config.parent / "agent.log").read_text()
        assert time.monotonic() < deadline, "the agent does not run"
        time.sleep(0.05)
    yield running
    running.kill()
    running.wait()


def test_it_is_refused_while_the_agent_runs_and_not_when_it_was_killed(
    agent: subprocess.Popen[bytes], config: Path
) -> None:
    there = sorted(PINS.iterdir())
    assert there
    refused = _tear_down(config)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "An agent works on this host" in refused.stderr
    assert "stop it first" in refused.stderr
    assert sorted(PINS.iterdir()) == there
    agent.kill()
    agent.wait()
    done = _tear_down(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"removed {path}" for path in there]
    assert _tear_down(config).stdout == NOTHING


def test_a_second_agent_is_refused_too(agent: subprocess.Popen[bytes], config: Path) -> None:
    command = [*AGENT, "--config-file", str(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "An agent works on this host" in second.stderr
    assert agent.poll() is None
