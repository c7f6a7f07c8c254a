# SPDX-License-Identifier: Apache-2.0
"""Dataclass, table and schema name the same attributes."""

from dataclasses import fields
from typing import Any

import pytest

from cloudlb.db.models import Base, HostRow, MemberRow, NetworkRow, PoolRow, ServerRow
from cloudlb.drivers.base import Capabilities
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.host import Host, Server
from cloudlb.model.network import Network
from cloudlb.model.pool import Member, Monitor, Pool
from cloudlb.schemas import driver, host, member, monitor, network, pool, stats

TIMES = {"created_at", "updated_at"}


def _names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def _shown(schema: dict[str, Any], key: str) -> set[str]:
    return set(schema["properties"][key]["properties"])


def _columns(row: type[Base]) -> set[str]:
    return set(row.__table__.columns.keys())


@pytest.mark.parametrize(
    ("kind", "row", "shown", "only_stored", "only_shown"),
    [
        (Network, NetworkRow, _shown(network.SHOW, "network"), set(), set()),
        (
            Pool,
            PoolRow,
            _shown(pool.SHOW, "pool"),
            {"deleted_at"},
            {"members", "status", "removing"},
        ),
        (
            Member,
            MemberRow,
            _shown(member.SHOW, "member"),
            {"deleted_at", "health_host", "health_revision"},
            {
                "host",
                "mac",
                "tap",
                "addresses",
                "placement",
                "placement_reason",
                "source",
                "removing",
            },
        ),
    ],
)
def test_an_object_has_the_same_attributes_everywhere(
    kind: type,
    row: type[Base],
    shown: set[str],
    only_stored: set[str],
    only_shown: set[str],
) -> None:
    names = _names(kind) | TIMES
    extra = _columns(row) - names - only_stored
    assert names <= _columns(row)
    assert _columns(row) - names == only_stored | extra
    assert shown == names | extra | only_shown


def test_what_is_written_of_an_object_is_shown_of_it() -> None:
    assert set(network.SPEC) <= _shown(network.SHOW, "network")
    assert set(pool.SPEC) - _shown(pool.SHOW, "pool") == {"ip_version"}
    assert set(member.SPEC) - _shown(member.SHOW, "member") == {"address"}


def test_a_host_is_shown_as_the_model_has_it() -> None:
    assert _shown(host.SHOW, "host") == _names(Host)
    assert _names(Host) - {"alive"} == _columns(HostRow) - {"inventory_revision"}


def test_a_server_is_stored_as_the_model_has_it() -> None:
    assert _columns(ServerRow) == _names(Server) | {"host", "since"}


def test_counters_monitors_and_capabilities_agree() -> None:
    assert set(stats.COUNTERS) | {"member_id"} == _names(MemberCounters)
    assert set(monitor.MONITOR["properties"]) == _names(Monitor)
    items = driver.LIST["properties"]["drivers"]["items"]
    assert set(items["properties"]) == _names(Capabilities) | {"name"}


def test_monitor_defaults_are_the_same_in_model_and_schema() -> None:
    defaults = {f.name: f.default for f in fields(Monitor) if f.name != "type"}
    properties = monitor.MONITOR["properties"]
    assert {n: s["default"] for n, s in properties.items() if "default" in s} == defaults
