# SPDX-License-Identifier: Apache-2.0
"""cloudlb decides where traffic goes around virtual machines."""

__version__ = "0.1.0"
