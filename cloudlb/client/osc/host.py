# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast host`` and ``openstack anycast driver``: what there is to build on."""

import argparse
from collections.abc import Iterable
from typing import Any

from cloudlb.client.osc import columns
from cloudlb.client.osc.command import Delete, List, Noun, Show, Table
from cloudlb.client.resources import Host
from cloudlb.schemas import driver
from cloudlb.schemas import host as schema


class _Hosts(Noun):
    noun = "host"
    fields = tuple(schema.SHOW["properties"]["host"]["properties"])

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Host]:
        return self.proxy.hosts(**query)

    def _find(self, args: argparse.Namespace, reference: str) -> Host:
        return self.proxy.find_host(reference)

    def _delete(self, item: Host) -> None:
        self.proxy.delete_host(item)


class ListHosts(_Hosts, List):
    """List the hosts whose agents have reported."""

    names = tuple(name for name in _Hosts.fields if name != "uplinks")


class ShowHost(_Hosts, Show):
    """Show a host with its uplinks."""


class DeleteHosts(_Hosts, Delete):
    """Declare hosts gone for good, so that nothing waits for them any more."""


class ListDrivers(Table):
    """List the data planes that a pool can ask for, and what each can do."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """Ask for them and show them."""
        names = driver.LIST["properties"]["drivers"]["items"]["properties"]
        return self._table(names, map(columns.flat, self.proxy.drivers()))
