# SPDX-License-Identifier: Apache-2.0
"""How much a test does: enough for every day, or for hours (`make soak`)."""

import os
from typing import TypeVar

T = TypeVar("T")

IS_SOAK = os.environ.get("CLOUDLB_SOAK") == "1"


def count(usual: int, soak: int) -> int:
    """The number of repetitions that a test makes."""
    return soak if IS_SOAK else usual


def choose(usual: list[T], soak: list[T]) -> list[T]:
    """The combinations that a slow test is made for: each kind once, or these and all others."""
    return [*usual, *soak] if IS_SOAK else usual
