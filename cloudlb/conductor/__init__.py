# SPDX-License-Identifier: Apache-2.0
"""The conductor: what is wanted of each host, and what hosts report of it."""
