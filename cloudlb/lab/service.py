# SPDX-License-Identifier: Apache-2.0
"""Long-running programs of a lab host: started detached, recorded, ended by recorded identity."""

import contextlib
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cloudlb.lab.errors import LabError
from cloudlb.lab.process import ProcessId, wait_gone

if TYPE_CHECKING:
    from cloudlb.lab.host import Host

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class ServiceSpec:
    """How a service is started: the program must stay in the foreground."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


class Service:
    """One service on one host."""

    def __init__(self, host: "Host", spec: ServiceSpec) -> None:
        self.host = host
        self.spec = spec
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def name(self) -> str:
        """The service's name, such as `agent`."""
        return self.spec.name

    @property
    def log(self) -> Path:
        """The file with everything that the service has written; readable from outside."""
        return self.host.state / "log" / f"{self.name}.log"

    @property
    def process(self) -> ProcessId | None:
        """The process that was started last, alive or not."""
        return self.host.record.processes.get(self._key)

    def alive(self) -> bool:
        """Whether the service's process runs."""
        return self.process is not None and self.process.alive()

    def must_run(self) -> None:
        """Raise a LabError that shows the end of the log unless the service runs."""
        if not self.alive():
            raise LabError(f"{self._key} has ended; the end of {self.log}:\n{self._tail()}")

    def start(self) -> None:
        """Start the service; it outlives this program."""
        if self.alive():
            raise LabError(f"{self._key} is running already")
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.host.enter([*self.spec.argv], self.spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        self.host.record.set_process(self._key, ProcessId.of(child.pid))

    def kill(self) -> None:
        """End the service's process with SIGKILL and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the service with SIGTERM, with SIGKILL when it does not obey."""
        if not self._end(signal.SIGTERM):
            self.kill()

    def _end(self, number: signal.Signals) -> bool:
        process = self.process
        return (
            process is None or not process.send(number) or not wait_gone([process], STOP_SECONDS)
        )

    def _tail(self, lines: int = 15) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    @property
    def _key(self) -> str:
        return f"{self.host.name}/{self.name}"
