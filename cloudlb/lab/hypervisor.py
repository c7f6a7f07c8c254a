# SPDX-License-Identifier: Apache-2.0
"""libvirt on a compute host: its own daemon with its own files."""

import subprocess
import uuid
from pathlib import Path

from cloudlb.lab.host import Host
from cloudlb.lab.process import wait_for
from cloudlb.lab.service import ServiceSpec

LIBVIRTD = ServiceSpec("libvirtd", ("libvirtd",))
URI = "qemu:///system"
_HOST_IDS = uuid.UUID("c10ad1b0-0000-4000-8000-000000000000")

QEMU_CONF = """\
# QEMU runs as root and without cgroups: the lab's processes share the machine's.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""


def libvirtd_conf(lab: str, host: str) -> str:
    """Configuration of a host's daemon; two daemons on one machine need distinct identities."""
    return (
        f'host_uuid = "{uuid.uuid5(_HOST_IDS, f"{lab}/{host}")}"\n'
        'auth_unix_rw = "none"\n'
        'unix_sock_rw_perms = "0700"\n'
    )


def start(host: Host) -> None:
    """Configure and start a host's libvirtd."""
    etc = host.root / "etc/libvirt"
    (etc / "qemu.conf").write_text(QEMU_CONF)
    (etc / "libvirtd.conf").write_text(libvirtd_conf(host.lab, host.name))
    host.service(LIBVIRTD.name).start()


def wait_ready(host: Host, seconds: float = 60) -> None:
    """Wait until a host's libvirtd answers."""
    daemon = host.service(LIBVIRTD.name)

    def answers() -> bool:
        daemon.must_run()
        path: Path = host.root / "run/libvirt/libvirt-sock"
        return path.exists() and virsh(host, "version", check=False).returncode == 0

    wait_for(f"libvirtd on {host.name} answers", answers, seconds, f"see {daemon.log}")


def virsh(
    host: Host, *arguments: str, check: bool = True, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run virsh against the host's own daemon."""
    return host.run(["virsh", "-q", "-c", URI, *arguments], check=check, input=input, timeout=120)
