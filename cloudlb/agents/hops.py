# SPDX-License-Identifier: Apache-2.0
"""Neighbours by which a director reaches remote servers, as its kernel knows them (L21)."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.net.hop import NextHop, next_hops
from cloudlb.net.link import Link

LOG = logging.getLogger(__name__)
_Way = tuple[int, str, Address]


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop: its Ethernet address, else the ``obstacle``; neither while it is asked for."""

    mac: Mac | None = None
    obstacle: str = ""

    @property
    def is_asked_for(self) -> bool:
        """Whether nobody can know yet."""
        return self.mac is None and not self.obstacle


class Hops:
    """What is known of next hops, of which the kernel is asked in every `refresh`.

    ``ask`` is `cloudlb.net.hop.next_hops`.
    """

    def __init__(
        self,
        ask: Callable[[int, Collection[Address]], Mapping[Address, NextHop]] = next_hops,
    ) -> None:
        self._ask, self._lock = ask, threading.RLock()
        self._known: dict[_Way, Hop] = {}
        self._wanted: set[_Way] = set()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Keep to those that are wanted in this block; a refresh waits for its end."""
        with self._lock:
            self._wanted = set()
            yield

    def towards(self, link: Link, address: Address) -> Hop:
        """The next hop on a link towards an address, as the latest refresh has found it."""
        with self._lock:
            way = link.index, link.name, address
            self._wanted.add(way)
            return self._known.get(way, Hop())

    def refresh(self) -> bool:
        """Ask again; whether anything is otherwise than it was.

        The kernel begins to look for a neighbour when it is asked first, so its silence says
        something from the second time on.
        """
        with self._lock:
            wanted, old = set(self._wanted), self._known
        found = {way: old[way] for way in wanted if way in old}
        for (index, name), addresses in _by_link(wanted).items():
            try:
                hops = self._ask(index, addresses)
            except OSError as error:
                LOG.warning("interface=%s next hops unknown: %s", name, error)
                continue
            for address, hop in hops.items():
                way = index, name, address
                found[way] = _judge(name, address, hop, asked_before=way in old)
        with self._lock:
            self._known = found
        return any(hop != old.get(way, Hop()) for way, hop in found.items())


def _by_link(ways: Collection[_Way]) -> dict[tuple[int, str], list[Address]]:
    found: dict[tuple[int, str], list[Address]] = defaultdict(list)
    for index, name, address in ways:
        found[index, name].append(address)
    return found


def _judge(interface: str, address: Address, hop: NextHop, *, asked_before: bool) -> Hop:
    if hop.address is None:
        return Hop(obstacle=f"the director has no route to {address} by {interface}")
    if hop.mac or not asked_before:
        return Hop(hop.mac)
    return Hop(obstacle=f"nobody answers for {hop.address} on {interface} of the director")
