# SPDX-License-Identifier: Apache-2.0
"""Calls to the conductor and to agents.

Messages may be lost or doubled, so none of them carries the truth: ``changed`` is a doorbell,
the rest are questions that can be asked again.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import oslo_messaging
from oslo_config import cfg

from cloudlb.model import plain
from cloudlb.model.errors import (
    CloudlbError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
)
from cloudlb.model.snapshot import Report, Snapshot
from cloudlb.rpc.context import ContextSerializer, RequestContext
from cloudlb.rpc.transport import AGENT, CONDUCTOR, VERSION, target, transport

_GRACE = 0.5
_MOST_ASKING = 64
_REFUSALS: dict[str, type[CloudlbError]] = {
    kind.__name__: kind for kind in (InvalidRequest, Unsupported, Forbidden, NotFound, Conflict)
}


class Bounded:
    """Runs calls that may hang, at most so many at once, and gives up waiting for them.

    oslo.messaging keeps no deadline while it has no connection to the bus.
    """

    def __init__(self, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)

    def within(self, seconds: float, work: Callable[[], Any]) -> Any:
        """What ``work`` returns or raises; TimeoutError when it does neither in time."""
        if not self._places.acquire(blocking=False):
            raise TimeoutError("too many calls wait for the message bus")
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)
            finally:
                self._places.release()

        threading.Thread(target=run, name="bounded-call", daemon=True).start()
        return outcome.result(seconds)


def _client(conf: cfg.ConfigOpts, topic: str) -> Any:
    return oslo_messaging.get_rpc_client(
        transport(conf), target(topic), version_cap=VERSION, serializer=ContextSerializer()
    )


class ConductorClient:
    """An agent's way to the conductor. Every method raises `Unavailable` without an answer."""

    def __init__(self, conf: cfg.ConfigOpts, timeout: float = 10.0) -> None:
        self._client = _client(conf, CONDUCTOR).prepare(timeout=timeout)

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        """The snapshot of ``host``, or None when ``have_generation`` is the current one."""
        data = self._call("get_desired", host=host, have_generation=have_generation)
        try:
            return None if data is None else plain.decode(Snapshot, data)
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                "The conductor speaks of things that this agent does not know; upgrade it.",
                repr(error),
            ) from error

    def report(self, host: str, report: Report) -> None:
        """Tell facts; returns when the conductor has stored them."""
        self._call("report", host=host, report=plain.encode(report))

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return self._client.call(RequestContext.system(), method, **arguments)
        except (oslo_messaging.MessagingException, OSError) as error:
            raise Unavailable("The conductor does not answer.", f"{method}: {error}") from error


class AgentClient:
    """The server side's way to agents."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._client = _client(conf, AGENT)
        self._bounded = Bounded(_MOST_ASKING)

    def changed(self, host: str, generation: int) -> None:
        """Ring the doorbell of ``host``: something is wanted anew.

        Waits for the bus, not for the agent. Raises `Unavailable` when the bus refuses.
        """
        context = RequestContext.system()
        try:
            self._client.prepare(server=host).cast(context, "changed", generation=generation)
        except (oslo_messaging.MessagingException, OSError) as error:
            raise Unavailable("The message bus does not answer.", str(error)) from error

    def ask(self, host: str, question: str, args: dict[str, Any], timeout: float) -> Any:
        """The agent's answer to a read-only question, within ``timeout`` seconds.

        Raises the error by which the agent refuses the question, and `Unavailable` when no answer
        comes, also when the bus is down.
        """
        silence = f"The agent of host {host} does not answer."

        def ask() -> Any:
            client = self._client.prepare(server=host, timeout=timeout)
            return client.call(RequestContext.system(), "ask", question=question, args=args)

        try:
            return self._bounded.within(timeout + _GRACE, ask)
        except oslo_messaging.RemoteError as error:
            if error.exc_type in _REFUSALS:
                refusal = _REFUSALS[error.exc_type]
                raise refusal(error.value, f"host {host}: {error.value}") from error
            raise Unavailable(silence, f"{error.exc_type}: {error.value}") from error
        except (oslo_messaging.MessagingException, OSError) as error:
            raise Unavailable(silence, repr(error)) from error
