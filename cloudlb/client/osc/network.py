# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast network``."""

import argparse
from collections.abc import Iterable
from typing import Any

from cloudlb.client.osc import arguments
from cloudlb.client.osc.command import Create, Delete, List, Noun, Set, Show
from cloudlb.client.resources import Network
from cloudlb.schemas import network as schema


class _Networks(Noun):
    noun = "network"
    spec = schema.SPEC
    fields = tuple(schema.SHOW["properties"]["network"]["properties"])
    lists = (("--subnet", "prefixes"), ("--vip-range", "vip_range"))

    def _options(self, parser: Any, creates: bool) -> None:
        arguments.add(parser, "name" if creates else "--name", schema.SPEC)
        needed = {"required": True} if creates else {}
        arguments.add(parser, "--subnet", schema.SPEC, "prefixes", metavar="<cidr>", **needed)
        arguments.add(parser, "--vip-range", schema.SPEC, metavar="<cidr>")

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Network]:
        return self.proxy.networks(**query)

    def _find(self, args: argparse.Namespace, reference: str) -> Network:
        return self.proxy.find_network(reference)

    def _create(self, args: argparse.Namespace, attrs: dict[str, Any]) -> Network:
        return self.proxy.create_network(**attrs)

    def _update(self, args: argparse.Namespace, item: Network, attrs: dict[str, Any]) -> None:
        self.proxy.update_network(item, **attrs)

    def _delete(self, item: Network) -> None:
        self.proxy.delete_network(item)


class CreateNetwork(_Networks, Create):
    """Create a network, the layer-2 domain of pools and their members."""


class ListNetworks(_Networks, List):
    """List networks."""

    names = ("id", "name", "number", "prefixes", "vip_range")
    long_names = ("project_id",)


class ShowNetwork(_Networks, Show):
    """Show a network."""


class SetNetwork(_Networks, Set):
    """Change a network: blocks are added, with --no-… they replace all that are there."""


class DeleteNetworks(_Networks, Delete):
    """Delete networks that no pool uses."""
