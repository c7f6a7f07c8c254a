# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-allinone``: API, conductor and this host's agent as threads of one process.

For one host: the bus is in the process, the database is a file that is made when it is missing.
"""

import sys

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.agents.setup import make_agent
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import schema, session
from cloudlb.rpc import transport
from cloudlb.rpc.client import AgentClient, ConductorClient
from cloudlb.rpc.doorbell import doorbell
from cloudlb.rpc.server import serve_agent, serve_conductor
from cloudlb.wsgi import server
from cloudlb.wsgi.api import make


@service.explained("cloudlb-allinone")
def main() -> int:
    """Run until a signal; what was applied to the kernel stays."""
    conf = configuration.load(sys.argv[1:], "cloudlb-allinone")
    transport.default_to_inprocess(conf)
    service.prepare(conf, "cloudlb-allinone")
    server.check_address(conf)
    sessions = session.from_conf(conf)
    schema.sync(sessions)
    web = server.listen(conf, make(conf))
    ring = doorbell(AgentClient(conf))
    conductor = Conductor(
        sessions,
        ring,
        host_down_time=conf.host_down_time,
        key_lifetime=conf.conductor.key_lifetime,
    )
    agent = make_agent(conf, ConductorClient(conf))
    process = service.Service("cloudlb-allinone")
    process.thread("rpc-conductor", serve_conductor(conf, conductor).run)
    process.thread("rpc-agent", serve_agent(conf, agent).run)
    server.run(process, web)
    process.thread(
        "sweep", lambda stopping: conductor.run(stopping, conf.conductor.sweep_interval)
    )
    for name, run in agent.threads().items():
        process.thread(name, run)
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
