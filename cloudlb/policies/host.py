# SPDX-License-Identifier: Apache-2.0
"""Hosts: everybody reads them, administrators declare them gone."""

from cloudlb.policies.base import ADMIN, READER, rule

_ONE = "/v1/hosts/{name}"

RULES = [
    rule("host:list", READER, "List hosts.", "GET", "/v1/hosts"),
    rule("host:show", READER, "Show a host.", "GET", _ONE),
    rule("host:delete", ADMIN, "Declare a silent host gone.", "DELETE", _ONE),
]
