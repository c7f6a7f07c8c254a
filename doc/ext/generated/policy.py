# SPDX-License-Identifier: Apache-2.0
"""Every policy rule of cloudlb, from `cloudlb.policies.list_rules`."""

from typing import Any

from cloudlb.policies import list_rules
from generated import rst


def text() -> str:
    """A table of rules."""
    rows = [
        (
            rst.literal(rule.name),
            rst.literal(rule.check_str),
            rst.escape(rule.description),
            _operations(rule),
        )
        for rule in list_rules()
    ]
    return rst.table(("Rule", "Default", "What it allows", "Operation"), rows, (22, 16, 34, 28))


def _operations(rule: Any) -> str:
    operations = getattr(rule, "operations", [])
    return ", ".join(rst.literal(f"{each['method']} {each['path']}") for each in operations)
