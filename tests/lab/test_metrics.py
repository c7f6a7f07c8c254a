# SPDX-License-Identifier: Apache-2.0
"""Agents tell Prometheus what really passed."""

from collections.abc import Iterable

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, scrape, url, wait_until

DIRECTOR, COMPUTE = "director", ("compute1", "compute2")


def total(lab: Lab, hosts: Iterable[str], name: str, **labels: str) -> float:
    return sum(scrape(lab, host, name, **labels) for host in hosts)


@pytest.mark.requirement("L16")
def test_connections_are_told_by_the_director_and_answers_by_the_members_hosts(
    lab: Lab, cloud: Cloud
) -> None:
    pool = cloud.pool(["vm1", "vm3"])
    assert Load.count(lab, url(pool), 20)["failed"] == 0
    chosen = "cloudlb_member_connections_total"
    for member in cloud.members(pool).values():
        assert scrape(lab, DIRECTOR, chosen, member=member["id"]) == 10
    assert scrape(lab, DIRECTOR, "cloudlb_member_packets_total", pool=pool["id"], direction="in")
    out = total(lab, COMPUTE, "cloudlb_member_bytes_total", pool=pool["id"], direction="out")
    assert out > 0


@pytest.mark.requirement("L16")
def test_a_packet_to_no_service_is_counted_by_its_reason(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1"])
    before = scrape(lab, DIRECTOR, "cloudlb_events_total", reason="no_service")
    refused = ["curl", "-s", "-m", "1", f"http://{pool['address']}:81/"]
    assert lab.host("client").run(refused, check=False).returncode
    assert scrape(lab, DIRECTOR, "cloudlb_events_total", reason="no_service") > before


def test_a_dead_member_is_told_as_down(lab: Lab, cloud: Cloud) -> None:
    monitor = {"type": "tcp", "interval": 2, "timeout": 2, "rise": 1, "fall": 1}
    pool = cloud.pool(["vm1"], monitor=monitor)

    def up() -> float:
        return scrape(lab, DIRECTOR, "cloudlb_member_up", pool=pool["id"])

    wait_until("vm1 is up", lambda: up() == 1)
    address = pool["address"]
    lab.guest("vm1").run(["ip", "address", "del", f"{address}/32", "dev", "eth0"])
    wait_until("vm1 is down", lambda: up() == 0)
