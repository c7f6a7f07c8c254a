# SPDX-License-Identifier: Apache-2.0
"""What cloudlb costs, as a ratio to a peer or a floor that is measured in the same run."""
