# SPDX-License-Identifier: Apache-2.0
"""The guests' libvirt domains and what a saved image depends on."""

from pathlib import Path
from xml.etree import ElementTree

from cloudlb.lab.accelerator import Accelerator
from cloudlb.lab.domain import domain_xml, saved_image_digest
from cloudlb.lab.image import Image
from cloudlb.lab.topology import GUESTS

IMAGE = Image(Path("/cache/kernel/vmlinuz"), Path("/cache/initramfs-1"), "digest")


def parsed(accelerator=Accelerator.TCG):
    return ElementTree.fromstring(domain_xml(GUESTS[0], IMAGE, accelerator))  # noqa: S314


def test_domain_does_not_name_the_cache_directory_of_the_machine():
    assert parsed().findtext("os/kernel") == "/var/lib/cloudlb-lab/kernel/vmlinuz"
    assert parsed().findtext("os/initrd") == "/var/lib/cloudlb-lab/initramfs-1"


def test_kernel_arguments_carry_name_and_addresses():
    arguments = parsed().findtext("os/cmdline").split()
    assert "cloudlb.name=vm1" in arguments
    assert "cloudlb.address=10.60.0.11/24" in arguments
    assert "cloudlb.address=fd60::11/64" in arguments


def test_network_card_is_on_the_bridge_with_the_guests_mac():
    card = parsed().find("devices/interface")
    assert card.find("mac").get("address") == GUESTS[0].mac
    assert card.find("source").get("bridge") == "br0"


def test_processor_of_the_machine_is_used_under_kvm_only():
    assert parsed(Accelerator.KVM).get("type") == "kvm"
    assert parsed(Accelerator.KVM).find("cpu") is not None
    assert parsed().get("type") == "qemu"
    assert parsed().find("cpu") is None


def test_saved_image_depends_on_domain_image_and_emulator():
    digests = {
        saved_image_digest("xml", IMAGE, "7.2"),
        saved_image_digest("other", IMAGE, "7.2"),
        saved_image_digest("xml", Image(IMAGE.kernel, IMAGE.initramfs, "new"), "7.2"),
        saved_image_digest("xml", IMAGE, "7.3"),
    }
    assert len(digests) == 4
