# SPDX-License-Identifier: Apache-2.0
"""The message bus: topics, version and transport that client and server share."""

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts

from cloudlb.rpc import inprocess

VERSION = "1.0"
CONDUCTOR = "cloudlb-conductor"
AGENT = "cloudlb-agent"


def default_to_inprocess(conf: cfg.ConfigOpts) -> None:
    """Let the bus be inside this process, unless the configuration names another."""
    for group, options in opts.list_opts():
        conf.register_opts(options, group=group)
    conf.set_default("transport_url", inprocess.URL)
    # There is no peer that could be dead; oslo.messaging warns of a bus without heartbeats.
    conf.set_default("heartbeat_timeout_threshold", 0, group="oslo_messaging_rabbit")


def transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """The RPC transport that ``[DEFAULT] transport_url`` names."""
    inprocess.register()
    return oslo_messaging.get_rpc_transport(conf)


def target(topic: str, host: str | None = None) -> oslo_messaging.Target:
    """A topic, or one host's server of it."""
    return oslo_messaging.Target(topic=topic, server=host, version=VERSION)
