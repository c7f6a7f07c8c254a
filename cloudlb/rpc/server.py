# SPDX-License-Identifier: Apache-2.0
"""The receiving ends: what the conductor and an agent answer on the bus."""

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import oslo_messaging
from oslo_config import cfg

from cloudlb.model import plain
from cloudlb.model.errors import CloudlbError
from cloudlb.model.snapshot import Report, Snapshot
from cloudlb.rpc.context import ContextSerializer, RequestContext
from cloudlb.rpc.transport import AGENT, CONDUCTOR, target, transport

LOG = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class Conductor(Protocol):
    """What the conductor must be able to do."""

    def get_desired(self, host: str, have_generation: int) -> Snapshot | None:
        """The snapshot of ``host``, or None when it has the current one."""

    def report(self, host: str, report: Report) -> None:
        """Take note of facts from ``host``."""


class Agent(Protocol):
    """What an agent must be able to do."""

    def changed(self, generation: int) -> None:
        """The doorbell rang."""

    def ask(self, question: str, args: dict[str, Any]) -> Any:
        """Answer a read-only question with JSON data."""


class EndpointError(Exception):
    """What a method failed with; the caller sees oslo.messaging's RemoteError of it."""


def _answers(method: Callable[P, R]) -> Callable[P, R]:
    """Have every failure reach the caller as a failure of the other side, or as a refusal.

    A refusal is an error that is the caller's own (4xx): it arrives by its name and message, and
    is logged by nobody here. oslo.messaging raises Python's own exceptions at the caller as if
    they had happened there.
    """

    @functools.wraps(method)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            if isinstance(error, CloudlbError) and error.status < 500:
                raise oslo_messaging.ExpectedException from error
            raise EndpointError(f"{type(error).__name__}: {error}") from error

    return answer


class _ConductorEndpoint:
    """Plain data in, plain data out, for the conductor."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    @_answers
    def get_desired(
        self, _context: RequestContext, host: str, have_generation: int
    ) -> dict[str, Any] | None:
        snapshot = self._conductor.get_desired(host, have_generation)
        return None if snapshot is None else plain.encode(snapshot)

    @_answers
    def report(self, _context: RequestContext, host: str, report: dict[str, Any]) -> None:
        self._conductor.report(host, plain.decode(Report, report))


class _AgentEndpoint:
    """Plain data in, plain data out, for an agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def changed(self, _context: RequestContext, generation: int) -> None:
        self._agent.changed(generation)

    @_answers
    def ask(self, _context: RequestContext, question: str, args: dict[str, Any]) -> Any:
        return self._agent.ask(question, args)


class Server:
    """An RPC server, which `run` makes listen."""

    def __init__(self, conf: cfg.ConfigOpts, topic: str, host: str, endpoint: object) -> None:
        self._server = oslo_messaging.get_rpc_server(
            transport(conf), target(topic, host), [endpoint], serializer=ContextSerializer()
        )

    def run(self, stopping: threading.Event) -> None:
        """Answer until ``stopping``, then finish the calls under way.

        To be run in a thread of its own: it waits for the bus for as long as that is down.
        """
        self._server.start()
        stopping.wait()
        self._server.stop()
        self._server.wait()


def serve_conductor(conf: cfg.ConfigOpts, conductor: Conductor) -> Server:
    """Answer agents in the conductor's name."""
    return Server(conf, CONDUCTOR, conf.host, _ConductorEndpoint(conductor))


def serve_agent(conf: cfg.ConfigOpts, agent: Agent) -> Server:
    """Answer the control plane in this host's agent's name."""
    return Server(conf, AGENT, conf.host, _AgentEndpoint(agent))
