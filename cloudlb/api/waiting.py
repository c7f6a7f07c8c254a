# SPDX-License-Identifier: Apache-2.0
"""Waiting for hosts: with ``?wait=`` until they have realized a write, else for their answers.

Only half of the threads may wait, so that a request which needs no more than the database always
finds one.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from cloudlb.api.environment import Environment
from cloudlb.api.operation import Call
from cloudlb.api.pool_writes import Written
from cloudlb.db import desired, members, pools
from cloudlb.model.snapshot import RealizationState

RETRY_AFTER = {"Retry-After": "1"}
_FIRST, _LONGEST = 0.02, 0.05


def goal(written: Written) -> dict[str, int]:
    """The generations that the hosts of a written pool must reach."""
    return written.bell or {r.host: r.generation for r in written.realizations}


def status(written: Written, done: bool | None) -> int:
    """200 when the hosts have a written pool: now, or before where nothing was to be changed."""
    had = not written.bell and all(
        r.current and r.state != RealizationState.FAILING.value for r in written.realizations
    )
    return 200 if done or had else 202


def until_realized(call: Call, pool_id: UUID, bell: Mapping[str, int]) -> bool | None:
    """Whether the hosts have realized the generations of ``bell``; None if none could wait.

    A host that fails ends the waiting: it does not get better by it.
    """

    def is_done() -> bool | None:
        with call.environment.sessions.read() as session:
            rows = desired.progress(session, pool_id)
        words = [
            (rows[host][0] >= generation, rows[host][1])
            for host, generation in bell.items()
            if host in rows
        ]
        if any(seen and state == RealizationState.FAILING.value for seen, state in words):
            return None
        return all(seen for seen, _ in words)

    return _wait(call, is_done)


def until_pool_gone(call: Call, pool_id: UUID) -> bool | None:
    """Whether nothing of a removed pool is left."""

    def is_gone() -> bool:
        with call.environment.sessions.read() as session:
            return not pools.exists(session, pool_id)

    return _wait(call, is_gone)


def until_member_gone(call: Call, member_id: UUID) -> bool | None:
    """Whether nothing of a removed member is left."""

    def is_gone() -> bool:
        with call.environment.sessions.read() as session:
            return not members.exists(session, member_id)

    return _wait(call, is_gone)


@contextmanager
def place(environment: Environment) -> Iterator[bool]:
    """Whether there is a place for one more request that waits for hosts, taken until the end."""
    is_taken = environment.waiting.acquire(blocking=False)
    try:
        yield is_taken
    finally:
        if is_taken:
            environment.waiting.release()


def _wait(call: Call, is_done: Callable[[], bool | None]) -> bool | None:
    environment = call.environment
    seconds = call.query.get("wait", 0)
    if not seconds:
        return False
    with place(environment) as is_taken:
        if not is_taken:
            return None
        return _poll(environment, is_done, environment.timer() + seconds)


def _poll(environment: Environment, is_done: Callable[[], bool | None], deadline: float) -> bool:
    """Ask often enough to be quick, irregularly enough not to march in step."""
    while True:
        done = is_done()
        if done is not False:
            return bool(done)
        if environment.timer() >= deadline:
            return False
        environment.pause(random.uniform(_FIRST, _LONGEST))  # noqa: S311  (jitter)
