# SPDX-License-Identifier: Apache-2.0
"""The connection to a host's libvirt: its domains and their events."""

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from cloudlb.virt.xml import Domain, parse_bridge, parse_domain, with_bridges

LOG = logging.getLogger(__name__)
_RETRY = 2.0
_KEEPALIVE = 5


class Libvirt:
    """A libvirt host. The connection comes back by itself when libvirtd restarts.

    ``changed()`` is called from the event thread whenever a domain starts, stops, or is defined
    or undefined, and when the connection comes or goes. Only one object may exist in a process:
    libvirt has one event loop.
    """

    def __init__(self, uri: str, changed: Callable[[], None]) -> None:
        self._uri, self._changed = uri, changed
        self._connection: Any = None
        self._is_missed = False
        self._lock = threading.Lock()
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda *_: None, None)

    def run(self, stopping: threading.Event) -> None:
        """Keep a connection and run libvirt's event loop until ``stopping``."""
        timer = libvirt.virEventAddTimeout(500, lambda *_: None, None)
        while not stopping.is_set():
            if self._connection is None and not self._connect():
                stopping.wait(_RETRY)
                continue
            libvirt.virEventRunDefaultImpl()
        libvirt.virEventRemoveTimeout(timer)
        self._drop()

    def domains(self) -> dict[Domain, bool] | None:
        """Every domain and whether it runs; None while there is no connection."""
        connection = self._connection
        if connection is None:
            return None
        found: dict[Domain, bool] = {}
        bridges = functools.cache(functools.partial(_bridge, connection))
        try:
            for domain in connection.listAllDomains():
                described = _describe(domain)
                if described:
                    found[with_bridges(described[0], bridges)] = described[1]
        except libvirt.libvirtError as error:
            LOG.warning("libvirt=%s failed: %s", self._uri, error)
            return None
        return found

    def _connect(self) -> bool:
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            if not self._is_missed:
                LOG.warning("libvirt=%s state=unreachable: %s", self._uri, error)
                self._is_missed = True
            return False
        self._keep_alive(connection)
        connection.registerCloseCallback(self._closed, None)
        for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT):
            connection.domainEventRegisterAny(None, event, lambda *_: self._changed(), None)
        with self._lock:
            self._connection = connection
        self._is_missed = False
        LOG.info("libvirt=%s state=connected", self._uri)
        self._changed()
        return True

    def _keep_alive(self, connection: Any) -> None:
        """Notice a libvirtd that hangs; a driver inside this process has nothing to ask."""
        try:
            connection.setKeepAlive(_KEEPALIVE, 3)
        except libvirt.libvirtError as error:
            LOG.debug("libvirt=%s without keep-alive: %s", self._uri, error)

    def _closed(self, _connection: Any, reason: int, _opaque: Any) -> None:
        LOG.warning("libvirt=%s state=lost reason=%d", self._uri, reason)
        self._drop()
        self._changed()

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except libvirt.libvirtError as error:
                LOG.debug("libvirt=%s close: %s", self._uri, error)


def _describe(domain: Any) -> tuple[Domain, bool] | None:
    """None for a domain that went away between the list and the question."""
    try:
        return parse_domain(domain.XMLDesc(0)), bool(domain.isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    except ValueError as error:
        LOG.warning("domain=%s left out: %s", domain.name(), error)
        return None


def _bridge(connection: Any, network: str) -> str:
    """The bridge of a network; empty when nobody can tell.

    The network may be gone, and so may be the daemon for networks: domains are told all the same.
    """
    try:
        return parse_bridge(connection.networkLookupByName(network).XMLDesc(0))
    except libvirt.libvirtError as error:
        LOG.debug("network=%s bridge=unknown: %s", network, error)
        return ""
