# SPDX-License-Identifier: Apache-2.0
"""The next hops on a link, as this host's routes and neighbours say."""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address

_NTF_USE = 0x01  # linux/neighbour.h: ask for it as a packet to it would
_NO_STATE = 0
_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent


@dataclass(frozen=True, slots=True)
class NextHop:
    """Who packets to an address go to: ``address`` is None without a route, ``mac`` while nobody
    has answered.
    """

    address: Address | None = None
    mac: Mac | None = None


def next_hops(index: int, addresses: Collection[Address]) -> dict[Address, NextHop]:
    """The next hops on interface ``index`` towards addresses; the kernel goes on asking for them.

    Raises OSError.
    """
    try:
        with IPRoute() as ipr:
            hops = {address: _route(ipr, index, address) for address in addresses}
            known = _neighbours(ipr, index)
            for hop in {hop for hop in hops.values() if hop is not None}:
                ipr.neigh("replace", dst=str(hop), ifindex=index, flags=_NTF_USE, state=_NO_STATE)
    except NetlinkError as error:
        raise OSError(error.code, f"next hops on interface {index}: {error}") from error
    return {address: NextHop(hop, known.get(hop)) for address, hop in hops.items()}


def _route(ipr: IPRoute, index: int, address: Address) -> Address | None:
    try:
        (route,) = ipr.route("get", dst=str(address), oif=index)
    except NetlinkError:
        return None
    hop = route.get_attr("RTA_GATEWAY") or (route.get_attr("RTA_VIA") or {}).get("addr")
    return ip_address(hop) if hop else address


def _neighbours(ipr: IPRoute, index: int) -> dict[Address | None, Mac]:
    return {
        ip_address(entry.get_attr("NDA_DST")): Mac(entry.get_attr("NDA_LLADDR"))
        for entry in ipr.get_neighbours(ifindex=index)
        if entry["state"] & _KNOWN and entry.get_attr("NDA_LLADDR")
    }
