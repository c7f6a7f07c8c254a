# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: namespaces, a libvirtd each, small real guests, and cloudlb on them."""
