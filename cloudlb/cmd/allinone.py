# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-allinone``: API, conductor and this host's agent as threads of one process.

For one host: the bus is in the process, the database is a file that is made when it is missing.
"""

import sys
import threading
from ipaddress import ip_address
from typing import Any

import waitress

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.agents.setup import make_agent
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import schema, session
from cloudlb.rpc import transport
from cloudlb.rpc.client import AgentClient, ConductorClient
from cloudlb.rpc.doorbell import doorbell
from cloudlb.rpc.server import serve_agent, serve_conductor
from cloudlb.wsgi.api import make


def main() -> int:
    """Run until a signal; what was applied to the kernel stays."""
    conf = configuration.load(sys.argv[1:], "cloudlb-allinone")
    transport.default_to_memory(conf)
    service.prepare(conf, "cloudlb-allinone")
    address = conf.api.bind_host
    if not _is_loopback(address):
        sys.stderr.write(
            f"[api] bind_host is {address}: without authentication the API may only be served "
            "on loopback; set it to 127.0.0.1 or ::1.\n"
        )
        return 2
    sessions = session.from_conf(conf)
    schema.sync(sessions)
    ring = doorbell(AgentClient(conf))
    conductor = Conductor(sessions, ring, host_down_time=conf.host_down_time)
    agent = make_agent(conf, ConductorClient(conf))
    app = make(conf)
    web = waitress.create_server(
        app, host=address, port=conf.api.bind_port, threads=conf.api.threads
    )
    process = service.Service("cloudlb-allinone")
    process.thread("rpc-conductor", serve_conductor(conf, conductor).run)
    process.thread("rpc-agent", serve_agent(conf, agent).run)
    process.thread("api", lambda _stopping: web.run())
    process.thread("api-end", lambda stopping: _close_after(stopping, web))
    process.thread(
        "sweep", lambda stopping: conductor.run(stopping, conf.conductor.sweep_interval)
    )
    for name, run in agent.threads().items():
        process.thread(name, run)
    return process.run()


def _is_loopback(address: str) -> bool:
    """Other names than localhost are not looked up: they may change their minds."""
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


def _close_after(stopping: threading.Event, web: Any) -> None:
    stopping.wait()
    web.close()


if __name__ == "__main__":
    sys.exit(main())
