# SPDX-License-Identifier: Apache-2.0
"""A guest with a Debian kernel that sees this machine's programs and the checkout, read-only.

Debian's cloud kernel has no 9p: the files come through virtiofs, whose daemon is in the same
package as QEMU.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudlb.lab.accelerator import EMULATOR, Accelerator
from cloudlb.lab.console import ask
from cloudlb.lab.errors import DeadlineError, LabError
from cloudlb.lab.image import BUSYBOX, GUEST_SOURCES, pack_initramfs, unpack_kernel
from cloudlb.lab.process import ProcessId, wait_for

MEMORY = "768M"
BOOT_SECONDS = 180
END_SECONDS = 15
UP = "the guest is up"
MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "fs/fuse/fuse",
    "fs/fuse/virtiofs",
    "net/llc/llc",
    "net/802/stp",
    "net/bridge/bridge",
    "drivers/net/veth",
    "drivers/net/tun",
    "net/sched/sch_ingress",
    "net/sched/cls_bpf",
    "lib/libcrc32c",
    "net/ipv4/netfilter/nf_defrag_ipv4",
    "net/ipv6/netfilter/nf_defrag_ipv6",
    "net/netfilter/nf_conntrack",
    "net/netfilter/ipvs/ip_vs",
    "net/netfilter/ipvs/ip_vs_rr",
    "net/netfilter/ipvs/ip_vs_wrr",
    "net/netfilter/ipvs/ip_vs_lc",
    "net/netfilter/ipvs/ip_vs_wlc",
)
"""In the order in which they are loaded."""
PEERS = (
    "net/netfilter/nfnetlink",
    "net/netfilter/nf_tables",
    "net/netfilter/nf_nat",
    "net/netfilter/nft_chain_nat",
    "net/netfilter/nft_nat",
    "net/netfilter/nft_ct",
    "net/netfilter/nft_numgen",
    "net/netfilter/nft_hash",
    "net/netfilter/nf_dup_netdev",
    "net/netfilter/nft_fwd_netdev",
    "net/ipv4/tunnel4",
    "net/ipv4/ip_tunnel",
    "net/ipv4/ipip",
)
"""Of other directors than cloudlb, after the former."""
_HERE = Path(__file__).parent
_MORTAL = ["setpriv", "--pdeathsig", "KILL"]  # ends with the tests, even with a killed run


@dataclass(frozen=True)
class Processor:
    """What a guest runs on, in QEMU's words."""

    accelerator: str
    model: str
    count: int = 2
    options: tuple[str, ...] = ()


FASTEST = {
    Accelerator.KVM: Processor("kvm", "host"),
    Accelerator.TCG: Processor("tcg,thread=multi", "max"),
}
COUNTING = Processor("tcg,thread=single", "max", 1, ("-icount", "shift=0"))
"""A nanosecond of the guest's time is one instruction, whatever else this machine does."""


@dataclass(frozen=True)
class Outcome:
    """What a command in the guest came to."""

    status: int
    output: str
    errors: str

    def __str__(self) -> str:
        return f"exit status {self.status}\n{self.output}\n{self.errors}"


