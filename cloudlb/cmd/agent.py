# SPDX-License-Identifier: Apache-2.0
"""cloudlb-agent: the agent of this host."""

import sys

from cloudlb import conf as options
from cloudlb import service
from cloudlb.agents.setup import make_agent
from cloudlb.rpc.client import ConductorClient
from cloudlb.rpc.server import serve_agent


def main() -> int:
    """Run until SIGTERM; what was applied to the kernel stays."""
    conf = options.load(sys.argv[1:], "cloudlb-agent")
    service.prepare(conf, "cloudlb")
    process = service.Service("cloudlb-agent")
    agent = make_agent(conf, ConductorClient(conf))
    process.thread("rpc", serve_agent(conf, agent).run)
    for name, run in agent.threads().items():
        process.thread(name, run)
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
