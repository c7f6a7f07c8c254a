# SPDX-License-Identifier: Apache-2.0
"""``openstack anycast pool status`` and ``stats``: what a pool does right now."""

import argparse
from collections.abc import Iterator
from typing import Any

from cloudlb.client.osc.command import Table
from cloudlb.client.resources import PoolStatus
from cloudlb.schemas import pool as schema
from cloudlb.schemas.stats import COUNTERS, HOST_COUNTERS, RATES

_COLUMNS = ("object", "name", "condition", "state", "reason")


class PoolStatusTable(Table):
    """Show a pool's conditions, then what each host and each member has to say to them."""

    owner = "pool"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """A row for each condition."""
        status = self.proxy.get_pool_status(self.proxy.find_pool(parsed_args.pool))
        rows = (dict(zip(_COLUMNS, row, strict=True)) for row in _rows(status))
        return self._table(_COLUMNS, rows)


def _rows(status: PoolStatus) -> Iterator[tuple[str, str, str, str, str]]:
    for name in schema.CONDITIONS:
        condition = status[name]
        yield "pool", status.name, name, condition["state"], condition["reason"]
    for host in status.hosts:
        if not host["alive"]:
            yield "host", host["host"], "agent", "silent", "its agent does not report"
        yield "host", host["host"], "realized", host["state"], host["reason"]
        if host["announcing"]:
            yield "host", host["host"], "announcing", "yes", "it answers for the address"
    for member in status.members:
        where = f"{member['placement']} on {member['host']}" if member["host"] else "waiting"
        yield "member", member["name"], "placement", where, member["placement_reason"]
        if not member["admin_state_up"] or not member["weight"]:
            why = "disabled" if not member["admin_state_up"] else "its weight is 0"
            yield "member", member["name"], "admin", "no new connections", why
        if member["removing"]:
            yield "member", member["name"], "removing", "yes", "its last connections may end"
        yield "member", member["name"], "health", member["health"], member["health_reason"]


class PoolStatsTable(Table):
    """Show the counters of each member of a pool and their sum, or those of its directors."""

    owner = "pool"

    def _add(self, parser: Any) -> None:
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--rate", action="store_true", help="Rates instead of counts")
        hosts = "What each director has: its load, what it serves and has passed on, its table"
        ways.add_argument("--hosts", action="store_true", help=hosts)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """A row for each member, or for each director."""
        stats = self.proxy.get_pool_stats(self.proxy.find_pool(parsed_args.pool))
        if stats.missing:
            self.log.warning("No answer from %s: not in the counts", ", ".join(stats.missing))
        if parsed_args.hosts:
            return self._table(("host", *HOST_COUNTERS), stats.hosts)
        numbers = RATES if parsed_args.rate else COUNTERS
        total = {**dict(stats.items()), "name": "total", "host": ""}
        return self._table(("name", "host", *numbers), [*stats.members, total])
