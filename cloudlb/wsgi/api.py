# SPDX-License-Identifier: Apache-2.0
"""``cloudlb.wsgi.api:application``, for any WSGI server.

Reads no ``sys.argv``; OS_CLOUDLB_CONFIG_FILES names the configuration files. The application is
made by the first request, so that a server may fork its workers before there are connections. As
long as it cannot be made, each request tries again.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.api.app import create_app
from cloudlb.api.forwarded import App
from cloudlb.db import session
from cloudlb.model.errors import CloudlbError
from cloudlb.rpc.client import AgentClient
from cloudlb.rpc.doorbell import doorbell

LOG = logging.getLogger(__name__)
ASK_TIMEOUT = 2.0
_FAILED = [("Content-Type", "text/plain"), ("Retry-After", "1")]


def make(conf: cfg.ConfigOpts) -> App:
    """The application with the real database and bus."""
    agents = AgentClient(conf)
    return create_app(
        conf,
        session.from_conf(conf),
        doorbell(agents),
        lambda host, question, args: agents.ask(host, question, args, ASK_TIMEOUT),
    )


def _configured() -> App:
    conf = configuration.load([], "cloudlb-api")
    service.prepare(conf, "cloudlb-api")
    return make(conf)


class _Lazy:
    def __init__(self, factory: Callable[[], App]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._app: App | None = None

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        try:
            app = self._app or self._make()
        except CloudlbError as error:
            LOG.error("service=cloudlb-api state=failed cause=%s", error.message)
            start_response("503 Service Unavailable", _FAILED)
            return [b"The service cannot start; its log says why.\n"]
        return app(environ, start_response)

    def _make(self) -> App:
        with self._lock:
            if self._app is None:
                self._app = self._factory()
            return self._app


application = _Lazy(_configured)
