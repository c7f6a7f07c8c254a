# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: network namespaces with a libvirt and small guests each."""
