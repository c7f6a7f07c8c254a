# SPDX-License-Identifier: Apache-2.0
"""Options of the REST API."""

from oslo_config import cfg

GROUP = "api"
OPTIONS = [
    cfg.HostAddressOpt(
        "bind_host",
        default="127.0.0.1",
        help="Address that cloudlb-api and cloudlb-allinone serve the API on. Without "
        "authentication only loopback addresses are accepted.",
    ),
    cfg.PortOpt(
        "bind_port",
        default=9890,
        help="Port that cloudlb-api and cloudlb-allinone serve the API on.",
    ),
    cfg.IntOpt(
        "threads",
        default=8,
        min=2,
        help="Threads of the API process. At most half of them wait for hosts: for requests with "
        "?wait= and for counters. Further ones are answered with Retry-After at once, writes by "
        "202, questions for counters by 503.",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1000,
        min=1,
        help="Largest page of a list; a larger ?limit= is cut to it.",
    ),
]