class Machine:
    """A running guest; its files are in ``state``."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def run(self, command: str, seconds: float) -> Outcome:
        """Run shell text in the checkout; DeadlineError when it takes longer."""
        try:
            outcome = Outcome(*ask(self._state / "control", command, seconds))
        except TimeoutError as error:
            raise DeadlineError(f"{command!r} in the guest", seconds, self._console()) from error
        except ConnectionError as error:
            raise LabError(f"the guest ended during {command!r}; {self._console()}") from error
        if outcome.status == 128 + 9:
            raise DeadlineError(f"{command!r} in the guest", seconds, str(outcome))
        return outcome

    def wait_until_up(self, emulator: ProcessId) -> None:
        """Wait until the guest takes commands."""
        console = self._state / "console"

        def answers() -> bool:
            if not emulator.alive():
                raise LabError(f"QEMU has ended; {self._console()}")
            if not console.exists() or UP not in console.read_text(errors="replace"):
                return False
            return self._is_listening()

        wait_for("the guest's start", answers, BOOT_SECONDS, f"see {console}")

    def _is_listening(self) -> bool:
        """What comes before the guest has opened its port may lose its head, token and all."""
        try:
            ask(self._state / "control", "true", 1, grace=0)
        except TimeoutError:
            return False
        return True

    def _console(self) -> str:
        found = [self._state / name for name in ("console", "emulator.log", "share.log")]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in found)


@contextlib.contextmanager
def booted(
    package: Path,
    checkout: Path,
    processor: Processor,
    state: Path,
    modules: Sequence[str] = MODULES,
) -> Iterator[Machine]:
    """A guest with the kernel of a Debian package; ``state`` is an empty directory."""
    unpack_kernel(package, state / "kernel", modules)
    _build_initramfs(state, modules)
    (state / "share").mkdir()
    machine = Machine(state)
    with _process("share", share_command(checkout, state), state):
        wait_for("virtiofsd", (state / "files").exists, END_SECONDS, f"see {state / 'share.log'}")
        with _process("emulator", emulator_command(checkout, processor, state), state) as qemu:
            machine.wait_until_up(qemu)
            yield machine


def share_command(checkout: Path, state: Path) -> list[str]:
    """Serve what Python needs and no more of this machine."""
    directories = outermost([Path("/usr"), checkout, Path(sys.prefix), Path(sys.base_prefix)])
    command = [*_MORTAL, "unshare", "--mount", "--propagation", "private", "--"]
    command += ["sh", str(_HERE / "share.sh"), str(state / "files"), str(state / "share")]
    return command + [str(directory) for directory in directories]


def outermost(directories: Iterable[Path]) -> list[Path]:
    """Directories without those that are inside others."""
    found: list[Path] = []
    for directory in sorted(directory.resolve() for directory in directories):
        if not any(directory.is_relative_to(outer) for outer in found):
            found.append(directory)
    return found


def emulator_command(checkout: Path, processor: Processor, state: Path) -> list[str]:
    """QEMU without a network; memory is shared with virtiofsd."""
    arguments = f"console=ttyS0 quiet panic=-1 mitigations=off cloudlb.checkout={checkout}"
    command = [*_MORTAL, str(EMULATOR), "-nodefaults", "-no-reboot", "-display", "none"]
    command += ["-accel", processor.accelerator, "-cpu", processor.model, *processor.options]
    command += ["-smp", str(processor.count), "-m", MEMORY]
    command += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"]
    command += ["-machine", "pc,memory-backend=memory"]
    command += ["-chardev", f"socket,id=files,path={state / 'files'}"]
    command += ["-device", "vhost-user-fs-pci,chardev=files,tag=machine"]
    command += ["-serial", f"file:{state / 'console'}"]
    command += ["-serial", f"unix:{state / 'control'},server=on,wait=off"]
    command += ["-kernel", str(state / "kernel/vmlinuz"), "-initrd", str(state / "initramfs")]
    return [*command, "-append", arguments]


def _build_initramfs(state: Path, modules: Sequence[str]) -> None:
    root = state / "initramfs.d"
    (root / "bin").mkdir(parents=True)
    shutil.move(state / "kernel" / "modules", root / "modules")
    order = "".join(f"{Path(module).name}\n" for module in modules)
    (root / "modules" / "order").write_text(order)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for source, target in ((_HERE / "init", "init"), (GUEST_SOURCES / "control", "bin/control")):
        shutil.copy(source, root / target)
        (root / target).chmod(0o755)
    pack_initramfs(root, state / "initramfs")


@contextlib.contextmanager
def _process(name: str, command: list[str], state: Path) -> Iterator[ProcessId]:
    """A process that is ended at the end; DeadlineError when it does not go."""
    with (state / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/"
        )
    try:
        yield ProcessId.of(process.pid)
    finally:
        process.kill()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"end of {name} {process.pid}", END_SECONDS) from error
