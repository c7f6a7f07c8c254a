# SPDX-License-Identifier: Apache-2.0
"""P8: connections broken while a pool changes a thousand times under a thousand of them.

Two of the four members are survivors: only their weight and the scheduler change. The other two
are also closed, opened, removed and added. The peers get the same sequence in the same lab.
"""

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

from benchmarks import nft
from benchmarks.churn import Change, Kind, Pool, changes
from benchmarks.context import Context
from benchmarks.result import Line, Result
from benchmarks.site import Site
from cloudlb.lab.load import TIMEOUT
from cloudlb.lab.topology import VIP_RANGE4
from cloudlb.lab.traffic import Load

CHANGES = 1000
FLOWS = 1000
INTERVAL = 5.0
"""Seconds between two lines on a flow: what four emulated guests carry without queueing."""
SURVIVORS = frozenset({"vm1", "vm3"})
SEED = 8
_OPEN_SECONDS = 300.0
_SILENCE = 2 * TIMEOUT + 2 * INTERVAL
"""A flow that nobody answers is noticed after this time."""

Apply = Callable[[Change], None]


def measure(context: Context) -> Result:
    """cloudlb, then the peers."""
    site = Site(context.lab())
    first = Pool({guest.name: 1 for guest in site.lab.guests})
    addresses = [VIP_RANGE4[number] for number in range(50, 55)]
    own: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    with _pool(site, addresses[0], "nat") as apply:
        own["nat"] = _churn(site, addresses[0], first, apply)
    with site.held(addresses[1:]):
        for data_plane, address in zip(("dr", "tun"), addresses[1:], strict=False):
            with _pool(site, address, data_plane) as apply:
                own[data_plane] = _churn(site, address, first, apply)
        for peer, address in zip((nft.DNAT, nft.DSR), addresses[3:], strict=True):
            if shutil.which("nft"):
                with _peer(site, peer, address, first) as apply:
                    peers[peer.name] = _churn(site, address, first, apply)
    lines = [_line(name, found, peers) for name, found in sorted(own.items())]
    return Result(lines, own | peers)


def _churn(site: Site, address: IPv4Address, pool: Pool, apply: Apply) -> dict[str, Any]:
    """What became of the flows, and how long the changes took."""
    rng = random.Random(SEED)  # noqa: S311  (a sequence, not secrets)
    with contextlib.ExitStack() as stack:
        load = Load.flows(site.lab, str(address), FLOWS, INTERVAL)
        stack.push(load.__exit__)
        load.wait_open(_OPEN_SECONDS)
        began = time.monotonic()
        for change in changes(pool, SURVIVORS, CHANGES, rng):
            apply(change)
        seconds = time.monotonic() - began
        time.sleep(_SILENCE)
    on_survivors = sum(load.result["broken_on"].get(name, 0) for name in SURVIVORS)
    return load.result | {"seconds": seconds, "broken_on_survivors": on_survivors}


@contextlib.contextmanager
def _pool(site: Site, address: IPv4Address, data_plane: str) -> Iterator[Apply]:
    """A pool of all guests, changed through the REST API without waiting."""
    names = [guest.name for guest in site.lab.guests]
    scheduler = Pool({}).scheduler.value
    spec = site.pool_spec(
        address, names, drain_timeout=3600, data_plane=data_plane, scheduler=scheduler
    )
    pool = site.ask("POST", "/pools?wait=20", spec)["pool"]
    site.introduce(pool["id"])
    path = f"/pools/{pool['id']}"
    ids = {member["server_name"]: member["id"] for member in pool["members"]}

    def apply(change: Change) -> None:
        member = f"{path}/members/{ids[change.server]}" if change.server in ids else ""
        match change.kind:
            case Kind.SCHEDULER:
                site.ask("PATCH", path, {"pool": {"scheduler": change.pool.scheduler.value}})
            case Kind.ADD:
                body = {"member": {"server": change.server}}
                ids[change.server] = site.ask("POST", f"{path}/members", body)["member"]["id"]
            case Kind.REMOVE:
                site.ask("DELETE", member)
            case Kind.WEIGHT:
                weight = change.pool.weights[change.server]
                site.ask("PATCH", member, {"member": {"weight": weight}})
            case Kind.OPEN | Kind.CLOSE:
                is_open = change.kind is Kind.OPEN
                site.ask("PATCH", member, {"member": {"admin_state_up": is_open}})

    yield apply
    site.remove_pool(pool["id"])


@contextlib.contextmanager
def _peer(site: Site, peer: nft.Peer, address: IPv4Address, first: Pool) -> Iterator[Apply]:
    director = site.lab.host("director")

    def put(pool: Pool) -> None:
        director.run(["nft", "-f", "-"], input=peer.script(site.lab, address, pool.turns()))

    with nft.balancing(site.lab, peer, address):
        put(first)
        yield lambda change: put(change.pool)


def _line(data_plane: str, own: dict[str, Any], peers: dict[str, Any]) -> Line:
    corrupt = sum(n for reason, n in own["errors"].items() if "corrupt" in reason)
    beside = [
        f"{name}: {of['broken_on_survivors']} ({of['broken']} of {of['flows']})"
        for name, of in peers.items()
    ]
    enough = own["exchanges"] >= 3 * own["flows"]
    whole = own["broken_on_survivors"] == 0 and corrupt == 0
    return Line(
        "P8",
        f"{data_plane}: broken on survivors (of all), {CHANGES} changes under {FLOWS} flows, "
        f"a line each {INTERVAL:g} s",
        "; ".join(beside) or "none was run: nft is not installed",
        "0",
        f"{own['broken_on_survivors']} ({own['broken']} of {own['flows']}), {corrupt} corrupt; "
        f"{own['exchanges']} checked exchanges, changes in {own['seconds']:.0f} s",
        ("met" if whole else "**missed**") if enough else "not shown: too few exchanges",
    )
