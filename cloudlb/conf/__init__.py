# SPDX-License-Identifier: Apache-2.0
"""The configuration options: one module per group, registered on oslo.config's global CONF.

The global object is used because oslo.messaging 18 registers part of its own options only there.
"""

import os
import re
from collections.abc import Iterator, Sequence

from oslo_config import cfg
from oslo_log import log

from cloudlb.conf import agent, api, conductor, default
from cloudlb.model.errors import Misconfigured

_MODULES = (default, api, conductor, agent)
_QUIET = ("asyncio=INFO", "pyroute2=INFO", "stevedore=INFO", "kombu=INFO")


def load(arguments: Sequence[str], prog: str) -> cfg.ConfigOpts:
    """The configuration from ``--config-file`` arguments, else from OS_CLOUDLB_CONFIG_FILES.

    Environment: ``OS_CLOUDLB_CONFIG_FILES`` holds paths separated by semicolons. Without either,
    oslo.config looks in its usual places (/etc/cloudlb/cloudlb.conf). Raises `Misconfigured` for a
    file that cannot be read and for a value that is not of its option's type.
    """
    cfg.CONF.reset()
    register(cfg.CONF)
    log.register_options(cfg.CONF)
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), *_QUIET])
    named = [f for f in os.environ.get("OS_CLOUDLB_CONFIG_FILES", "").split(";") if f]
    try:
        cfg.CONF(list(arguments), project="cloudlb", prog=prog, default_config_files=named or None)
    except cfg.ConfigFilesNotFoundError as error:
        raise Misconfigured(
            f"There is no file {', '.join(error.config_files)}; name one that exists, by "
            "--config-file or in OS_CLOUDLB_CONFIG_FILES."
        ) from error
    except cfg.Error as error:
        raise Misconfigured(f"{error}.") from error
    _check(cfg.CONF)
    return cfg.CONF


def _check(conf: cfg.ConfigOpts) -> None:
    """Read every option once: oslo.config looks at a value when somebody asks for it."""
    for group, options in list_opts():
        values = conf[group] if group else conf
        for option in options:
            try:
                values[option.name]
            except cfg.ConfigSourceValueError as error:
                raise Misconfigured(_wrong_value(group, option, str(error))) from error


def _wrong_value(group: str | None, option: cfg.Opt, complaint: str) -> str:
    """Of oslo.config's sentence the file and the reason, and what would be right."""
    place = re.search("detail='(.+?)'", complaint)
    where = f" in {place[1]}" if place else ""
    reason = complaint.partition("is not valid: ")[2] or complaint
    return (
        f"[{group or 'DEFAULT'}] {option.name}{where} is wrong: {reason}. "
        f"Expected: {option.type.type_name}. {option.help}"
    )


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options of cloudlb on ``conf``; doing it twice is harmless."""
    for module in _MODULES:
        conf.register_opts(module.OPTIONS, group=module.GROUP)


def list_opts() -> Iterator[tuple[str | None, list[cfg.Opt]]]:
    """For oslo-config-generator: each group with its options."""
    for module in _MODULES:
        yield module.GROUP, list(module.OPTIONS)
