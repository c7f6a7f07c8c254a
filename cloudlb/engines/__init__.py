# SPDX-License-Identifier: Apache-2.0
"""Engines: they make the kernel agree with what drivers ask for."""
