# SPDX-License-Identifier: Apache-2.0
"""P12: from the sending of a pool's POST to the first packet that the pool answers.

A client sends a datagram every 2 ms, from a new port each, to an address that nobody has yet:
from up to a second before the POST until one is answered. So the time has all of it: API,
conductor, message bus, agents, maps, the client's address resolution and the guests' answer.
"""

import random
import socket
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address

from benchmarks.context import Context
from benchmarks.datagrams import Datagrams, Moments
from benchmarks.foreign import QUIET
from benchmarks.result import LOADED, Line, Result, at_most, quantile
from benchmarks.site import Site, in_namespace
from cloudlb.lab.topology import VIP_RANGE4

TARGET_MS = 150
ENOUGH = 20
"""Repetitions while the machine was quiet."""
MOST = 48
"""Repetitions, when it is not."""


@dataclass(frozen=True)
class Sample:
    """Since the POST was sent: ms to the first packet answered, seconds to the API's answer if
    that came first; ``foreign`` in CPU-seconds per second.
    """

    answered_ms: float
    accepted: float | None
    foreign: float


def measure(context: Context) -> Result:
    """A new address for each repetition, so that no neighbour is known."""
    site = Site(context.lab())
    rng = random.Random(12)  # noqa: S311  (moments, not secrets)
    samples: list[Sample] = []
    addresses = [VIP_RANGE4[number] for number in range(1, MOST + 1)]
    with site.held(addresses):
        for address in addresses:
            with context.foreign() as foreign:
                moments, pool_id = _sample(site, address, rng.random())
            samples.append(Sample(moments.answered * 1e3, moments.accepted, foreign.rate))
            site.remove_pool(pool_id)
            if len(_quiet(samples)) == ENOUGH:
                break
    return Result([_line(samples)], {"samples": [asdict(sample) for sample in samples]})


def _line(samples: list[Sample]) -> Line:
    """Of the quiet samples when there are enough, else of all and marked so."""
    quiet = _quiet(samples)
    counts = len(quiet) == ENOUGH
    used = quiet if counts else samples
    times = [sample.answered_ms for sample in used]
    load = quantile([sample.foreign for sample in (quiet if counts else samples)], 0.5)
    return Line(
        "P12",
        "POST of a pool with 4 members → first packet answered, ms",
        "amphora > 60,000",
        f"p50 ≤ {TARGET_MS}",
        f"p50 {quantile(times, 0.5):.0f}, p99 {quantile(times, 0.99):.0f}, n = {len(times)} of "
        f"{len(samples)}; others used {load:.2f} CPU-s/s",
        at_most(quantile(times, 0.5), TARGET_MS) if counts else LOADED,
    )


def _quiet(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.foreign < QUIET]


def _sample(site: Site, address: IPv4Address, lead: float) -> tuple[Moments, str]:
    """When the answers came, and the pool's id."""
    spec = site.pool_spec(address, [guest.name for guest in site.lab.guests])
    site.ask("GET", "/hosts")  # opens the connection

    def post() -> socket.socket:
        site.send("POST", "/pools", spec)
        return site.connection.sock

    datagrams = Datagrams(str(address))
    client = site.lab.host("client").namespace
    moments = in_namespace(client, lambda: datagrams.run(lead, post))
    datagrams.close()
    status, body = site.answer()
    if status >= 300:
        raise RuntimeError(f"POST /pools: {status} {body}")
    return moments, str(body["pool"]["id"])
