# SPDX-License-Identifier: Apache-2.0
"""Whether guests really boot under KVM here; /dev/kvm alone does not say so."""

import enum
import json
import subprocess
from pathlib import Path

from cloudlb.lab.image import Cache, Image

EMULATOR = Path("/usr/bin/qemu-system-x86_64")
GUEST_MEMORY_MIB = 96
PROBE_SECONDS = 10
PROBE_MARK = b"cloudlb-probe-booted"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Accelerator(enum.Enum):
    """How QEMU runs guests; the value is libvirt's domain type."""

    KVM = "kvm"
    TCG = "qemu"


def emulator_version() -> str:
    """Return QEMU's own version line."""
    done = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def choose(cache: Cache, image: Image) -> Accelerator:
    """Boot a guest under KVM once per boot of this machine; remember the answer."""
    if not Path("/dev/kvm").exists():
        return Accelerator.TCG
    known = cache.path / "accelerator.json"
    question = [_BOOT_ID.read_text().strip(), emulator_version(), image.digest]
    if known.exists():
        remembered = json.loads(known.read_text())
        if remembered["question"] == question:
            return Accelerator(remembered["answer"])
    answer = Accelerator.KVM if _boots_under_kvm(image) else Accelerator.TCG
    known.write_text(json.dumps({"question": question, "answer": answer.value}))
    return answer


def _boots_under_kvm(image: Image) -> bool:
    command = [str(EMULATOR), "-accel", "kvm", "-cpu", "host", "-m", str(GUEST_MEMORY_MIB)]
    command += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    command += ["-append", "console=ttyS0 quiet panic=-1 cloudlb.probe"]
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return PROBE_MARK in done.stdout
