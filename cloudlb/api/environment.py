# SPDX-License-Identifier: Apache-2.0
"""What the responders work with: the database, the doorbell, the agents' ear, the policy."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oslo_policy import policy

from cloudlb.db.session import Sessions
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.model.errors import Forbidden
from cloudlb.rpc.context import RequestContext

LOG = logging.getLogger(__name__)

Bell = Callable[[Mapping[str, int]], None]
Ask = Callable[[str, str, dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Environment:
    """``bell`` rings hosts (name to generation) after a commit. ``ask`` asks a host's agent a
    question; it raises `Unavailable` without an answer, or the error by which the agent refuses.
    ``waiting`` bounds the threads that wait for hosts. ``clock`` gives seconds since the epoch,
    ``timer`` any steady seconds, ``pause`` sleeps.
    """

    sessions: Sessions
    bell: Bell
    ask: Ask
    clock: Callable[[], float]
    timer: Callable[[], float]
    pause: Callable[[float], None]
    enforcer: policy.Enforcer
    drivers: Mapping[str, DataPlaneDriver]
    host_down_time: float
    max_limit: int
    waiting: threading.Semaphore

    def may(self, context: RequestContext, rule: str, owner: str | None = None) -> bool:
        """Whether the policy lets the caller do this to an object of the project ``owner``.

        Without an owner, the caller's own project is meant.
        """
        target = {"project_id": context.project_id if owner is None else owner}
        return bool(self.enforcer.authorize(rule, target, context))

    def enforce(self, context: RequestContext, rule: str, owner: str | None = None) -> None:
        """Raise `Forbidden` unless the policy lets the caller do this."""
        if not self.may(context, rule, owner):
            have = ", ".join(context.roles) or "none"
            raise Forbidden(f"The policy {rule} does not allow this with the roles: {have}.")

    def ring(self, bell: Mapping[str, int], change: str) -> None:
        """Tell hosts that something is wanted anew; ``change`` says in the log what."""
        if bell:
            LOG.info("%s hosts=%s", change, ",".join(sorted(bell)))
            self.bell(bell)
