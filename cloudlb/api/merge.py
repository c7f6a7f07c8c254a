# SPDX-License-Identifier: Apache-2.0
"""JSON merge patch (RFC 7396)."""

from collections.abc import Mapping
from typing import Any


def patched(target: Any, patch: Any) -> Any:
    """``target`` with ``patch`` merged in: null removes, an object merges, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value)
    return result
