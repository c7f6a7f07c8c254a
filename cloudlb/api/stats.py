# SPDX-License-Identifier: Apache-2.0
"""The counters of a pool, asked of its hosts and put together.

Connections and what goes in are counted by directors, where they are chosen; what goes out is
counted where it is last seen: at the members' taps, on their own hosts, or by the director that
translates it.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cloudlb.api.environment import Ask
from cloudlb.db.records import MemberRecord, PoolRecord
from cloudlb.model.errors import Unavailable
from cloudlb.schemas.stats import COUNTERS, RATES

_FIELDS = (*COUNTERS, *RATES)
_OUT = tuple(name for name in _FIELDS if "_out" in name)
_AT_DIRECTOR = tuple(name for name in _FIELDS if name not in _OUT)
_MOST_AT_ONCE = 32

Counts = dict[str, Any]


def ask_all(ask: Ask, hosts: Sequence[str], question: str, args: dict[str, Any]) -> dict[str, Any]:
    """Each host's answer, None for a host that gave none; a refusal is raised."""

    def ask_one(host: str) -> Any:
        try:
            return ask(host, question, args)
        except Unavailable:
            return None

    if not hosts:
        return {}
    with ThreadPoolExecutor(min(len(hosts), _MOST_AT_ONCE)) as threads:
        return dict(zip(hosts, threads.map(ask_one, hosts), strict=True))


def combine(
    record: PoolRecord, members: Sequence[MemberRecord], answers: Mapping[str, Any]
) -> dict[str, Any]:
    """The response: sums of the pool, and each member's counters."""
    by_host = {host: _by_member(answer) for host, answer in answers.items() if answer}
    shown = [_member(record, member, by_host) for member in members]
    return {
        "pool_id": str(record.pool.id),
        **{name: sum(counts[name] for counts in shown) for name in _FIELDS},
        "members": shown,
        "hosts": [
            _host(host, members, answer)
            for host in record.pool.directors
            if (answer := answers.get(host))
        ],
        "missing": sorted(host for host, answer in answers.items() if not answer),
    }


def _host(host: str, members: Sequence[MemberRecord], answer: Mapping[str, Any]) -> Counts:
    """What a director has counted of its own members, and of others that it passed packets on to.

    Each entry of its table counts for a member, as active or inactive.
    """
    counted = _by_member(answer)
    own = {
        str(m.member.id) for m in members if m.where.placement and m.where.placement.host == host
    }
    here = [counts for member, counts in counted.items() if member in own]
    there = [counts for member, counts in counted.items() if member not in own]
    load = answer.get("load") or {}
    return {
        "host": host,
        "load": load.get("value"),
        "load_limit": load.get("limit"),
        "served": _sum(here, "connections"),
        "serving": _sum(here, "active"),
        "passed_on": _sum(there, "connections"),
        "packets_served": _sum(here, "packets_in"),
        "packets_passed_on": _sum(there, "packets_in"),
        "table": _sum(counted.values(), "active") + _sum(counted.values(), "inactive"),
    }


def _sum(counted: Iterable[Counts], name: str) -> Any:
    return sum(counts.get(name, 0) for counts in counted)


def _by_member(answer: Mapping[str, Any]) -> dict[str, Counts]:
    """Counters and rates of each member that a host knows."""
    rates = answer.get("rates", {})
    return {
        counts["member_id"]: {**counts, **rates.get(counts["member_id"], {})}
        for counts in answer.get("members", ())
    }


def _member(
    record: PoolRecord, member: MemberRecord, by_host: Mapping[str, Mapping[str, Counts]]
) -> Counts:
    key = str(member.member.id)
    place = member.where.placement
    homes = [place.host] if place and not place.is_remote else []
    return {
        "id": key,
        "name": member.member.name,
        "host": homes[0] if homes else None,
        "estimated": member.member.remote is not None,
        **_sums(_AT_DIRECTOR, key, record.pool.directors, by_host),
        **_sums(_OUT, key, {*homes, *record.pool.directors}, by_host),
    }


def _sums(
    names: Iterable[str],
    key: str,
    hosts: Iterable[str],
    by_host: Mapping[str, Mapping[str, Counts]],
) -> Counts:
    found = [by_host[host][key] for host in hosts if key in by_host.get(host, {})]
    return {name: _sum(found, name) for name in names}
