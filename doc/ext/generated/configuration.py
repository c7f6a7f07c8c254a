# SPDX-License-Identifier: Apache-2.0
"""Every option of cloudlb, from `cloudlb.conf.list_opts`."""

from typing import Any

from cloudlb.conf import list_opts
from generated import rst


def text() -> str:
    """A section for each group, a definition for each option."""
    parts = []
    for group, options in list_opts():
        parts.append(rst.title(f"[{group or 'DEFAULT'}]", "-"))
        parts += [_option(option) for option in options]
    return "\n".join(parts)


def _option(option: Any) -> str:
    facts = [f"Type: {rst.escape(option.type.type_name)}."]
    default = option.sample_default if option.sample_default is not None else option.default
    facts.append(f"Default: {_default(default)}.")
    low, high = getattr(option.type, "min", None), getattr(option.type, "max", None)
    if low is not None and high is not None:
        facts.append(f"From {low} to {high}.")
    elif low is not None:
        facts.append(f"At least {low}.")
    choices = getattr(option.type, "choices", None)
    described = [
        f"{rst.literal(name)}: {rst.escape(why)}" if why else rst.literal(name)
        for name, why in (choices or {}).items()
    ]
    return rst.definition(
        rst.literal(option.name), [rst.escape(option.help), " ".join(facts), " ".join(described)]
    )


def _default(value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(value)
    return rst.literal(value) if value not in (None, "", {}) else "empty"
