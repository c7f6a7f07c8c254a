# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast pool member``."""

import argparse
from collections.abc import Iterable
from typing import Any

from cloudlb.client.osc import arguments
from cloudlb.client.osc.command import Create, Delete, List, Noun, Set, Show, Unset
from cloudlb.client.resources import Member
from cloudlb.schemas import member as schema

_OPTIONS = ("--name", "--port", "--weight")


class _Members(Noun):
    noun = "member"
    owner = "pool"
    until = "every host of the pool has realized it"
    spec = schema.SPEC
    fields = tuple(schema.READ["properties"])

    def _options(self, parser: Any, creates: bool) -> None:
        for flag in _OPTIONS:
            arguments.add(parser, flag, schema.SPEC)
        arguments.add(parser, "--backup", schema.SPEC, metavar="<true|false>")
        arguments.add(parser, "--prepared", schema.SPEC, metavar="<true|false>")
        arguments.add_admin_state(parser)

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Member]:
        return self.proxy.pool_members(self.proxy.find_pool(args.pool), **query)

    def _find(self, args: argparse.Namespace, reference: str) -> Member:
        return self.proxy.find_pool_member(self.proxy.find_pool(args.pool), reference)

    def _create(self, args: argparse.Namespace, attrs: dict[str, Any]) -> Member:
        pool = self.proxy.find_pool(args.pool)
        return self.proxy.create_pool_member(pool, self._seconds_left(args), **attrs)

    def _update(self, args: argparse.Namespace, item: Member, attrs: dict[str, Any]) -> None:
        self.proxy.update_pool_member(item, self._seconds_left(args), **attrs)

    def _delete(self, item: Member) -> None:
        self.proxy.delete_pool_member(item)


class CreateMember(_Members, Create):
    """Add a server to a pool."""

    def _options(self, parser: Any, creates: bool) -> None:
        server = parser.add_mutually_exclusive_group(required=True)
        arguments.add(server, "--server", self.spec)
        arguments.add(server, "--address", self.spec)
        remote = {"action": "store_const", "const": True}
        parser.add_argument("--remote", help=self.spec["remote"]["description"], **remote)
        super()._options(parser, creates)


class ListMembers(_Members, List):
    """List a pool's members."""

    names = (
        "id",
        "name",
        "server_name",
        "host",
        "weight",
        "backup",
        "admin_state_up",
        "placement",
        "health",
        "removing",
    )
    long_names = ("server", "addresses", "port", "mac", "tap", "source")


class ShowMember(_Members, Show):
    """Show a member of a pool."""


class SetMember(_Members, Set):
    """Change a member of a pool."""


class UnsetMember(_Members, Unset):
    """Give settings of a member their defaults."""

    resets = tuple((flag, flag[2:]) for flag in (*_OPTIONS, "--backup", "--prepared"))


class DeleteMembers(_Members, Delete):
    """Remove members from a pool; open connections may end within the drain timeout."""

    gone = "their last connections have ended"
