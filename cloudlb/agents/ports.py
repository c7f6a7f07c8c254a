# SPDX-License-Identifier: Apache-2.0
"""Which interfaces of this host carry programs: the uplinks of directors, the taps of guests.

A host whose guests' pools are directed by their own hosts is a director of these, too.

Links are followed by netlink and not by libvirt: a tap is attached within milliseconds of its
joining the bridge, while libvirt's events come after the guest's first frames (measured, see
doc/source/contributor/architecture.rst).
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cloudlb.engines.base import Engine, HostPort, PortKind
from cloudlb.model.errors import CloudlbError
from cloudlb.model.host import Role
from cloudlb.model.network import Address
from cloudlb.model.snapshot import PoolView
from cloudlb.net import link as kernel
from cloudlb.net.link import Link

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Uplinked:
    """A mapped network's interface as it is now."""

    network: str
    link: Link


class Xdp(StrEnum):
    """On which uplinks packets of known connections go back in the driver.

    On a virtual one that is slower: packets that the kernel would pass on as one are cut first.
    """

    AUTO = "auto"
    NEVER = "never"
    ALWAYS = "always"

    def suits(self, link: Link) -> bool:
        """Whether it is to be tried on an interface; ``auto``: on physical ones."""
        return self is not Xdp.NEVER and (self is Xdp.ALWAYS or bool(link.device))


def directed(host: str, views: Iterable[PoolView]) -> frozenset[int]:
    """The numbers of the networks in which a host directs pools."""
    return frozenset(
        view.network.number for view in views if not view.removing and host in view.pool.directors
    )


