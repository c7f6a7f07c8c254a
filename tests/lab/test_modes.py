# SPDX-License-Identifier: Apache-2.0
"""The data plane of a pool in use changes, and no connection that there is notices."""

import json
import time
from contextlib import ExitStack

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url
from tests.lab.wire import make_known
from tests.soak import choose

ALL = ["vm1", "vm2", "vm3", "vm4"]
ORDER = ["dr", "nat", "tun", "dr", "tun", "nat", "dr"]
"""Every data plane after every other one."""


@pytest.mark.requirement("L2")
@pytest.mark.parametrize("version", choose([6], [4]))
def test_connections_keep_their_mode_through_every_change(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    make_known(lab, cloud)
    pool = cloud.pool(ALL, version, data_plane=ORDER[0])
    loads = []
    with ExitStack() as stack:
        for mode in ORDER:
            if mode != cloud.show(pool)["data_plane"]:
                cloud.change(pool, "PATCH", "", {"pool": {"data_plane": mode}})
            assert _sees_the_pools_address(lab, pool["address"], url(pool)) == (mode != "nat")
            assert Load.count(lab, url(pool), 8)["failed"] == 0
            loads.append(Load.flows(lab, pool["address"], 8, interval=0.2))
            stack.enter_context(loads[-1])
        time.sleep(1)
    assert [harm(load.result) for load in loads] == [""] * len(ORDER)


def _sees_the_pools_address(lab: Lab, address: str, at: str) -> bool:
    """Whether a guest finds in a new connection what the client sent to."""
    said = json.loads(lab.host("client").run(["curl", "-s", "-S", "-m", "5", at]).stdout)
    return bool(said["address"] == address)
