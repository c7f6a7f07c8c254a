# SPDX-License-Identifier: Apache-2.0
"""Run inside the guest: connections that the director translates, both ways, by the real engine.

Members and link are those of edge_nat.py. The director's interface has addresses of its own now,
by which its kernel finds the client.
"""

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from tests.guest.inside.direct_routing import Site, run
from tests.guest.inside.edge_nat import MEMBERS, OWN_PORT, VIPS, exchange, plane, site
from tests.planes import VIP4, VIP6

__all__ = ["site"]  # pytest finds the fixture by its name here
DIRECTOR = {4: "192.0.2.1", 6: "2001:db8::1"}
CLIENT = {4: "192.0.2.9/32", 6: "2001:db8::9/128"}


def translated(vip: Address, pool: int, mode: Mode) -> Plane:
    """The pool of edge_nat.py, whose director translates instead of its taps."""
    one = plane(vip, pool)
    assert one.frontend
    backends = tuple(replace(b, mode=mode, port=OWN_PORT) for b in one.frontend.backends)
    return replace(one, frontend=replace(one.frontend, backends=backends), guests=())


@pytest.fixture(params=[Mode.NAT, Mode.FULL_NAT], ids=["nat", "full"])
def by_director(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    """The site with a pool for each family; members answer by the director where they have to.

    Its address is on the uplink only: the bridge of the same kernel must not answer for it.
    """
    run("sysctl", "-q", "-w", "net.ipv4.conf.br0.arp_ignore=1")
    site.apply(translated(VIP4, 1, request.param), translated(VIP6, 2, request.param))
    for command in ("add", "del"):
        lines = "".join(
            f"address {command} {DIRECTOR[v]}/{length} dev up0\n"
            for v, length in ((4, 24), (6, 64))
        )
        run("ip", "-batch", "-", text=lines.replace("/64 dev up0\n", "/64 dev up0 nodad\n"))
        for number in MEMBERS if request.param is Mode.NAT else ():
            for version in (4, 6):
                route = ["route", command, CLIENT[version], "via", DIRECTOR[version]]
                run("ip", "-n", f"tap{number}", f"-{version}", *route)
        if command == "add":
            yield site
    site.apply(plane(VIP4, 1), plane(VIP6, 2))


@pytest.mark.parametrize("vip", VIPS)
def test_large_bodies_go_both_ways_through_the_director(by_director: Site, vip: Address) -> None:
    numbers = []
    for _ in range(4):
        numbers.append(exchange(by_director, vip))
        by_director.engine.sweep()
    assert Counter(numbers) == {17: 2, 18: 2}
    events = by_director.engine.events()
    assert (events["session_clash"], events["no_alias"]) == (0, 0)


@pytest.mark.parametrize("vip", VIPS)
def test_datagrams_are_answered_from_the_address(by_director: Site, vip: Address) -> None:
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    answers = []
    for _ in range(4):
        with by_director.client.do(lambda: socket.socket(family, socket.SOCK_DGRAM)) as asking:
            asking.settimeout(30)
            asking.connect((str(vip), 53))
            asking.send(b"who")
            answers.append(int(asking.recv(16)))
    assert Counter(answers) == {17: 2, 18: 2}
