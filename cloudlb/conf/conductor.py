# SPDX-License-Identifier: Apache-2.0
"""Options of the conductor."""

from oslo_config import cfg

GROUP = "conductor"
OPTIONS = [
    cfg.IntOpt(
        "sweep_interval",
        default=5,
        min=1,
        help="Seconds between two looks for deletions that only wait for hosts that are down.",
    ),
    cfg.IntOpt(
        "key_lifetime",
        default=86400,
        min=3600,
        help="Seconds after which agents get another key for their messages to each other. The "
        "one before stays good as long again.",
    ),
]
