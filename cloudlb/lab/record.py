# SPDX-License-Identifier: Apache-2.0
"""The record of what a lab has made, on disk before the thing is made."""

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cloudlb.lab.process import ProcessId

STATE_ROOT = Path("/run/cloudlb-lab")


@dataclass
class Record:
    """Everything that must be ended or removed, and whether `up` was completed."""

    path: Path
    cache: str = ""
    complete: bool = False
    namespaces: list[str] = field(default_factory=list)
    processes: dict[str, ProcessId] = field(default_factory=dict)
    """Keyed `host/service`; the process that holds a host is `host/holder`."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record; an absent or torn one is empty."""
        try:
            data = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return cls(path)
        processes = {key: ProcessId(**value) for key, value in data.pop("processes").items()}
        return cls(path, processes=processes, **data)

    def add_namespace(self, name: str) -> None:
        """Note a network namespace that is about to be made."""
        with self._lock:
            self.namespaces.append(name)
            self._save()

    def set_process(self, key: str, process: ProcessId) -> None:
        """Note the process that now plays a part."""
        with self._lock:
            self.processes[key] = process
            self._save()

    def forget(self, host: str) -> None:
        """Drop a host that is no more."""
        with self._lock:
            for key in [key for key in self.processes if key.startswith(f"{host}/")]:
                del self.processes[key]
            self._save()

    def set_complete(self) -> None:
        """Note that `up` has finished."""
        with self._lock:
            self.complete = True
            self._save()

    def _save(self) -> None:
        data = asdict(self)
        del data["path"]
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(data, indent=1))
        temporary.replace(self.path)
