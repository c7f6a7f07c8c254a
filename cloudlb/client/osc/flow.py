# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast pool flows`` and ``explain``: where connections of a pool go."""

import argparse
from ipaddress import ip_address
from typing import Any

from osc_lib.command import command
from osc_lib.exceptions import CommandError

from cloudlb.client.osc import arguments
from cloudlb.client.osc.command import Command, Table
from cloudlb.client.resources import Pool
from cloudlb.schemas import flow as schema

_COLUMNS = ("client", "client_port", "protocol", "port", "member_name", "state", "idle")
_SAID = ("director", "member_name", "member_id", "host", "reason", "detail")


class PoolFlowsTable(Table):
    """List connections that the pool's directors remember."""

    owner = "pool"

    def _add(self, parser: Any) -> None:
        arguments.add(parser, "--limit", schema.FLOWS_QUERY, metavar="<number>", default=100)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """A row for each connection."""
        pool = self.proxy.find_pool(parsed_args.pool)
        flows = self.proxy.pool_flows(pool, limit=parsed_args.limit)
        return self._table((*_COLUMNS, "director"), (flow.to_dict() for flow in flows))


class ExplainPool(Command, command.ShowOne):
    """Say which member the next packet of a client goes to, and why."""

    def _add(self, parser: Any) -> None:
        packet = {"type": _endpoint, "required": True, "metavar": "<address:port>"}
        source, to = "The client, as 192.0.2.1:40000", "The pool's port, as [2001:db8::1]:80"
        parser.add_argument("--from", dest="client", help=source, **packet)
        parser.add_argument("--to", dest="service", help=to, **packet)
        arguments.add(parser, "--protocol", schema.EXPLAIN_QUERY, default="tcp")
        parser.add_argument("--pool", metavar="<pool>", help="If several have the address")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """Find the pool by its address, and ask."""
        address, port = parsed_args.service
        pool = self._pool(parsed_args.pool, address)
        said = self.proxy.explain_pool(pool, parsed_args.client, parsed_args.protocol, port)
        return _SAID, tuple(said[name] for name in _SAID)

    def _pool(self, reference: str | None, address: str) -> Pool:
        if reference:
            return self.proxy.find_pool(reference)
        wanted = ip_address(address)
        found = [p for p in self.proxy.pools() if ip_address(p.address) == wanted]
        if len(found) == 1:
            return found[0]
        if not found:
            raise CommandError(f"No pool has the address {address}.")
        raise CommandError(f"{len(found)} pools have the address {address}; add --pool.")


def _endpoint(text: str) -> tuple[str, int]:
    """An address and a port; an IPv6 address stands in brackets (RFC 3986)."""
    address, _, port = text.rpartition(":")
    try:
        number = int(port)
        host = str(ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no address:port; write 192.0.2.1:80 or [2001:db8::1]:80"
        ) from None
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"the port {number} is not between 1 and 65535")
    return host, number
