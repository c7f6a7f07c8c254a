# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-agent``: the agent of this host; ``cloudlb-agent teardown`` removes what it left."""

import sys
from pathlib import Path
from typing import Any

from oslo_config import cfg

from cloudlb import conf as options
from cloudlb import service
from cloudlb.agents import alone, elections
from cloudlb.agents.agent import ELECTION
from cloudlb.agents.orders import Desk
from cloudlb.agents.setup import make_agent, objects
from cloudlb.engines import teardown
from cloudlb.rpc.client import ConductorClient
from cloudlb.rpc.server import serve_agent


def _commands(parsers: Any) -> None:
    parsers.required = False  # without one, the agent runs
    parsers.add_parser("teardown", help="remove all that cloudlb has put into this host's kernel")


@service.explained("cloudlb-agent")
def main() -> int:
    """Run until SIGTERM; what was applied to the kernel stays."""
    cfg.CONF.register_cli_opt(cfg.SubCommandOpt("command", handler=_commands, title="commands"))
    conf = options.load(sys.argv[1:], "cloudlb-agent")
    if conf.command.name == "teardown":
        return _tear_down(conf)
    service.prepare(conf, "cloudlb")
    process = service.Service("cloudlb-agent")
    agent = make_agent(conf, ConductorClient(conf))
    process.thread("rpc", serve_agent(conf, agent).run)
    for name, run in agent.threads().items():
        process.thread(name, run)
    return process.run()


def _tear_down(conf: cfg.ConfigOpts) -> int:
    """Say what is removed; no agent can start meanwhile."""
    alone.hold(Path(conf.agent.state_dir))
    removed = 0
    if elections.end(Desk(Path(conf.agent.state_dir) / ELECTION)):
        sys.stdout.write("ended the process that elects\n")
        removed += 1
    for thing in teardown.remove(Path(conf.agent.bpffs), objects(conf)):
        sys.stdout.write(f"removed {thing}\n")
        removed += 1
    if not removed:
        sys.stdout.write("Nothing of cloudlb is in this host's kernel.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
