# SPDX-License-Identifier: Apache-2.0
"""The database: what is wanted, what is observed, and the transactions between the two."""
