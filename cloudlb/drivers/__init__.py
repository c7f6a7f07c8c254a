# SPDX-License-Identifier: Apache-2.0
"""Data-plane drivers: pure functions from a pool to what a host must do for it."""
