# SPDX-License-Identifier: Apache-2.0
"""How much a test does: enough for every day, or for hours (`make soak`)."""

import os

IS_SOAK = os.environ.get("CLOUDLB_SOAK") == "1"


def count(usual: int, soak: int) -> int:
    """The number of repetitions that a test makes."""
    return soak if IS_SOAK else usual
