# SPDX-License-Identifier: Apache-2.0
"""The ideas of cloudlb, with no I/O: this package imports the standard library only."""
