# SPDX-License-Identifier: Apache-2.0
"""Network interfaces: what there is, what appears and goes, and the addresses on them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_AF_UNSPEC = 0
_ANYWHERE = ("198.51.100.1", "2001:db8::1")
"""Addresses that are in no host's networks (RFC 5737, RFC 3849)."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; ``master`` is the ifindex of the bridge that it is a port of, else 0.

    ``device`` is the name that its bus has for a physical one, empty for a virtual one.
    """

    index: int
    name: str
    mac: Mac
    master: int = 0
    kind: str = ""
    mtu: int = 1500
    device: str = ""

    @property
    def is_tap(self) -> bool:
        """Whether a guest may be behind it."""
        return self.kind == "tun"


def links(ipr: IPRoute) -> list[Link]:
    """All interfaces that have an Ethernet address."""
    return [link for message in ipr.get_links() if (link := _link(message))]


def addresses(index: int) -> list[Address]:
    """The addresses on an interface that can be used now, none that is still tentative."""
    tentative = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED (linux/if_addr.h)
    with IPRoute() as ipr:
        return [
            ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
            for message in ipr.get_addr(index=index)
            if not (message.get_attr("IFA_FLAGS") or 0) & tentative
        ]


def gateways(index: int) -> list[Address]:
    """The next hops of an interface's default routes, link-local ones left out."""
    found: set[Address] = set()
    with IPRoute() as ipr:
        for anywhere in _ANYWHERE:
            with suppress(NetlinkError):  # there is no such route
                (route,) = ipr.route("get", dst=anywhere, oif=index)
                hop = route.get_attr("RTA_GATEWAY") or (route.get_attr("RTA_VIA") or {}).get(
                    "addr"
                )
                found |= {ip_address(hop)} if hop else set()
    return [hop for hop in found if not hop.is_link_local]


def link_with(address: Address) -> str:
    """The name of the interface that has an address of this host; empty if none has."""
    with IPRoute() as ipr:
        for message in ipr.get_addr():
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if local == str(address):
                return str(ipr.get_links(message["index"])[0].get_attr("IFLA_IFNAME"))
    return ""


class LinkMonitor:
    """Tells of every link that appears, changes or goes, in the order of the kernel's messages.

    ``changed(link)``, ``gone(index)`` and ``readdressed(index)``, which follows a change of the
    addresses on a link, run in the monitor's thread and must be quick: a guest's tap carries its
    first frame about half a second after it appears. ``listed()`` follows when every link that
    was there at the start has been told.
    """

    def __init__(
        self,
        changed: Callable[[Link], None],
        gone: Callable[[int], None],
        listed: Callable[[], None],
        readdressed: Callable[[int], None] = lambda _index: None,
    ) -> None:
        self._changed, self._gone, self._listed = changed, gone, listed
        self._readdressed = readdressed

    def run(self, stopping: threading.Event) -> None:
        """Listen until ``stopping``; starts with a message for each present link."""
        with IPRoute() as ipr:
            ipr.bind(groups=_RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
            closer = threading.Thread(target=_close_when, args=(stopping, ipr), daemon=True)
            closer.start()
            with IPRoute() as dump:
                for link in links(dump):
                    self._changed(link)
            self._listed()
            while not stopping.is_set():
                try:
                    messages = list(ipr.get())
                except OSError:
                    if stopping.is_set():
                        return
                    raise
                for message in messages:
                    self._handle(message)

    def _handle(self, message: Any) -> None:
        """Of family AF_UNSPEC only: a bridge sends its own DELLINK before the real one."""
        if message.get("event") in ("RTM_NEWADDR", "RTM_DELADDR"):
            self._readdressed(message["index"])
        if message.get("family") != _AF_UNSPEC:
            return
        if message.get("event") == "RTM_DELLINK":
            self._gone(message["index"])
        elif message.get("event") == "RTM_NEWLINK" and (link := _link(message)):
            self._changed(link)


def _close_when(stopping: threading.Event, ipr: IPRoute) -> None:
    stopping.wait()
    ipr.close()


def _link(message: Any) -> Link | None:
    mac = message.get_attr("IFLA_ADDRESS")
    if not mac or len(mac) != 17:
        return None
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=Mac(mac),
        master=message.get_attr("IFLA_MASTER") or 0,
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        mtu=message.get_attr("IFLA_MTU"),
        device=message.get_attr("IFLA_PARENT_DEV_NAME") or "",
    )
