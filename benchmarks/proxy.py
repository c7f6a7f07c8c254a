# SPDX-License-Identifier: Apache-2.0
"""HAProxy as a director: it ends the client's connection and begins another one to a member."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.rig import MEMBERS, TCP_PORT, VIP, Rig, address_of_director, own
from cloudlb.lab.process import wait_for

_START = 30.0
_CONFIGURATION = """global
  maxconn 4096
defaults
  mode tcp
  timeout connect 30s
  timeout client 60s
  timeout server 60s
listen bench
  bind {address}
  balance roundrobin
{servers}"""


@contextlib.contextmanager
def haproxy(rig: Rig, version: int) -> Iterator[None]:
    """By TCP and in turn, with as many threads as there are processors (its default)."""
    rig.answers_through(version, director=False)
    path = Path("/run/haproxy.cfg")
    path.write_text(_configuration(version))
    with address_of_director(rig, version), _running(rig, path):
        wait_for("haproxy's start", partial(_listens, rig, version), _START)
        yield


def _configuration(version: int) -> str:
    def at(address: object) -> str:
        return f"ipv{version}@{address}:{TCP_PORT}"

    servers = "".join(f"  server m{n} {at(own(n, version))}\n" for n in MEMBERS)
    return _CONFIGURATION.format(address=at(VIP[version]), servers=servers)


@contextlib.contextmanager
def _running(rig: Rig, path: Path) -> Iterator[None]:
    enter = ("nsenter", f"--net=/run/netns/{rig.director.name}")
    process = subprocess.Popen([*enter, "/usr/sbin/haproxy", "-db", "-q", "-f", str(path)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _listens(rig: Rig, version: int) -> bool:
    def connects() -> bool:
        try:
            socket.create_connection((str(VIP[version]), TCP_PORT), 1).close()
        except OSError:
            return False
        return True

    return rig.director.do(connects)
