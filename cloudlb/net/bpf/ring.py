# SPDX-License-Identifier: Apache-2.0
"""A ring buffer that programs write to: records as they come, each read once."""

import ctypes
import os
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p
from pathlib import Path

from cloudlb.net.bpf.libbpf import Libbpf

MOST_AT_ONCE = 1000
_ENOUGH = -1  # libbpf ends there, behind this record
_Sample = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class Ring:
    """A pinned ring buffer; one reader at a time."""

    def __init__(self, libbpf: Libbpf, path: Path) -> None:
        self._fd = libbpf.get(path)
        self._records: list[bytes] = []
        self._callback = _Sample(self._take)
        self._libbpf = libbpf
        self._ring = libbpf.ring_new(self._fd, self._callback)

    def fileno(self) -> int:
        """For select: readable when there are records."""
        return self._libbpf.ring_fd(self._ring)

    def read(self) -> list[bytes]:
        """The records that have come, ``MOST_AT_ONCE`` at most: who writes may never rest. Others
        stay, and it stays readable.
        """
        self._libbpf.ring_consume(self._ring)
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        """Give everything back."""
        self._libbpf.ring_free(self._ring)
        os.close(self._fd)

    def _take(self, _context: object, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0 if len(self._records) < MOST_AT_ONCE else _ENOUGH
