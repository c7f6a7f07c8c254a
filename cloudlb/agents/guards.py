# SPDX-License-Identifier: Apache-2.0
"""The addresses that guests may hold but not announce: those of all pools of their networks."""

import threading

from cloudlb.agents.pools import Source
from cloudlb.engines.base import Engine
from cloudlb.model.network import Address
from cloudlb.model.snapshot import Snapshot


class Guards:
    """What a snapshot claims, brought to the engine; only the conductor frees an address."""

    def __init__(self, engine: Engine, lock: threading.RLock) -> None:
        self._engine, self._lock = engine, lock
        self._wanted: dict[int, set[Address]] = {}
        self._frees = False
        self._is_done = True

    def want(self, snapshot: Snapshot, source: Source) -> None:
        """Take a view; call `bring_about` for it."""
        with self._lock:
            self._wanted = {}
            for claim in snapshot.claims:
                self._wanted.setdefault(claim.network, set()).add(claim.address)
            self._frees = source is Source.CONDUCTOR
            self._is_done = False

    def bring_about(self) -> None:
        """Make the engine agree with what was wanted last, unless it does already.

        Raises `EngineError` when the kernel refuses; to be called again then.
        """
        with self._lock:
            if self._is_done:
                return
            there = self._engine.guarded()
            for network in there.keys() | self._wanted.keys():
                known = there.get(network, frozenset())
                addresses = frozenset(self._wanted.get(network, ()))
                addresses = addresses if self._frees else addresses | known
                if addresses != known:
                    self._engine.guard(network, addresses)
            self._is_done = True
