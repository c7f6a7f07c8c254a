# SPDX-License-Identifier: Apache-2.0
"""The libvirt domain of a guest; pure."""

import hashlib

from cloudlb.lab.accelerator import EMULATOR, GUEST_MEMORY_MIB, Accelerator
from cloudlb.lab.image import Image
from cloudlb.lab.topology import BRIDGE, LAN_NETWORK4, LAN_NETWORK6, GuestSpec

CACHE_IN_HOST = "/var/lib/cloudlb-lab"
"""Where each compute host shows the cache; the same in all labs, so that images are shared."""
GUESTS_IN_HOST = "/run/guests"
"""Directory of the guests' control sockets."""


def kernel_arguments(guest: GuestSpec) -> str:
    """Return the kernel command line that carries the guest's identity."""
    words = [
        "console=ttyS0 quiet panic=-1 mitigations=off",
        f"cloudlb.name={guest.name}",
        f"cloudlb.address={guest.ipv4}/{LAN_NETWORK4.prefixlen}",
        f"cloudlb.address={guest.ipv6}/{LAN_NETWORK6.prefixlen}",
    ]
    return " ".join(words)


def domain_xml(guest: GuestSpec, image: Image, accelerator: Accelerator) -> str:
    """Return the domain: console to a log, control channel on the second serial port."""
    cpu = "<cpu mode='host-passthrough'/>" if accelerator is Accelerator.KVM else ""
    return f"""\
<domain type='{accelerator.value}'>
  <name>{guest.name}</name>
  <uuid>{guest.uuid}</uuid>
  <memory unit='MiB'>{GUEST_MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{CACHE_IN_HOST}/kernel/{image.kernel.name}</kernel>
    <initrd>{CACHE_IN_HOST}/{image.initramfs.name}</initrd>
    <cmdline>{kernel_arguments(guest)}</cmdline>
  </os>
  <features><acpi/></features>
  {cpu}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{EMULATOR}</emulator>
    <controller type='usb' model='none'/>
    <interface type='bridge'>
      <mac address='{guest.mac}'/>
      <source bridge='{BRIDGE}'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'>
      <source path='/var/log/{guest.name}-console.log'/>
      <target port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path='{GUESTS_IN_HOST}/{guest.name}'/>
      <target port='1'/>
    </serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def saved_image_digest(xml: str, image: Image, emulator_version: str) -> str:
    """Return what a saved image depends on, as one digest."""
    return hashlib.sha256("\0".join([xml, image.digest, emulator_version]).encode()).hexdigest()
