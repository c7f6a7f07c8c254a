# SPDX-License-Identifier: Apache-2.0
"""What a host does as master of virtual routers, without its agent: leases and announcements.

A process of its own runs this, the parent of keepalived, so that an agent may die or be exchanged
while elections go on. It knows what is in the pinned maps, and one file. A router's lease in the
map lasts three heartbeats: about as long as others take to notice that they are gone.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cloudlb.agents import keepalived
from cloudlb.model.network import Address
from cloudlb.net.bpf import layout
from cloudlb.net.bpf.layout import Count, Number, PoolRecord, VipKey, unpack_address
from cloudlb.net.bpf.libbpf import Libbpf
from cloudlb.net.bpf.maps import BpfMap
from cloudlb.net.frame import announcement
from cloudlb.net.packet import mac_of, send_frame

LOG = logging.getLogger(__name__)
_LEASE = 3
_TIMES = 3
_PAUSE = 1.0  # Linux ignores what contradicts an entry younger than a second
_REMINDER = 10  # heartbeats


class Addresses:
    """The addresses of virtual routers, and the leases by which they are announced, in the maps
    that an engine has pinned.
    """

    def __init__(self, pins: Path) -> None:
        libbpf, number = Libbpf(), layout.NUMBER
        self._vips: BpfMap[VipKey, Number] = BpfMap(libbpf, pins / "vips", layout.VIP_KEY, number)
        self._pools: BpfMap[Number, PoolRecord] = BpfMap(
            libbpf, pins / "pools", number, layout.POOL
        )
        self._leases: BpfMap[Number, Count] = BpfMap(libbpf, pins / "leases", number, layout.COUNT)

    def of(self, router: int) -> Iterator[Address]:
        """Those whose pools elect as this router."""
        for key, number in self._vips.items():
            pool = self._pools.get(number)
            if pool and pool.router == router:
                yield unpack_address(key.address)

    def lease(self, router: int, until: int) -> None:
        """Announce until a time, in nanoseconds since boot; 0 to stop."""
        self._leases[Number(router)] = Count(until)


class Herald:
    """Keeps the leases of the routers that this host is master of, and tells their links: at once,
    and now and then, since one who was master all the time does not hear that another one was,
    too, while the network was parted.

    ``clock`` gives nanoseconds since boot.
    """

    def __init__(
        self,
        addresses: Addresses,
        interval: float,
        tell: Callable[[str, Address], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._addresses, self._tell, self._clock = addresses, tell, clock
        self._lease = int(interval * _LEASE * 1e9)
        self._reminder = int(interval * _REMINDER * 1e9)
        self._links: Mapping[int, str] = {}
        self._mastered: set[int] = set()
        self._due: dict[int, tuple[int, int]] = {}

    def serve(self, links: Mapping[int, str]) -> None:
        """Stand in exactly these elections: routers, and the interfaces of their addresses."""
        for router in self._mastered - links.keys():
            self._stop(router)
        self._links = dict(links)

    def hear(self, line: str) -> None:
        """Take what keepalived says."""
        said = keepalived.transition(line)
        if said is None or said[0] not in self._links:
            return
        router, is_master = said
        if is_master and router not in self._mastered:
            self._begin(router)
        elif not is_master and router in self._mastered:
            self._stop(router)

    def renew(self) -> None:
        """Renew all leases and repeat what is due; to be called several times in an interval."""
        now = self._clock()
        for router in self._mastered:
            self._addresses.lease(router, now + self._lease)
        for router, (due, left) in list(self._due.items()):
            if now >= due:
                self._announce(router, left)

    def stop(self) -> None:
        """Be master of nothing."""
        for router in list(self._mastered):
            self._stop(router)

    def _begin(self, router: int) -> None:
        self._mastered.add(router)
        self._addresses.lease(router, self._clock() + self._lease)
        LOG.info("router=%d state=master", router)
        self._announce(router, _TIMES)

    def _stop(self, router: int) -> None:
        self._mastered.discard(router)
        self._due.pop(router, None)
        self._addresses.lease(router, 0)
        LOG.info("router=%d state=backup", router)

    def _announce(self, router: int, left: int) -> None:
        for address in self._addresses.of(router):
            self._tell(self._links[router], address)
        pause = int(_PAUSE * 1e9) if left > 1 else self._reminder
        self._due[router] = self._clock() + pause, max(left - 1, 1)


def tell(link: str, address: Address) -> None:
    """Say on a link that an address is at this host now."""
    try:
        send_frame(link, announcement(address, mac_of(link)))
    except OSError as error:
        LOG.warning("address=%s link=%s not announced: %s", address, link, error)
