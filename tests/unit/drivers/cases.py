# SPDX-License-Identifier: Apache-2.0
"""Pools as hosts are told of them, and the planes that were accepted for them.

To accept new planes: CLOUDLB_GOLDEN=write pytest tests/unit/drivers, then read the difference.
"""

import json
import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.model.dataplane import Plane
from cloudlb.model.plain import decode, encode
from cloudlb.model.snapshot import PoolView


@dataclass(frozen=True)
class Case:
    """A pool as a host is told of it."""

    view: PoolView
    host: str = "d1"
    down: Set[UUID] = frozenset()

    def compiled(self, driver: DataPlaneDriver) -> Plane | None:
        """The pool's plane on the host."""
        return driver.compile(self.view, self.host, self.down)


class Golden:
    """A file of accepted planes by the names of their cases."""

    def __init__(self, name: str, driver: DataPlaneDriver, cases: dict[str, Case]) -> None:
        path = Path(__file__).with_name(name)
        if os.environ.get("CLOUDLB_GOLDEN") == "write":
            planes = {name: encode(case.compiled(driver)) for name, case in cases.items()}
            path.write_text(json.dumps(planes, indent=1) + "\n")
        self._planes: dict[str, object] = json.loads(path.read_text())

    def names(self) -> set[str]:
        """The cases that have a plane."""
        return set(self._planes)

    def plane(self, name: str) -> Plane | None:
        """The accepted plane of a case."""
        plane = self._planes[name]
        return decode(Plane, plane) if plane else None
