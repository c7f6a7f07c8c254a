# SPDX-License-Identifier: Apache-2.0
"""Calls to the conductor and to agents.

Messages may be lost or doubled, so none of them carries the truth: ``changed`` is a doorbell,
the rest are questions that can be asked again.
"""

from typing import Any

import oslo_messaging
from oslo_config import cfg

from cloudlb.model import plain
from cloudlb.model.errors import Unavailable
from cloudlb.model.snapshot import Report, Snapshot
from cloudlb.rpc.context import ContextSerializer, RequestContext
from cloudlb.rpc.transport import AGENT, CONDUCTOR, VERSION, target, transport


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
        return None if data is None else plain.decode(Snapshot, data)

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

    def changed(self, host: str, generation: int) -> None:
        """Ring the doorbell of ``host``: something is wanted anew. Does not wait."""
        context = RequestContext.system()
        self._client.prepare(server=host).cast(context, "changed", generation=generation)

    def ask(self, host: str, question: str, args: dict[str, Any], timeout: float) -> Any:
        """The agent's answer to a read-only question, within ``timeout`` seconds.

        Raises `Unavailable` when none comes.
        """
        try:
            return self._client.prepare(server=host, timeout=timeout).call(
                RequestContext.system(), "ask", question=question, args=args
            )
        except (oslo_messaging.MessagingException, OSError) as error:
            raise Unavailable(f"The agent of host {host} does not answer.", str(error)) from error
