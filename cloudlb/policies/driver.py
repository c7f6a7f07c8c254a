# SPDX-License-Identifier: Apache-2.0
"""Data-plane drivers."""

from cloudlb.policies.base import READER, rule

RULES = [rule("driver:list", READER, "List the data-plane drivers.", "GET", "/v1/drivers")]
