# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-conductor``: serves agents from the database."""

import sys

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import session
from cloudlb.rpc.client import AgentClient
from cloudlb.rpc.doorbell import doorbell
from cloudlb.rpc.server import serve_conductor


@service.explained("cloudlb-conductor")
def main() -> int:
    """Serve until a signal; the exit status."""
    conf = configuration.load(sys.argv[1:], "cloudlb-conductor")
    service.prepare(conf, "cloudlb-conductor")
    conductor = Conductor(
        session.from_conf(conf),
        doorbell(AgentClient(conf)),
        host_down_time=conf.host_down_time,
        key_lifetime=conf.conductor.key_lifetime,
    )
    process = service.Service("cloudlb-conductor")
    process.thread(
        "sweep", lambda stopping: conductor.run(stopping, conf.conductor.sweep_interval)
    )
    process.thread("rpc", serve_conductor(conf, conductor).run)
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
