# SPDX-License-Identifier: Apache-2.0
"""Pools that their members' hosts direct, in the words of tests."""

from typing import Any

from cloudlb.lab.lab import Lab
from tests.lab.control import Cloud, wait_until
from tests.lab.pairs import announcers, elects
from tests.lab.wire import make_known

HOSTS = ("compute1", "compute2")


def distributed(
    cloud: Cloud, names: list[str], version: int = 4, forwarding: str = "dr", **fields: Any
) -> dict[str, Any]:
    """A pool that its members' hosts direct; guests hold its address unless it is translated."""
    if forwarding != "dr":
        make_known(cloud.lab, cloud)
    holders = [] if forwarding == "nat" else names
    spec = {"data_plane": "dpr", "scheduler": "flow_hash", "forwarding": forwarding} | fields
    members = [{"server": name} for name in names]
    wait_until(
        "elections for other pools have ended",
        lambda: not any(map(elects, [cloud.lab.host(name) for name in HOSTS])),
    )
    pool = cloud.pool(holders, version, members=members, **spec)
    if len(pool["directors"]) > 1:
        wait_until("one host announces", lambda: len(announcers(cloud, pool)) == 1)
    return pool


def bridge_mac(lab: Lab, name: str) -> str:
    """The Ethernet address by which a host takes packets and passes them on."""
    shown = lab.host(name).run(["cat", "/sys/class/net/br0/address"])
    return shown.stdout.strip()
