# SPDX-License-Identifier: Apache-2.0
"""What a host does as master of virtual routers."""

from collections.abc import Iterator

import pytest

from cloudlb.agents.herald import Herald
from cloudlb.model.network import Address
from tests.planes import VIP4, VIP6

SECOND = 1_000_000_000
MASTER, BACKUP = 'GROUP "router9" MASTER 0', 'GROUP "router9" BACKUP 0'


class Kernel:
    """Leases, and the addresses of router 9."""

    def __init__(self) -> None:
        self.leases: dict[int, int] = {}

    def of(self, router: int) -> Iterator[Address]:
        yield from (VIP4, VIP6) if router == 9 else ()

    def lease(self, router: int, until: int) -> None:
        self.leases[router] = until


class Host:
    """A herald with everything around it."""

    def __init__(self) -> None:
        self.kernel, self.now = Kernel(), 100 * SECOND
        self.told: list[tuple[str, Address]] = []
        self.herald = Herald(
            self.kernel,  # type: ignore[arg-type]
            0.5,
            lambda link, address: self.told.append((link, address)),
            lambda: self.now,
        )
        self.herald.serve({9: "eth0"})


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.requirement("L14")
def test_a_new_master_has_a_lease_and_tells_the_link_of_every_address(host: Host) -> None:
    host.herald.hear(MASTER)
    assert host.kernel.leases == {9: host.now + 3 * SECOND // 2}
    assert host.told == [("eth0", VIP4), ("eth0", VIP6)]


@pytest.mark.requirement("L14")
def test_it_tells_three_times_a_second_apart(host: Host) -> None:
    host.herald.hear(MASTER)
    for _ in range(50):
        host.now += SECOND // 10
        host.herald.renew()
    assert len(host.told) == 3 * 2


@pytest.mark.requirement("L14")
def test_it_tells_again_every_ten_heartbeats(host: Host) -> None:
    """Another one may have been master too, while the two did not hear each other."""
    host.herald.hear(MASTER)
    for _ in range(20 * 10):
        host.now += SECOND // 10
        host.herald.renew()
    assert len(host.told) in ((3 + 3) * 2, (3 + 4) * 2)


def test_a_lease_is_renewed_while_it_is_master(host: Host) -> None:
    host.herald.hear(MASTER)
    host.now += SECOND
    host.herald.renew()
    assert host.kernel.leases[9] > host.now


def test_one_that_is_not_master_any_more_announces_nothing_at_once(host: Host) -> None:
    host.herald.hear(MASTER)
    host.herald.hear(BACKUP)
    host.now += SECOND
    host.herald.renew()
    assert host.kernel.leases == {9: 0}
    assert len(host.told) == 2


def test_an_election_that_it_stands_in_no_more_ends_the_lease(host: Host) -> None:
    host.herald.hear(MASTER)
    host.herald.serve({})
    assert host.kernel.leases == {9: 0}


def test_what_is_no_duty_is_not_taken_up(host: Host) -> None:
    host.herald.serve({4: "eth0"})
    host.herald.hear(MASTER)
    assert host.kernel.leases == {}


def test_the_end_of_keepalived_is_the_end_of_all_leases(host: Host) -> None:
    host.herald.hear(MASTER)
    host.herald.stop()
    assert host.kernel.leases == {9: 0}
