# SPDX-License-Identifier: Apache-2.0
"""The agent of a host: observes, compares with what is wanted, applies, reports."""
