# SPDX-License-Identifier: Apache-2.0
"""Options that every service reads."""

import socket

from oslo_config import cfg

GROUP = None
OPTIONS = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<this host's name>",
        help="Name of this host in the API and on the message bus. Two agents must not share it.",
    ),
    cfg.IntOpt(
        "host_down_time",
        default=30,
        min=2,
        help="Seconds without a word from an agent after which its host counts as down: it then "
        "no longer holds up deletions, and its part of a pool is reported as pending.",
    ),
]
