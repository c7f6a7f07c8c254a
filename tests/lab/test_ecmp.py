# SPDX-License-Identifier: Apache-2.0
"""Several active directors: a client's routes share connections over them, and one vanishes."""

import pytest

from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until
from tests.lab.pairs import FIRST, SECOND, pool_of, route, shared, unharmed, unplugged
from tests.soak import choose


def received(host: Host) -> int:
    """Frames that have come in by a host's interface in the tenant network."""
    path = "/sys/class/net/eth0/statistics/rx_packets"
    return int(host.run(["cat", path]).stdout)


@pytest.mark.requirement("L8")
@pytest.mark.requirement("L14")
@pytest.mark.parametrize(
    ("scheduler", "version", "gone"),
    choose([("round_robin", 4, FIRST)], [("maglev", 6, SECOND), ("source_hash", 4, FIRST)]),
)
def test_any_of_the_active_directors_may_vanish_and_come_back(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], scheduler: str, version: int, gone: str
) -> None:
    pool = pool_of(cloud, scheduler=scheduler, version=version)
    left = SECOND if gone == FIRST else FIRST
    with shared(lab, pool, FIRST, SECOND):
        before = [received(host) for host in pair]
        assert Load.count(lab, url(pool), 40)["failed"] == 0
        forwarded = [received(host) - old for host, old in zip(pair, before, strict=True)]
        assert min(forwarded) > 40, "both have their share"
        with unharmed(lab, pool):
            route(lab, pool, left)
            with unplugged(lab, gone, "lan", "mgmt"):
                wait_until(
                    "the control plane misses it",
                    lambda: not cloud.ok("GET", f"/hosts/{gone}")["host"]["alive"],
                )
            route(lab, pool, FIRST, SECOND)
