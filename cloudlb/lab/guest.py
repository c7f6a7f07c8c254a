# SPDX-License-Identifier: Apache-2.0
"""A guest of the lab: a libvirt domain that answers on the network and on a serial port."""

import contextlib
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cloudlb.lab import console
from cloudlb.lab.accelerator import Accelerator, emulator_version
from cloudlb.lab.domain import CACHE_IN_HOST, domain_xml, saved_image_digest
from cloudlb.lab.errors import DeadlineError, LabError, NotRunningError
from cloudlb.lab.host import Host
from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.image import Cache, Image
from cloudlb.lab.process import ProcessId
from cloudlb.lab.topology import GuestSpec

BOOT_SECONDS = 60.0
_FIRST_PATIENCE, _LONGEST_PATIENCE = 0.5, 8.0
READY = "pidof responder && ip link show eth0 && ! ip address show eth0 | grep tentative"
"""Shell text that succeeds in a guest that can be talked to over the network."""


class Guest:
    """One guest; it is looked for on all compute hosts, as it may have moved."""

    def __init__(self, spec: GuestSpec, compute_hosts: Sequence[Host]) -> None:
        self.spec = spec
        self._hosts = sorted(compute_hosts, key=lambda host: host.name != spec.home)

    @property
    def name(self) -> str:
        """The guest's name, which is its domain's name too."""
        return self.spec.name

    @property
    def home(self) -> Host:
        """The compute host on which the guest is started."""
        return self._hosts[0]

    @property
    def host(self) -> Host | None:
        """The compute host on which the guest runs now; None when it is off."""
        for host in self._hosts:
            done = virsh(host, "domstate", self.name, check=False)
            if done.stdout.strip() in {"running", "paused"}:
                return host
        return None

    @property
    def process(self) -> ProcessId | None:
        """The guest's QEMU; None when the guest is off."""
        host = self.host
        if host is None:
            return None
        return ProcessId.of(int((host.root / f"run/libvirt/qemu/{self.name}.pid").read_text()))

    def run(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 20
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest, without using its network; standard input is empty."""
        command = shlex.join(argv)
        try:
            status, output, errors = self._ask(command, timeout)
        except TimeoutError as error:
            raise DeadlineError(f"end of {command!r} in {self.name}", timeout) from error
        except ConnectionError as error:
            raise LabError(f"guest {self.name} is not running") from error
        if check and status:
            text = f"{output}{errors}".rstrip()
            raise LabError(f"{command!r} in {self.name} ended with {status}: {text}")
        return subprocess.CompletedProcess(list(argv), status, output, errors)

    def destroy(self) -> None:
        """Switch the guest off at once; it stays defined."""
        host = self.host
        if host is not None:
            virsh(host, "destroy", self.name)

    def start(self) -> None:
        """Boot the guest at its home and wait until it answers."""
        virsh(self.home, "start", self.name)
        self.wait_ready()

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the guest can be talked to; with more patience each time, since one that is
        slow answers the former question first.
        """
        deadline, patience = time.monotonic() + seconds, _FIRST_PATIENCE
        while time.monotonic() < deadline:
            if not self.home.alive():
                raise NotRunningError(self.home.lab)
            # What is sent before the guest opens the port is lost: ask again.
            with contextlib.suppress(ConnectionError):
                try:
                    if self._ask(READY, patience, grace=0)[0] == 0:
                        return
                except TimeoutError:
                    patience = min(2 * patience, _LONGEST_PATIENCE)
            time.sleep(0.1)
        log = self.home.state / "log" / f"{self.name}-console.log"
        raise DeadlineError(f"guest {self.name} is ready", seconds, f"see {log}")

    def provide(self, cache: Cache, image: Image, accelerator: Accelerator) -> None:
        """Define and run the guest, from a saved image where there is one."""
        xml = domain_xml(self.spec, image, accelerator)
        saved = cache.saved(self.name, saved_image_digest(xml, image, emulator_version()))
        virsh(self.home, "define", "/dev/stdin", input=xml)
        if saved.exists() and self._restore(saved):
            return
        self.start()
        with cache.locked():
            self._save(saved)
        if not self._restore(saved):
            raise LabError(f"guest {self.name} does not start from its fresh image {saved}")

    def _restore(self, saved: Path) -> bool:
        path = f"{CACHE_IN_HOST}/saved/{saved.name}"
        # An image that fails stays until a better one takes its place: what failed may be an
        # `up` that is being interrupted.
        if virsh(self.home, "restore", path, check=False).returncode:
            return False
        self.wait_ready()
        return True

    def _save(self, saved: Path) -> None:
        saved.parent.mkdir(exist_ok=True)
        partial = saved.with_suffix(".partial")
        virsh(self.home, "save", self.name, f"{CACHE_IN_HOST}/saved/{partial.name}")
        partial.rename(saved)
        for old in saved.parent.glob(f"{self.name}-*"):
            if old != saved:
                old.unlink()

    def _ask(
        self, command: str, seconds: float, grace: float = console.GRACE_SECONDS
    ) -> tuple[int, str, str]:
        for host in self._hosts:
            with contextlib.suppress(ConnectionRefusedError):
                return console.ask(host.state / "guests" / self.name, command, seconds, grace)
        raise ConnectionRefusedError(self.name)
