# SPDX-License-Identifier: Apache-2.0
"""A link on the way to the client that is narrower than the guests': its router tells them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cloudlb.lab.lab import Lab
from tests.lab.control import Cloud, url
from tests.lab.far import Far, far_machine
from tests.lab.wire import Capture, make_known, taps
from tests.soak import choose

NARROW = 1300
SIZE = 400_000
BODY = (bytes(range(251)) * 1594)[:SIZE]
ERROR = {4: (1, 3), 6: (58, 2)}
"""Protocol and type of *fragmentation needed* (RFC 1191) and *packet too big* (RFC 8201)."""


@pytest.fixture
def far(lab: Lab) -> Iterator[Far]:
    """A client behind the narrow link, of which no guest remembers anything."""
    with far_machine(lab, NARROW) as machine:
        yield machine


@pytest.mark.requirement("L12")
@pytest.mark.parametrize(
    ("data_plane", "version"),
    choose([("dr", 4), ("tun", 6), ("nat", 4)], [("dr", 6), ("tun", 4), ("nat", 6)]),
)
def test_what_a_router_says_of_its_mtu_reaches_the_member(
    lab: Lab, cloud: Cloud, far: Far, data_plane: str, version: int
) -> None:
    make_known(lab, cloud)
    holders = [] if data_plane == "nat" else ["vm1", "vm3"]
    members = [{"server": "vm1"}, {"server": "vm3"}]
    pool = cloud.pool(holders, version, data_plane=data_plane, members=members)
    hosts = [lab.host("compute1"), lab.host("compute2")]
    with ExitStack() as stack:
        links = [stack.enter_context(Capture(h, far.address(version), *taps(h))) for h in hosts]
        for _ in hosts:
            far.run(["curl", "-sS", "-m", "20", "-o", "/run/down", f"{url(pool)}bytes/{SIZE}"])
            assert (lab.host("client").root / "run/down").read_bytes() == BODY
    assert all(_told(link.frames, version) for link in links), "a router told each member"


def _told(frames: list[bytes], version: int) -> bool:
    """Whether an error of the kind is among the frames."""
    at, header = (9, 20) if version == 4 else (6, 40)
    packets = [frame[14:] for frame in frames if frame[12:14] != b"\x08\x06"]
    return any((p[at], p[header]) == ERROR[version] for p in packets if p[0] >> 4 == version)
