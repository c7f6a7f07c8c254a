# SPDX-License-Identifier: Apache-2.0
"""Rules that others refer to. The roles imply each other: admin, manager, member, reader."""

from oslo_policy import policy

ADMIN = "role:admin"
MEMBER = "role:member"
READER = "role:reader"

RULES = [
    policy.RuleDefault(
        "all_projects", ADMIN, description="See and change the objects of every project."
    ),
]


def rule(name: str, check: str, description: str, method: str, path: str) -> policy.RuleDefault:
    """A rule for one operation of the API."""
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=check,
        description=description,
        operations=[{"method": method, "path": path}],
        scope_types=["project"],
    )
