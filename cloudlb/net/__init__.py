# SPDX-License-Identifier: Apache-2.0
"""The kernel, one noun per module: the only user of pyroute2 and ctypes."""
