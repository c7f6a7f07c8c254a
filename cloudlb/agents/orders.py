# SPDX-License-Identifier: Apache-2.0
"""What an agent and the process that elects for its host share: a directory and its files."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cloudlb.model import plain


@dataclass(frozen=True, slots=True)
class Duty:
    """An election to stand in, and the interface of its addresses."""

    router: int
    link: str


@dataclass(frozen=True, slots=True)
class Orders:
    """What the electing process is to do; ``configuration`` is keepalived's."""

    interval: float
    duties: tuple[Duty, ...]
    configuration: str


@dataclass(frozen=True, slots=True)
class Desk:
    """Where orders lie. The electing process holds a lock on the directory while it lives."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """keepalived's configuration file."""
        return self.directory / "keepalived.conf"

    @property
    def events(self) -> Path:
        """The FIFO in which keepalived tells its transitions."""
        return self.directory / "events"

    @property
    def pid(self) -> Path:
        """The electing process's number, as text."""
        return self.directory / "pid"

    def write(self, orders: Orders) -> None:
        """Leave orders, and the configuration that belongs to them. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._replace(self.configuration, orders.configuration)
        self._replace(self.directory / "orders.json", json.dumps(plain.encode(orders)))

    def read(self) -> Orders | None:
        """The orders that lie there; None if there are none to be read."""
        try:
            data = json.loads((self.directory / "orders.json").read_text())
            return plain.decode(Orders, data)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _replace(self, path: Path, text: str) -> None:
        draft = path.with_suffix(".tmp")
        draft.write_text(text)
        os.replace(draft, path)
