# SPDX-License-Identifier: Apache-2.0
"""Several directors that translate: any of them may vanish, and connections go on by another."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cloudlb.lab.host import Host
from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import Cloud, url, wait_until
from tests.lab.pairs import (
    ALL,
    FIRST,
    SECOND,
    alive,
    announcer,
    elected,
    neighbour,
    route,
    shared,
    unharmed,
    unplugged,
)
from tests.lab.test_director_nat import forwarding, routed
from tests.lab.test_nat import translated
from tests.soak import choose


@contextlib.contextmanager
def ready(
    cloud: Cloud, pair: tuple[Host, Host], way: str, version: int, scheduler: str
) -> Iterator[dict[str, Any]]:
    """A pool of both directors, whose address is the members' next hop where they need one."""
    fields = {"directors": [FIRST, SECOND], "translation": way, "scheduler": scheduler}
    pool = elected(cloud, lambda: translated(cloud, ALL, version, **fields))
    with contextlib.ExitStack() as stack:
        if way == "director":
            for host in pair:
                stack.enter_context(forwarding(host))
            stack.enter_context(routed(cloud.lab, pool["address"]))
        yield pool


@pytest.mark.requirement("L14")
@pytest.mark.parametrize(
    ("way", "version", "scheduler"),
    choose([("director", 6, "maglev")], [("full", 4, "round_robin")]),
)
def test_a_director_that_vanishes_is_followed(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], way: str, version: int, scheduler: str
) -> None:
    with ready(cloud, pair, way, version, scheduler) as pool, unharmed(lab, pool):
        with unplugged(lab, FIRST, "lan", "mgmt"):
            wait_until("the client was told", lambda: neighbour(lab, pool) == SECOND)
            wait_until("so was the API", lambda: announcer(cloud, pool) == SECOND)
        wait_until("the first one is back", lambda: announcer(cloud, pool) == FIRST)
        wait_until("the client was told", lambda: neighbour(lab, pool) == FIRST)


@pytest.mark.requirement("L8")
@pytest.mark.requirement("L14")
@pytest.mark.parametrize(
    ("way", "version", "gone"), choose([("full", 4, FIRST)], [("director", 6, SECOND)])
)
def test_any_of_the_active_directors_may_vanish_and_come_back(
    lab: Lab, cloud: Cloud, pair: tuple[Host, Host], way: str, version: int, gone: str
) -> None:
    """Clients use both, members the one that announces the address."""
    left = SECOND if gone == FIRST else FIRST
    with (
        ready(cloud, pair, way, version, "round_robin") as pool,
        shared(lab, pool, FIRST, SECOND),
    ):
        result = Load.count(lab, url(pool), 40)
        assert result["failed"] == 0, result
        with unharmed(lab, pool):
            route(lab, pool, left)
            with unplugged(lab, gone, "lan", "mgmt"):
                wait_until("it is followed", lambda: announcer(cloud, pool) == left)
            wait_until("it is alive again", lambda: alive(cloud, gone))
            time.sleep(3)  # the other one greets it each second, and tells what it has missed
            route(lab, pool, FIRST, SECOND)
