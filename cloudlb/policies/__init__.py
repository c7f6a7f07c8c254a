# SPDX-License-Identifier: Apache-2.0
"""Who may do what: policy rules in code, one module per noun, changed by a policy file."""

from oslo_policy import policy

from cloudlb.policies import base, driver, host, member, network, pool


def list_rules() -> list[policy.RuleDefault]:
    """Every rule, for the enforcer and for oslopolicy-sample-generator."""
    return [
        rule for module in (base, network, pool, member, host, driver) for rule in module.RULES
    ]
