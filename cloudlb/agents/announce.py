# SPDX-License-Identifier: Apache-2.0
"""Tells a network's link that this host has an address now."""

import logging
import threading
from collections.abc import Collection
from uuid import UUID

from cloudlb.agents.ports import Ports
from cloudlb.model.dataplane import Plane
from cloudlb.net.frame import announcement
from cloudlb.net.packet import send_frame

LOG = logging.getLogger(__name__)
_TIMES = 3


class Announcer:
    """Announces an address at once and twice more, whenever `again` is called.

    Once is not enough: Linux ignores what contradicts an entry younger than a second.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._lock = threading.Lock()
        self._waiting: dict[UUID, tuple[Plane, int]] = {}

    def announce(self, plane: Plane) -> None:
        """Others on the link may still know another's Ethernet address."""
        self._tell(plane)
        with self._lock:
            self._waiting[plane.pool_id] = plane, _TIMES - 1

    def again(self, directed: Collection[UUID]) -> None:
        """Repeat announcements for those pools that are still directed here."""
        with self._lock:
            due, self._waiting = self._waiting, {}
        for pool_id, (plane, left) in due.items():
            if pool_id not in directed:
                continue
            self._tell(plane)
            if left > 1:
                with self._lock:
                    self._waiting.setdefault(pool_id, (plane, left - 1))

    def _tell(self, plane: Plane) -> None:
        link = self._ports.uplink_of(plane.network)
        if link is None:
            return
        try:
            send_frame(link.name, announcement(plane.address, link.mac))
        except OSError as error:
            LOG.warning("address=%s not announced: %s", plane.address, error)
