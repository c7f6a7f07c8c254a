# SPDX-License-Identifier: Apache-2.0
"""The configuration options: one module per group, registered on oslo.config's global CONF.

The global object is used because oslo.messaging 18 registers part of its own options only there.
"""

import os
from collections.abc import Iterator, Sequence

from oslo_config import cfg
from oslo_log import log

from cloudlb.conf import agent, api, conductor, default

_MODULES = (default, api, conductor, agent)
_QUIET = ("pyroute2=INFO", "stevedore=INFO", "kombu=INFO")


def load(arguments: Sequence[str], prog: str) -> cfg.ConfigOpts:
    """The configuration from ``--config-file`` arguments, else from OS_CLOUDLB_CONFIG_FILES.

    Environment: ``OS_CLOUDLB_CONFIG_FILES`` holds paths separated by semicolons. Without either,
    oslo.config looks in its usual places (/etc/cloudlb/cloudlb.conf).
    """
    cfg.CONF.reset()
    register(cfg.CONF)
    log.register_options(cfg.CONF)
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), *_QUIET])
    named = [f for f in os.environ.get("OS_CLOUDLB_CONFIG_FILES", "").split(";") if f]
    cfg.CONF(list(arguments), project="cloudlb", prog=prog, default_config_files=named or None)
    return cfg.CONF


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options of cloudlb on ``conf``; doing it twice is harmless."""
    for module in _MODULES:
        conf.register_opts(module.OPTIONS, group=module.GROUP)


def list_opts() -> Iterator[tuple[str | None, list[cfg.Opt]]]:
    """For oslo-config-generator: each group with its options."""
    for module in _MODULES:
        yield module.GROUP, list(module.OPTIONS)
