# SPDX-License-Identifier: Apache-2.0
"""What a proxy in front of the API says of a request: the scheme and host that its caller used.

oslo.middleware does it as everywhere in OpenStack, when ``[oslo_middleware]
enable_proxy_headers_parsing`` says that there is a proxy, which overwrites what callers write.
"""

from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg
from oslo_middleware import http_proxy_to_wsgi

PEER = "cloudlb.peer"
"""Key of the WSGI environment: the address that the connection comes from, the proxy's."""

_SPOKEN_OF = {"wsgi.url_scheme", "HTTP_HOST", "REMOTE_ADDR"}

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def is_believed(conf: cfg.ConfigOpts) -> bool:
    """Whether the configuration says that there is a proxy."""
    conf.register_opts(http_proxy_to_wsgi.OPTS, group="oslo_middleware")
    return bool(conf.oslo_middleware.enable_proxy_headers_parsing)


def heeding(conf: cfg.ConfigOpts, app: App) -> App:
    """The application behind the proxy; as it is where there is none."""
    return _BehindProxy(app, conf) if is_believed(conf) else app


class _BehindProxy(http_proxy_to_wsgi.HTTPProxyToWSGI):
    """Keeps the peer's address, which no header can change, beside the caller's."""

    def process_request(self, req: Any) -> Any:
        environ = req.environ
        environ[PEER] = environ.get("REMOTE_ADDR", "")
        super().process_request(req)
        for name in environ.keys() & _SPOKEN_OF:
            # RFC 7239, 4: what has a colon is quoted; oslo.middleware leaves it so
            environ[name] = environ[name].strip('"')
