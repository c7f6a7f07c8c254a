# SPDX-License-Identifier: Apache-2.0
"""Networks: everybody reads them, administrators write them."""

from cloudlb.policies.base import ADMIN, READER, rule

_ONE = "/v1/networks/{network_id}"

RULES = [
    rule("network:list", READER, "List networks.", "GET", "/v1/networks"),
    rule("network:show", READER, "Show a network.", "GET", _ONE),
    rule("network:create", ADMIN, "Create a network.", "POST", "/v1/networks"),
    rule("network:update", ADMIN, "Change a network.", "PATCH", _ONE),
    rule("network:delete", ADMIN, "Delete a network.", "DELETE", _ONE),
]
