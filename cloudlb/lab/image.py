# SPDX-License-Identifier: Apache-2.0
"""The cache: the guests' kernel, their initramfs and the saved images of booted guests."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloudlb.lab.errors import LabError

DEFAULT_CACHE = Path("/var/cache/cloudlb-lab")
GUEST_SOURCES = Path(__file__).parent / "guest"
BUSYBOX = Path("/bin/busybox")
KERNEL_PACKAGE = "linux-image-cloud-amd64"
CONTENTS = (
    "accelerator.json",
    "build-*",
    "capabilities",
    "initramfs-*",
    "kernel",
    "linux-image-*.deb",
    "saved",
)
"""Patterns of everything in a cache."""
MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
)
"""Kernel modules of a guest, in the order in which they are loaded."""


@dataclass(frozen=True)
class Image:
    """What a guest boots from; the files are in the cache."""

    kernel: Path
    initramfs: Path
    digest: str
    """Changes with any byte of the kernel or the initramfs."""


class Cache:
    """A directory that outlives labs; several labs may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other labs from building or saving at the same time."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def image(self) -> Image:
        """Return the image, fetching the kernel and building the initramfs when needed."""
        with self.locked():
            for leftover in self.path.glob("build-*"):
                shutil.rmtree(leftover)
            kernel = self.path / "kernel"
            if not (kernel / "vmlinuz").exists():
                self._fetch_kernel(kernel)
            initramfs = self._initramfs(kernel)
        files = [kernel / "vmlinuz", initramfs]
        return Image(files[0], files[1], _digest(path.read_bytes() for path in files))

    def kernel_package(self) -> Path:
        """Return the kernel's Debian package, with all its modules; fetch it when needed."""
        with self.locked():
            return self._kernel_package()

    def saved(self, guest: str, digest: str) -> Path:
        """Path of a guest's saved image, which need not exist."""
        return self.path / "saved" / f"{guest}-{digest[:16]}"

    def purge(self) -> None:
        """Remove what labs have put there; other files of the directory stay, and so it does."""
        for pattern in CONTENTS:
            for path in self.path.glob(pattern):
                _remove(path)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    @contextlib.contextmanager
    def _workshop(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="build-", dir=self.path) as directory:
            yield Path(directory)

    def _kernel_package(self) -> Path:
        for package in self.path.glob("linux-image-*.deb"):
            return package
        with self._workshop() as work:
            name = _newest_kernel()
            _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", name], work)
            package = next(work.glob("*.deb"))
            return package.rename(self.path / package.name)

    def _fetch_kernel(self, kernel: Path) -> None:
        package = self._kernel_package()
        with self._workshop() as work:
            new = work / "kernel"
            unpack_kernel(package, new, MODULES)
            new.rename(kernel)

    def _initramfs(self, kernel: Path) -> Path:
        inputs = [GUEST_SOURCES / name for name in ("init", "control", "responder.c")]
        inputs += [BUSYBOX, *sorted((kernel / "modules").iterdir())]
        digest = _digest(["\n".join(MODULES).encode(), *(path.read_bytes() for path in inputs)])
        initramfs = self.path / f"initramfs-{digest[:16]}"
        if not initramfs.exists():
            with self._workshop() as work:
                _fill_root(work / "root", kernel)
                pack_initramfs(work / "root", work / "initramfs")
                for old in self.path.glob("initramfs-*"):
                    old.unlink()
                (work / "initramfs").rename(initramfs)
        return initramfs


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def unpack_kernel(package: Path, target: Path, modules: Iterable[str]) -> None:
    """Fill a new directory: the kernel as `vmlinuz`, those of its modules in `modules`."""
    (target / "modules").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=target) as unpacked:
        _run(["dpkg", "-x", str(package), unpacked], target)
        shutil.copy(next(Path(unpacked, "boot").glob("vmlinuz-*")), target / "vmlinuz")
        tree = next(Path(unpacked, "lib/modules").iterdir()) / "kernel"
        for module in modules:
            shutil.copy(tree / f"{module}.ko", target / "modules")


def _newest_kernel() -> str:
    done = subprocess.run(
        ["apt-cache", "depends", "--important", KERNEL_PACKAGE],
        check=False,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Depends: (linux-image-\S+)", done.stdout)
    if found is None:
        raise LabError(f"apt does not know {KERNEL_PACKAGE}; run 'apt-get update' first")
    return found[1]


def _fill_root(root: Path, kernel: Path) -> None:
    (root / "bin").mkdir(parents=True)
    shutil.copytree(kernel / "modules", root / "modules")
    order = "".join(f"{Path(module).name}\n" for module in MODULES)
    (root / "modules" / "order").write_text(order)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for name, target in (("init", "init"), ("control", "bin/control")):
        shutil.copy(GUEST_SOURCES / name, root / target)
        (root / target).chmod(0o755)
    source = str(GUEST_SOURCES / "responder.c")
    _run(["gcc", "-O2", "-Wall", "-static", "-o", str(root / "bin/responder"), source], root)


def pack_initramfs(root: Path, target: Path) -> None:
    """Write a directory as an initramfs; the same files give the same octets."""
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with target.open("wb") as output:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--reproducible", "--quiet"],
            input=names.encode(),
            stdout=output,
            cwd=root,
            check=True,
        )


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def _run(argv: list[str], directory: Path) -> None:
    done = subprocess.run(argv, check=False, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"{' '.join(argv)!r} failed: {done.stderr.strip()}")
