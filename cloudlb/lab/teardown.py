# SPDX-License-Identifier: Apache-2.0
"""Removing a lab, whole or in pieces: from its record and by its namespaces' prefix."""

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

from cloudlb.lab.errors import DeadlineError
from cloudlb.lab.network import PINS
from cloudlb.lab.process import ProcessId, in_network_namespace, wait_gone
from cloudlb.lab.record import STATE_ROOT, Record

KILL_SECONDS = 15.0


def remove(lab: str, record: Record) -> None:
    """End all processes of a lab and remove its namespaces and files; may be repeated.

    Everything that a lab starts, QEMU and epmd too, lives in the lab's network namespaces,
    so that nothing is missed when the record is torn or older than a process. The private
    mounts go with the last process.
    """
    pins = namespace_pins(lab)
    _kill(pins, list(record.processes.values()))
    for pin in pins:
        subprocess.run(["ip", "netns", "delete", pin.name], check=True)
    shutil.rmtree(record.path.parent, ignore_errors=True)
    with contextlib.suppress(OSError):
        STATE_ROOT.rmdir()
    _remove_empty_pin_directory()


def remove_host(name: str) -> None:
    """End all processes in a host's network namespace and remove it."""
    pin = PINS / name
    _kill([pin], [])
    subprocess.run(["ip", "netns", "delete", name], check=True)


def namespace_pins(lab: str) -> list[Path]:
    """Return the pins of a lab's network namespaces."""
    return sorted(PINS.glob(f"{lab}-*"))


def _kill(pins: list[Path], recorded: list[ProcessId]) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    left = _left(pins, recorded)
    while left:
        for process in left:
            process.send(signal.SIGKILL)
        wait_gone(left, 5)
        # A process may have been forked while its parent was being ended.
        left = _left(pins, recorded)
        if left and time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise DeadlineError(f"end of processes {pids}", KILL_SECONDS)


def _left(pins: list[Path], recorded: list[ProcessId]) -> list[ProcessId]:
    found = {process for process in recorded if process.alive()}
    for pin in pins:
        found.update(in_network_namespace(pin))
    return list(found)


def _remove_empty_pin_directory() -> None:
    """Undo the mount that the first `ip netns add` makes, when nobody needs it any more."""
    with contextlib.suppress(OSError):
        if PINS.is_mount() and not any(PINS.iterdir()):
            subprocess.run(["umount", str(PINS)], check=False, capture_output=True)
            PINS.rmdir()
