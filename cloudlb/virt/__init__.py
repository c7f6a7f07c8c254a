# SPDX-License-Identifier: Apache-2.0
"""libvirt: the only user of its binding."""
