# SPDX-License-Identifier: Apache-2.0
"""The client side: an openstacksdk proxy and what is built on it."""