class Ports:
    """Keeps the engine's ports in agreement with links, mappings and networks' numbers.

    ``changed()`` is called when something that the inventory tells has changed. ``addresses``
    asks the kernel for those of an interface.
    """

    def __init__(
        self,
        mappings: Mapping[str, str],
        roles: frozenset[Role],
        engine: Engine,
        lock: threading.RLock,
        changed: Callable[[], None],
        addresses: Callable[[int], list[Address]] = kernel.addresses,
        xdp: Xdp = Xdp.AUTO,
    ) -> None:
        self._mappings, self._roles = mappings, roles
        self._engine, self._lock, self._changed = engine, lock, changed
        self._ask_addresses, self._xdp = addresses, xdp
        self._addresses: dict[int, tuple[Address, ...]] = {}
        self._refused: frozenset[int] = frozenset()
        self._links: dict[int, Link] = {}
        self._numbers: dict[str, int] | None = None
        self._directed: frozenset[int] = frozenset()
        self._is_listed = False
        self._attached: dict[int, HostPort] = {}

    def link_changed(self, link: Link) -> None:
        """A link appeared or changed."""
        with self._lock:
            old = self._links.get(link.index)
            if old == link:
                return
            self._links[link.index] = link
            self._read_addresses(link.index)
            self._follow(link.index)
            if {link.name, old.name if old else ""} & set(self._mappings.values()):
                self.reconcile()
        self._changed()

    def readdressed(self, index: int) -> None:
        """The addresses on a link have changed: an uplink's programs send from them."""
        with self._lock:
            if not self._read_addresses(index):
                return
            self._follow(index)
        self._changed()

    def links_listed(self) -> None:
        """All links that there are have been told: what is missing is really gone."""
        with self._lock:
            self._is_listed = True
            self.reconcile()

    def link_gone(self, index: int) -> None:
        """A link is no more."""
        with self._lock:
            if self._links.pop(index, None) is not None:
                self._addresses.pop(index, None)
                self._follow(index)
                self._attached.pop(index, None)
        self._changed()

    def set_numbers(
        self, numbers: Mapping[str, int], directed: frozenset[int] = frozenset()
    ) -> None:
        """Take note of the numbers of networks, by name, and of the ``directed`` ones.

        Of these the host directs pools, whatever its roles are.
        """
        with self._lock:
            if (numbers, directed) != (self._numbers, self._directed):
                self._numbers, self._directed = dict(numbers), directed
                self.reconcile()

    def reconcile(self) -> None:
        """Attach and detach until the engine has exactly the wanted ports."""
        with self._lock:
            for index in set(self._links) | self._engine.ports():
                self._follow(index)

    def resync(self) -> None:
        """Look at all anew, and put programs back that somebody else has taken off."""
        with self._lock:
            for index in set(self._links) | self._engine.ports():
                self._read_addresses(index)
                self._follow(index, anew=True)

    def again(self) -> None:
        """Try again what the kernel refused."""
        with self._lock:
            for index in tuple(self._refused):
                self._follow(index)

    def uplinks(self) -> tuple[Uplinked, ...]:
        """The mapped interfaces that exist."""
        with self._lock:
            by_name = {link.name: link for link in self._links.values()}
            return tuple(
                Uplinked(network, by_name[name])
                for network, name in sorted(self._mappings.items())
                if name in by_name
            )

    def uplink_of(self, number: int) -> Link | None:
        """The interface of the network with this number."""
        with self._lock:
            for uplinked in self.uplinks():
                if (self._numbers or {}).get(uplinked.network) == number:
                    return uplinked.link
            return None

    def tap(self, name: str) -> Link | None:
        """A tap by its name."""
        with self._lock:
            return next((link for link in self._links.values() if link.name == name), None)

    def network_of(self, tap: Link | None, bridge: str) -> str:
        """The mapped network that a tap, or a guest that is off, is plugged into; else empty."""
        with self._lock:
            master = self._links.get(tap.master) if tap else None
            name = master.name if master else bridge
            return next((n for n, i in self._mappings.items() if i == name), "")

    def _follow(self, index: int, anew: bool = False) -> None:
        """Bring one interface's programs in line with what it is now; ``anew`` looks again.

        Before all links and the networks' numbers are known, programs of an earlier agent stay
        where they are.
        """
        wanted = self._wanted(index)
        known, self._refused = index in self._refused, self._refused - {index}
        try:
            if wanted is None:
                if self._numbers is None or not self._is_listed:
                    return
                if index in self._engine.ports():
                    self._engine.detach(index)
                    LOG.info("interface=%d state=detached", index)
                self._attached.pop(index, None)
            elif anew or self._attached.get(index) != wanted:
                self._engine.attach(wanted)
                if self._attached.get(index) != wanted:
                    name = self._links[index].name
                    LOG.info("interface=%s kind=%s state=attached", name, wanted.kind)
                self._attached[index] = wanted
        except CloudlbError as error:
            self._refused |= {index}  # a link may go away at any moment
            if not known:
                LOG.warning("interface=%d state=failing: %s", index, error.detail)

    def _read_addresses(self, index: int) -> bool:
        """Whether an uplink has other addresses than before; they are in a fixed order."""
        link = self._links.get(index)
        if link is None or link.name not in self._mappings.values():
            return False
        found = sorted(self._ask_addresses(index), key=lambda a: (a.version, int(a)))
        old, self._addresses[index] = self._addresses.get(index), tuple(found)
        return old != tuple(found)

    def _directs(self, number: int) -> bool:
        return Role.DIRECTOR in self._roles or number in self._directed

    def _wanted(self, index: int) -> HostPort | None:
        link = self._links.get(index)
        if link is None:
            return None
        for network, interface in self._mappings.items():
            number = (self._numbers or {}).get(network)
            if number is None:
                continue
            if link.name == interface and self._directs(number):
                addresses = self._addresses.get(index, ())
                express = self._xdp.suits(link)
                kind = PortKind.UPLINK
                return HostPort(index, kind, number, link.mac, addresses, link.mtu, express)
            master = self._links.get(link.master)
            plugged = link.is_tap and master is not None and master.name == interface
            if plugged and Role.COMPUTE in self._roles:
                return HostPort(index, PortKind.TAP, number, link.mac, mtu=link.mtu)
        return None
