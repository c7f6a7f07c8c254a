# SPDX-License-Identifier: Apache-2.0
"""Datagrams larger than a frame reach their connection's guest, in any order of their parts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import HOSTS
from tests.lab.control import Cloud
from tests.lab.wire import make_known
from tests.packet.parts import parts_of
from tests.soak import choose

pytestmark = pytest.mark.requirement("L12")
CLIENT, DIRECTOR = (
    next(spec for spec in HOSTS if spec.name == name) for name in ("client", "director")
)
ALL = ["vm1", "vm2", "vm3", "vm4"]
LARGE, SMALL = 5000, 100
SCRIPT = Path(__file__).with_name("datagrams.py")


def pool_of_all(lab: Lab, cloud: Cloud, data_plane: str, version: int) -> dict[str, Any]:
    """A pool of all guests, round robin."""
    make_known(lab, cloud)
    members = [{"server": name} for name in ALL]
    holders = [] if data_plane == "nat" else ALL
    return cloud.pool(holders, version, data_plane=data_plane, members=members)


def exchange(lab: Lab, pool: dict[str, Any], port: int, sent: list[Any]) -> list[list[Any]]:
    """Who has answered what was sent from a port of the client, and with how much."""
    order = {"address": pool["address"], "port": port, "sent": sent}
    command = [sys.executable, str(SCRIPT)]
    done = lab.host("client").run(command, input=json.dumps(order), timeout=60)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def backwards(pool: dict[str, Any], port: int, identity: int) -> list[str]:
    """A large datagram's frames, the last part first."""
    datagram = UDP(sport=port, dport=7) / Raw(b"x" * LARGE)
    link = Ether(dst=DIRECTOR.lan_mac, src=CLIENT.lan_mac)
    if ":" in pool["address"]:
        head = IPv6(src=str(CLIENT.lan6), dst=pool["address"])
    else:
        head = IP(src=str(CLIENT.lan4), dst=pool["address"])
    parts = parts_of(bytes(link / head / datagram), identity, size=1200)
    assert len(parts) > 3
    return [part.hex() for part in reversed(parts)]


@pytest.mark.parametrize(
    ("data_plane", "version"),
    choose([("dr", 6), ("tun", 4), ("nat", 6)], [("dr", 4), ("tun", 6), ("nat", 4)]),
)
def test_datagrams_of_a_port_reach_one_guest_whole_and_in_parts_in_any_order(
    lab: Lab, cloud: Cloud, data_plane: str, version: int
) -> None:
    pool = pool_of_all(lab, cloud, data_plane, version)
    servers = []
    for port in range(45000, 45004):
        sent = [LARGE, SMALL, backwards(pool, port, port), SMALL]
        answers = exchange(lab, pool, port, sent)
        servers.append(answers[0][0])
        assert [name for name, _ in answers] == servers[-1:] * len(sent)
        assert min(answers[0][1], answers[2][1]) >= LARGE
    assert sorted(servers) == ALL
