# SPDX-License-Identifier: Apache-2.0
"""Pools of the caller's project."""

from cloudlb.policies.base import MEMBER, READER, rule

_ONE = "/v1/pools/{pool_id}"

RULES = [
    rule("pool:list", READER, "List pools.", "GET", "/v1/pools"),
    rule("pool:show", READER, "Show a pool, its status, counters and connections.", "GET", _ONE),
    rule("pool:create", MEMBER, "Create a pool.", "POST", "/v1/pools"),
    rule("pool:update", MEMBER, "Change a pool.", "PATCH", _ONE),
    rule("pool:delete", MEMBER, "Delete a pool.", "DELETE", _ONE),
]
