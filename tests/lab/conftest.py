# SPDX-License-Identifier: Apache-2.0
"""One lab per test run, with cloudlb's services; named by the run's pid, removed at its end."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudlb.lab.errors import MissingProgramError
from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab, check_machine
from cloudlb.lab.record import STATE_ROOT
from cloudlb.lab.topology import MORE_HOSTS
from tests.lab.control import Cloud, wait_until
from tests.lab.pairs import FIRST, SECOND
from tests.lab.wire import given_client_ports

_NAME_OF_A_RUN = re.compile(r"[a-z]+(\d+)")
_ENDS = pytest.StashKey[dict[Path, int]]()
_SHOWN = 20_000  # octets of each log


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember where the logs of the lab's hosts ended before a test."""
    item.stash[_ENDS] = {path: path.stat().st_size for path in _logs(os.getpid())}
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """A test that fails shows what the hosts have logged since it began."""
    report = yield
    if report.failed:
        for path in _logs(os.getpid()):
            with path.open("rb") as log:
                log.seek(item.stash[_ENDS].get(path, 0))
                said = log.read()[-_SHOWN:].decode(errors="replace").strip()
            if said:
                report.sections.append((f"{path.parent.parent.name} {path.name}", said))
    return report


def _logs(pid: int) -> list[Path]:
    """Logs of the agents and of the control plane in the lab of a test run."""
    names = ("agent", "api", "conductor")
    return [path for name in names for path in STATE_ROOT.glob(f"test{pid}/*/log/{name}.log")]


@pytest.fixture(scope="session")
def lab_cache(pytestconfig: pytest.Config) -> Path:
    """Where kernel and saved guests are kept from run to run."""
    return pytestconfig.rootpath / "build" / "lab"


@pytest.fixture(scope="session")
def clean_machine(lab_cache: Path) -> None:
    """A machine that can run labs, without those that crashed runs have left."""
    if os.geteuid() != 0:
        pytest.skip("labs need root")
    try:
        check_machine()
    except MissingProgramError as error:
        pytest.skip(str(error))
    for state in STATE_ROOT.glob("*"):
        run = _NAME_OF_A_RUN.fullmatch(state.name)
        if run and not Path(f"/proc/{run[1]}").exists():
            Lab(state.name, lab_cache).down()


@pytest.fixture(scope="session")
def lab(clean_machine: None, lab_cache: Path) -> Iterator[Lab]:
    """A lab with all of cloudlb's services."""
    lab = Lab(f"test{os.getpid()}", lab_cache)
    lab.up()
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Iterator[tuple[Host, Host]]:
    """Two directors; the second one is unplugged afterwards."""
    second = lab.add_host(MORE_HOSTS[0])
    shown = f"/hosts/{SECOND}"
    wait_until("its uplink is known", lambda: lab.api.request("GET", shown)[1]["host"]["uplinks"])
    yield lab.host(FIRST), second
    lab.remove_host(SECOND)
    wait_until(
        "the control plane forgets it",
        lambda: lab.api.request("DELETE", f"/hosts/{SECOND}")[0] in (204, 404),
    )


@pytest.fixture(scope="session")
def client_ports() -> Iterator[int]:
    """The first of the ports that a test's client has, round and round; none are the kernel's."""
    return itertools.cycle(range(10_000, 32_000, 2_000))


@pytest.fixture
def fresh_ports(lab: Lab, client_ports: Iterator[int]) -> Iterator[None]:
    """The client's ports are none that it had in the last minute.

    A guest behind NAT knows its clients by their ports alone, whichever pool they asked. One that
    remembers the port of a connection that ended less than a minute ago may refuse the first SYN
    of the next; it is sent again, and counted as another connection.
    """
    first = next(client_ports)
    with given_client_ports(lab, first, first + 1_999):
        yield


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    """The lab's API; pools made through it are removed afterwards."""
    cloud = Cloud(lab)
    yield cloud
    cloud.clean()
