# SPDX-License-Identifier: Apache-2.0
"""The BPF programs: sources in C, their compilation, loading and maps."""
