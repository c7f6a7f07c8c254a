# SPDX-License-Identifier: Apache-2.0
"""Ringing many hosts' doorbells, which may fail: an agent that hears nothing pulls by itself."""

import logging
from collections.abc import Callable, Mapping

import oslo_messaging

from cloudlb.rpc.client import AgentClient

LOG = logging.getLogger(__name__)


def doorbell(client: AgentClient) -> Callable[[Mapping[str, int]], None]:
    """A function that rings the doorbells of hosts by name and generation, and never raises.

    A bus that is down is logged when it goes and when it is back.
    """
    down = False

    def ring(hosts: Mapping[str, int]) -> None:
        nonlocal down
        try:
            for host, generation in hosts.items():
                client.changed(host, generation)
        except (oslo_messaging.MessagingException, OSError) as error:
            if not down:
                LOG.warning("bus=down cause=%s; agents pull by themselves", error)
            down = True
            return
        if down:
            LOG.info("bus=up")
        down = False

    return ring
