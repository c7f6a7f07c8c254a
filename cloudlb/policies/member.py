# SPDX-License-Identifier: Apache-2.0
"""Members of pools of the caller's project.

Requests that write several members need the rule of each thing that they do to one.
"""

from cloudlb.policies.base import ADMIN, MEMBER, READER, rule

_ALL = "/v1/pools/{pool_id}/members"
_ONE = "/v1/pools/{pool_id}/members/{member_id}"

RULES = [
    rule("member:list", READER, "List members.", "GET", _ALL),
    rule("member:show", READER, "Show a member.", "GET", _ONE),
    rule("member:create", MEMBER, "Add members to a pool, also while creating it.", "POST", _ALL),
    rule("member:update", MEMBER, "Change members of a pool.", "PATCH", _ONE),
    rule("member:replace", MEMBER, "Replace the members of a pool.", "PUT", _ALL),
    rule("member:delete", MEMBER, "Remove a member from a pool.", "DELETE", _ONE),
    rule(
        "member:any_server",
        ADMIN,
        "Make members of servers of other projects, and of those that belong to none.",
        "POST",
        _ALL,
    ),
    rule(
        "member:remote_server",
        ADMIN,
        "Make members of remote servers. Nobody can tell whose these are, and directors send to "
        "their addresses what clients send to the pool, and probes.",
        "POST",
        _ALL,
    ),
]
