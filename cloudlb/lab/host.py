# SPDX-License-Identifier: Apache-2.0
"""A host of the lab: namespaces kept by a holder process, entered with setns."""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from cloudlb.lab.errors import DeadlineError, LabError, NotRunningError, UnknownNameError
from cloudlb.lab.network import PINS, namespace
from cloudlb.lab.process import ProcessId, wait_for
from cloudlb.lab.record import Record
from cloudlb.lab.service import Service, ServiceSpec
from cloudlb.lab.topology import HostSpec

HOLDER = "holder"
HOLD_SCRIPT = Path(__file__).parent / "host" / "hold.sh"
CHECKOUT = Path(__file__).parents[2]
VENV = Path(sys.prefix)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_Stream = int | IO[bytes] | None


class Host:
    """One host; all methods but `hold` need it to be up."""

    def __init__(self, lab: str, spec: HostSpec, state: Path, record: Record) -> None:
        self.spec = spec
        self.lab = lab
        self.lab_state = state
        self.state = state / spec.name
        self.record = record
        self.environment: dict[str, str] = {}
        self._services: dict[str, Service] = {}

    @property
    def name(self) -> str:
        """The host's name, without the lab's prefix."""
        return self.spec.name

    @property
    def namespace(self) -> str:
        """The name of the host's network namespace, as `ip netns list` shows it."""
        return namespace(self.lab, self.name)

    @property
    def holder(self) -> ProcessId | None:
        """The process that keeps the host's namespaces."""
        return self.record.processes.get(f"{self.name}/{HOLDER}")

    @property
    def pid(self) -> int:
        """Pid of the holder; NotRunningError when the host is not up."""
        if self.holder is None or not self.holder.alive():
            raise NotRunningError(self.lab)
        return self.holder.pid

    def alive(self) -> bool:
        """Whether the host's holder runs."""
        return self.holder is not None and self.holder.alive()

    @property
    def root(self) -> Path:
        """The host's file system as seen from outside."""
        return Path(f"/proc/{self.pid}/root")

    def enter(self, argv: Sequence[str], environment: dict[str, str] | None = None) -> list[str]:
        """Return the command that runs `argv` on this host, with a clean environment."""
        variables = self._variables() | (environment or {})
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--net",
            "env",
            "-i",
            *(f"{name}={value}" for name, value in variables.items()),
            *argv,
        ]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; with `check` a failure raises a LabError that shows its output."""
        try:
            done = subprocess.run(
                self.enter(argv, environment),
                check=False,
                capture_output=True,
                text=True,
                timeout=timeout,
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"end of {shlex.join(argv)!r} on {self.name}", timeout) from error
        if check and done.returncode:
            raise LabError(
                f"{shlex.join(argv)!r} on {self.name} ended with {done.returncode}: "
                f"{done.stdout}{done.stderr}".rstrip()
            )
        return done

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: _Stream = subprocess.DEVNULL,
        stdout: _Stream = subprocess.PIPE,
        stderr: _Stream = subprocess.STDOUT,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command; its pid is the pid of the returned object."""
        return subprocess.Popen(
            self.enter(argv, environment), stdin=stdin, stdout=stdout, stderr=stderr
        )

    def hold(self, cache: Path) -> None:
        """Make the namespaces and the private directories; the network is empty still."""
        for directory in ("log", "guests"):
            (self.state / directory).mkdir(parents=True, exist_ok=True)
        (self.state / "ready").unlink(missing_ok=True)  # of a host that was plugged in before
        self.record.add_namespace(self.namespace)
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        with (self.state / "log" / "holder.log").open("wb") as log:
            child = subprocess.Popen(
                self._hold_command(cache),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._holder_child = child
        self.record.set_process(f"{self.name}/{HOLDER}", ProcessId.of(child.pid))

    def wait_held(self) -> None:
        """Wait until the private directories are there."""

        def held() -> bool:
            if not self.alive():
                log = (self.state / "log" / "holder.log").read_text()
                raise LabError(f"host {self.name} was not made: {log.strip()}")
            return (self.state / "ready").exists()

        wait_for(f"host {self.name} has its private directories", held, 20, interval=0.01)

    def add_services(self, specs: Iterable[ServiceSpec]) -> None:
        """Make services known to this host; they are not started."""
        self._services |= {spec.name: Service(self, spec) for spec in specs}

    def service(self, name: str) -> Service:
        """Return a service by its name."""
        if name not in self._services:
            raise UnknownNameError(f"service on {self.name}", name, list(self._services))
        return self._services[name]

    @property
    def services(self) -> list[Service]:
        """All services of this host, in the order in which they are started."""
        return list(self._services.values())

    def listens(self, port: int) -> bool:
        """Whether a TCP socket of this host listens on a port."""
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    return True
        return False

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": f"{VENV / 'bin'}:{SYSTEM_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        } | self.environment

    def _hold_command(self, cache: Path) -> list[str]:
        paths = (self.lab_state, self.state, cache, CHECKOUT, VENV)
        return [
            "nsenter",
            f"--net={PINS / self.namespace}",
            "unshare",
            "--mount",
            "--uts",
            "--propagation=private",
            "sh",
            str(HOLD_SCRIPT),
            self.name,
            *map(str, paths),
        ]
