# SPDX-License-Identifier: Apache-2.0
"""What guests end, refuse or leave without an answer: directors hear of it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from tests.lab.control import Cloud, get, wait_until
from tests.lab.wire import make_known
from tests.soak import choose

PORT = 8080
SLOW = {"type": "tcp", "interval": 60, "timeout": 2, "rise": 1, "fall": 3}
"""By such probes a member is found dead after two minutes."""
_HOLDER = (
    "import socket,sys\n"
    "held=[]\n"
    "for _ in range(int(sys.argv[2])):\n"
    "    s=socket.create_connection((sys.argv[1],80),5)\n"
    "    s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
    "    while s.recv(65536): pass\n"
    "    held.append(s)\n"
    "print('held',flush=True)\n"
    "sys.stdin.read()\n"
)


@contextmanager
def half_closed(lab: Lab, address: str, count: int) -> Iterator[None]:
    """Connections that the servers have closed and the client keeps open."""
    command = [sys.executable, "-c", _HOLDER, address, str(count)]
    holder = lab.host("client").popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.communicate(timeout=20)


@pytest.mark.requirement("L6")
@pytest.mark.requirement("L7")
@pytest.mark.parametrize(
    ("data_plane", "version"), choose([("dr", 4), ("tun", 6), ("nat", 6)], [("dr", 6), ("nat", 4)])
)
def test_a_connection_that_its_member_has_closed_is_no_load(
    lab: Lab, cloud: Cloud, data_plane: str, version: int
) -> None:
    """The client never says so, and its packets are all that the director sees."""
    make_known(lab, cloud)
    fields = {"scheduler": "least_connections", "data_plane": data_plane}
    members = [{"server": "vm1"}, {"server": "vm3"}]
    holders = [] if data_plane == "nat" else ["vm1", "vm3"]
    pool = cloud.pool(holders, version, members=members, **fields)
    wait_until("it serves", lambda: get(lab, pool))
    with half_closed(lab, pool["address"], 12):
        assert cloud.stats(pool)["stats"]["connections"] >= 12
        wait_until("none counts", lambda: _active(cloud, pool) == 0, seconds=5)


def _active(cloud: Cloud, pool: dict[str, object]) -> int:
    return int(cloud.stats(pool)["stats"]["active"])


@pytest.fixture
def service(lab: Lab) -> Iterator[None]:
    """A program behind a port of vm1 that a test may end."""
    start = f"nc -ll -p {PORT} -e cat </dev/null >/dev/null 2>&1 & echo $! >/tmp/nc.pid"
    lab.guest("vm1").run(["sh", "-c", start])
    yield
    stop(lab)


def stop(lab: Lab) -> None:
    """End it; again if it has ended."""
    lab.guest("vm1").run(["sh", "-c", "kill $(cat /tmp/nc.pid) 2>/dev/null"], check=False)


@pytest.mark.requirement("L13")
@pytest.mark.parametrize(
    ("data_plane", "version"), choose([("dr", 6), ("nat", 4)], [("tun", 4), ("dr", 4)])
)
def test_a_member_that_refuses_its_clients_is_found_by_them(
    lab: Lab, cloud: Cloud, service: None, data_plane: str, version: int
) -> None:
    make_known(lab, cloud)
    pool = cloud.pool(
        [] if data_plane == "nat" else ["vm1"],
        version,
        data_plane=data_plane,
        members=[{"server": "vm1"}],
        ports=[{"protocol": "tcp", "port": PORT}],
    )
    _probe_slowly(cloud, pool)
    stop(lab)
    wait_until("it is offline", lambda: _asked(lab, pool) or _health(cloud, pool) == "offline")
    reason = cloud.members(pool)["vm1"]["health_reason"]
    assert reason == f"refuses connections to port {PORT}"


@pytest.mark.requirement("L13")
def test_a_member_that_does_not_answer_its_clients_is_found_by_them(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(["vm1"])
    _probe_slowly(cloud, pool)
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        _asked(lab, pool, 80)
        wait_until("it is offline", lambda: _health(cloud, pool) == "offline")
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")


def _probe_slowly(cloud: Cloud, pool: dict[str, object]) -> None:
    """From the moment on when the guest holds the address."""
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": SLOW}})
    wait_until("it is online", lambda: _health(cloud, pool) == "online")


def _health(cloud: Cloud, pool: dict[str, object]) -> str:
    return str(cloud.members(pool)["vm1"]["health"])


def _asked(lab: Lab, pool: dict[str, object], port: int = PORT) -> bool:
    """Whether a client's connection is accepted; it waits for a second SYN."""
    program = (
        "import socket,sys\n"
        "try: socket.create_connection((sys.argv[1],int(sys.argv[2])),2.5)\n"
        "except OSError: sys.exit(1)\n"
    )
    command = [sys.executable, "-c", program, str(pool["address"]), str(port)]
    done = lab.host("client").run(command, check=False)
    return done.returncode == 0
