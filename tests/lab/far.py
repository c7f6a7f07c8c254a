# SPDX-License-Identifier: Apache-2.0
"""A machine behind a router with a narrow link: the lab's client is the router."""

from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import HOSTS

_CLIENT = next(spec for spec in HOSTS if spec.name == "client")
_ROUTER4, _ROUTER6 = "10.70.0.1", "fd70::1"
NET4, NET6 = "10.70.0.0/24", "fd70::/64"
_FORWARD = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
_SETUP = f"""link add far0 mtu {{mtu}} type veth peer name far1 netns far
address add {_ROUTER4}/24 dev far0
address add {_ROUTER6}/64 dev far0 nodad
link set far0 up
"""
_INSIDE = f"""link set lo up
address add 10.70.0.2/24 dev far1
address add fd70::2/64 dev far1 nodad
link set far1 up
route add default via {_ROUTER4}
route add default via {_ROUTER6}
"""


class Far:
    """The far machine."""

    def __init__(self, lab: Lab) -> None:
        self._client = lab.host("client")

    @staticmethod
    def address(version: int) -> str:
        """Its address of a family."""
        return "10.70.0.2" if version == 4 else "fd70::2"

    def run(self, argv: list[str], timeout: float = 60) -> CompletedProcess[str]:
        """Run a command there."""
        return self._client.run(["ip", "netns", "exec", "far", *argv], timeout=timeout)


@contextmanager
def far_machine(lab: Lab, mtu: int) -> Iterator[Far]:
    """One whose link carries ``mtu`` octets towards it; its own interface does not know that."""
    client = lab.host("client")
    routes = (("-4", NET4, str(_CLIENT.lan4)), ("-6", NET6, str(_CLIENT.lan6)))
    before = [client.run(["cat", path]).stdout.strip() for path in _FORWARD]
    client.run(["ip", "netns", "add", "far"])
    try:
        client.run(["ip", "-batch", "-"], input=_SETUP.format(mtu=mtu))
        client.run(["ip", "-netns", "far", "-batch", "-"], input=_INSIDE)
        _forward(lab, ["1", "1"])
        for guest in lab.guests:
            for family, net, router in routes:
                guest.run(["ip", family, "route", "add", net, "via", router])
        yield Far(lab)
    finally:
        for guest in lab.guests:
            for family, net, _ in routes:
                guest.run(["ip", family, "route", "del", net], check=False)
        _forward(lab, before)
        client.run(["ip", "netns", "del", "far"])


def _forward(lab: Lab, values: list[str]) -> None:
    for path, value in zip(_FORWARD, values, strict=True):
        lab.host("client").run(["tee", path], input=value)
