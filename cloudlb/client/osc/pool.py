# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast pool``: create, list, show, set, unset, delete."""

import argparse
from collections.abc import Iterable
from typing import Any

from cloudlb.client.osc import arguments
from cloudlb.client.osc.command import Create, Delete, List, Noun, Set, Show, Unset
from cloudlb.client.resources import Pool
from cloudlb.schemas import pool as schema
from cloudlb.schemas.fields import Schema
from cloudlb.schemas.monitor import MONITOR


def _settings(spec: Schema) -> str:
    return ",".join(f"{name}=…" for name in spec["properties"])


class _Pools(Noun):
    noun = "pool"
    until = "every host has realized it"
    spec = schema.SPEC
    fields = tuple(schema.SHOW["properties"]["pool"]["properties"])
    lists = (("--port", "ports"),)

    def _options(self, parser: Any, creates: bool) -> None:
        spec = schema.SPEC
        port = {"metavar": "<protocol:port>", "help": "A port, as tcp:80; repeat for several"}
        arguments.add(parser, "name" if creates else "--name", spec)
        arguments.add(parser, "--description", spec)
        arguments.add(parser, "--port", spec, "ports", **port, required=creates)
        arguments.add(parser, "--data-plane", spec, metavar="<driver>")
        arguments.add(parser, "--scheduler", spec)
        arguments.add(parser, "--rotation-order", spec)
        arguments.add(parser, "--connection-count", spec)
        arguments.add(parser, "--persistence", spec, metavar=_settings(schema.PERSISTENCE))
        arguments.add(parser, "--timeouts", spec, metavar=_settings(schema.TIMEOUTS))
        arguments.add(parser, "--director", spec, "directors", metavar="<host>")
        arguments.add(parser, "--forwarding", spec)
        arguments.add(parser, "--entry-host", spec, metavar="<host>")
        arguments.add(parser, "--translation", spec)
        arguments.add_switch(parser, "--masquerade", spec)
        arguments.add(parser, "--client-address", spec)
        arguments.add(parser, "--failover", spec)
        arguments.add(parser, "--monitor", spec, metavar=_settings(MONITOR))
        arguments.add(parser, "--down-action", spec)
        arguments.add(parser, "--panic-threshold", spec, metavar="<percent>")
        arguments.add(parser, "--drain-timeout", spec, metavar="<seconds>")
        arguments.add_admin_state(parser)

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Pool]:
        return self.proxy.pools(**query)

    def _find(self, args: argparse.Namespace, reference: str) -> Pool:
        return self.proxy.find_pool(reference)

    def _create(self, args: argparse.Namespace, attrs: dict[str, Any]) -> Pool:
        network = self.proxy.find_network(args.network)
        return self.proxy.create_pool(self._seconds_left(args), network_id=network.id, **attrs)

    def _update(self, args: argparse.Namespace, item: Pool, attrs: dict[str, Any]) -> None:
        self.proxy.update_pool(item, self._seconds_left(args), **attrs)

    def _delete(self, item: Pool) -> None:
        self.proxy.delete_pool(item)


class CreatePool(_Pools, Create):
    """Create a pool: one address whose connections its members share."""

    spec = schema.CREATE["properties"]["pool"]["properties"]

    def _options(self, parser: Any, creates: bool) -> None:
        network = "Name or ID of the network of the address"
        parser.add_argument("--network", metavar="<network>", required=True, help=network)
        address = parser.add_mutually_exclusive_group()
        arguments.add(address, "--address", self.spec)
        arguments.add(address, "--ip-version", self.spec, metavar="<4|6>")
        server = "A server by name or UUID, as vm1 or vm1,weight=2; repeat for several"
        arguments.add(parser, "--member", self.spec, "members", metavar="<server>", help=server)
        super()._options(parser, creates)


class ListPools(_Pools, List):
    """List pools."""

    names = ("id", "name", "address", "ports", "admin", "realized", "health", "removing")
    long_names = ("data_plane", "scheduler", "directors", "network_id", "project_id")

    def _add(self, parser: Any) -> None:
        super()._add(parser)
        parser.add_argument("--network", metavar="<network>", help="Only pools of this network")

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Pool]:
        if args.network:
            query["network_id"] = self.proxy.find_network(args.network).id
        return super()._items(args, query)


class ShowPool(_Pools, Show):
    """Show a pool with its members."""


class SetPool(_Pools, Set):
    """Change a pool: ports are added, with --no-port they replace all that are there."""


class UnsetPool(_Pools, Unset):
    """Give settings of a pool their defaults, or remove ports."""

    resets = (
        ("--description", "description"),
        ("--data-plane", "data_plane"),
        ("--scheduler", "scheduler"),
        ("--rotation-order", "rotation_order"),
        ("--connection-count", "connection_count"),
        ("--persistence", "persistence"),
        ("--timeouts", "timeouts"),
        ("--director", "directors"),
        ("--forwarding", "forwarding"),
        ("--entry-host", "entry_host"),
        ("--translation", "translation"),
        ("--masquerade", "masquerade"),
        ("--client-address", "client_address"),
        ("--failover", "failover"),
        ("--monitor", "monitor"),
        ("--down-action", "down_action"),
        ("--panic-threshold", "panic_threshold"),
        ("--drain-timeout", "drain_timeout"),
    )


class DeletePools(_Pools, Delete):
    """Delete pools with their members."""

    gone = "no host has anything of them"
