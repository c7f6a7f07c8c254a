# SPDX-License-Identifier: Apache-2.0
"""The web server that cloudlb's own processes serve the API with: waitress."""

import errno
import threading
from ipaddress import ip_address
from typing import Any

import waitress
from oslo_config import cfg

from cloudlb.api import forwarded
from cloudlb.model.errors import Misconfigured
from cloudlb.service import Service

_REASONS = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this host has no such address",
    errno.EACCES: "this user may not listen on that port; ports from 1024 on are for everybody",
}


def check_address(conf: cfg.ConfigOpts) -> None:
    """Raise `Misconfigured` for an address on which others could reach the API."""
    address = conf.api.bind_host
    if not _is_loopback(address):
        raise Misconfigured(
            f"[api] bind_host is {address}: without authentication the API may only be served on "
            "loopback; set it to 127.0.0.1 or ::1."
        )


def listen(conf: cfg.ConfigOpts, app: forwarded.App) -> Any:
    """A server that has its port; `Misconfigured` says why it does not get it."""
    host, port = conf.api.bind_host, conf.api.bind_port
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=conf.api.threads,
            clear_untrusted_proxy_headers=not forwarded.is_believed(conf),
        )
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise Misconfigured(
            f"The API cannot be served at {host} port {port} ([api] bind_host, bind_port): "
            f"{reason}."
        ) from error


def run(process: Service, web: Any) -> None:
    """Serve in threads of ``process`` until it stops."""
    process.thread("api", lambda _stopping: web.run())
    process.thread("api-end", lambda stopping: _close_after(stopping, web))


def _is_loopback(address: str) -> bool:
    """Other names than localhost are not looked up: they may change their minds."""
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


def _close_after(stopping: threading.Event, web: Any) -> None:
    stopping.wait()
    web.close()
