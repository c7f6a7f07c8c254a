# SPDX-License-Identifier: Apache-2.0
"""Migrations of servers whose address is hosted by a gateway; a later release builds them."""
