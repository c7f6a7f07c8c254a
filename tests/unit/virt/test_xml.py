# SPDX-License-Identifier: Apache-2.0
"""What a domain's XML says of its owner and its NICs."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.ether import Mac
from cloudlb.model.host import Owner
from cloudlb.virt.xml import (
    Domain,
    DomainInterface,
    parse_bridge,
    parse_domain,
    with_bridges,
)

ID = UUID("6695eb01-f6a4-8304-79aa-97f2502e193f")
NOVA = """<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/{version}">
  <nova:package version="31.0.0"/>
  <nova:name>web1</nova:name>
  <nova:owner>
    <nova:user uuid="u-1">demo</nova:user>
    <nova:project uuid="p-1">demo</nova:project>
  </nova:owner>
</nova:instance>"""
CLOUDLB = '<c:server xmlns:c="urn:cloudlb:server:1" project="p-2"/>'
OVIRT = '<o:vm xmlns:o="http://ovirt.org/vm/1.0"/>'
OVIRT_OLD = '<o:vm xmlns:o="http://ovirt.org/vm/"/>'
KUBEVIRT = '<k:kubevirt xmlns:k="http://kubevirt.io"><k:uid/></k:kubevirt>'
LIBOSINFO = '<l:libosinfo xmlns:l="http://libosinfo.org/xmlns/libvirt/domain/1.0"/>'
NIC = """<interface type='bridge'>
  <mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet0'/>
  <model type='virtio'/>
</interface>"""


def _domain(metadata: str = "", interfaces: str = "") -> Domain:
    inside = f"<metadata>{metadata}</metadata>" if metadata else ""
    return parse_domain(
        f"<domain type='kvm' id='1'><name>web</name><uuid>{ID}</uuid>{inside}"
        f"<devices><disk/>{interfaces}</devices></domain>"
    )


def test_a_plain_domain() -> None:
    interface = DomainInterface(Mac("52:54:00:00:00:01"), "vnet0", "br0")
    assert _domain(interfaces=NIC) == Domain(ID, "web", Owner.LIBVIRT, "", (interface,))


@pytest.mark.parametrize(
    ("metadata", "owner", "project"),
    [
        (NOVA.format(version="1.0"), Owner.NOVA, "p-1"),
        (NOVA.format(version="1.1"), Owner.NOVA, "p-1"),
        (LIBOSINFO + NOVA.format(version="1.1"), Owner.NOVA, "p-1"),
        ('<n:instance xmlns:n="http://openstack.org/xmlns/libvirt/nova/1.1"/>', Owner.NOVA, ""),
        (CLOUDLB, Owner.LIBVIRT, "p-2"),
        (LIBOSINFO + CLOUDLB, Owner.LIBVIRT, "p-2"),
        (LIBOSINFO, Owner.LIBVIRT, ""),
        (OVIRT, Owner.FOREIGN, ""),
        (OVIRT_OLD, Owner.FOREIGN, ""),
        (KUBEVIRT, Owner.FOREIGN, ""),
        ("<!-- nothing -->", Owner.LIBVIRT, ""),
        ("<note>no namespace</note>", Owner.LIBVIRT, ""),
        (CLOUDLB + NOVA.format(version="1.1"), Owner.NOVA, "p-1"),
        (CLOUDLB + KUBEVIRT, Owner.FOREIGN, ""),
    ],
)
def test_the_owner_is_who_wrote_the_metadata(metadata: str, owner: Owner, project: str) -> None:
    domain = _domain(metadata)
    assert (domain.owner, domain.project_id) == (owner, project)


def test_nics_keep_their_order() -> None:
    second = NIC.replace(":01'", ":02'").replace("vnet0", "vnet1").replace("br0", "br1")
    assert _domain(interfaces=NIC + second).interfaces == (
        DomainInterface(Mac("52:54:00:00:00:01"), "vnet0", "br0"),
        DomainInterface(Mac("52:54:00:00:00:02"), "vnet1", "br1"),
    )


def test_a_domain_that_is_off_has_no_tap() -> None:
    off = NIC.replace("<target dev='vnet0'/>", "")
    assert _domain(interfaces=off).interfaces == (
        DomainInterface(Mac("52:54:00:00:00:01"), "", "br0"),
    )


@pytest.mark.parametrize(
    ("nic", "tap", "bridge", "network"),
    [
        (
            "<interface type='ethernet'><mac address='52:54:00:00:00:01'/>"
            "<target dev='tap1' managed='no'/></interface>",
            "tap1",
            "",
            "",
        ),
        (
            "<interface type='network'><mac address='52:54:00:00:00:01'/>"
            "<source network='default' portid='x' bridge='virbr0'/><target dev='vnet1'/>"
            "</interface>",
            "vnet1",
            "virbr0",
            "default",
        ),
        (
            "<interface type='network'><mac address='52:54:00:00:00:01'/>"
            "<source network='default'/></interface>",
            "",
            "",
            "default",
        ),
        (
            "<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>"
            "<source type='unix' path='/run/vhost' mode='client'/></interface>",
            "",
            "",
            "",
        ),
    ],
    ids=["ethernet", "network", "network, off", "vhost-user"],
)
def test_other_kinds_of_nics(nic: str, tap: str, bridge: str, network: str) -> None:
    assert _domain(interfaces=nic).interfaces == (
        DomainInterface(Mac("52:54:00:00:00:01"), tap, bridge, network),
    )


# As `virsh net-dumpxml` of libvirt 9.0 prints them.
NAT = """<network connections='1'>
  <name>default</name>
  <uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <mac address='52:54:00:aa:bb:cc'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'/>
</network>"""
BRIDGED = """<network>
  <name>lan</name>
  <uuid>7c8e54cd-854d-450f-a1c6-6e538ef601eb</uuid>
  <forward mode='bridge'/>
  <bridge name='br0'/>
</network>"""
MACVTAP = """<network>
  <name>direct</name>
  <uuid>ec0a1b49-20e3-4e57-a5d3-93755479ed67</uuid>
  <forward dev='eth0' mode='bridge'>
    <interface dev='eth0'/>
  </forward>
</network>"""
UNNAMED = "<network><name>new</name><bridge stp='on' delay='0'/></network>"


@pytest.mark.parametrize(
    ("text", "bridge"), [(NAT, "virbr0"), (BRIDGED, "br0"), (MACVTAP, ""), (UNNAMED, "")]
)
def test_the_bridge_of_a_network(text: str, bridge: str) -> None:
    assert parse_bridge(text) == bridge


def test_garbage_is_no_network() -> None:
    with pytest.raises(ValueError, match="not a network"):
        parse_bridge("<network>")


def test_nics_that_name_a_network_go_to_its_bridge() -> None:
    named = DomainInterface(Mac("52:54:00:00:00:01"), "", "", "default")
    lost = DomainInterface(Mac("52:54:00:00:00:02"), "", "", "lost")
    known = DomainInterface(Mac("52:54:00:00:00:03"), "vnet1", "br0", "default")
    plain = DomainInterface(Mac("52:54:00:00:00:04"), "", "br1")
    domain = Domain(ID, "web", Owner.LIBVIRT, "", (named, lost, known, plain))
    bridges = {"default": "virbr0", "lost": ""}
    found = with_bridges(domain, bridges.__getitem__).interfaces
    assert [nic.bridge for nic in found] == ["virbr0", "", "br0", "br1"]


def test_a_nic_without_an_address_is_none() -> None:
    assert _domain(interfaces="<interface type='hostdev'/><interface><mac/></interface>") == (
        _domain()
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no XML",
        "<domain>",
        "<domain/>",
        "<domain><uuid/></domain>",
        "<domain><uuid>no id</uuid></domain>",
        f"<domain><uuid>{ID}</uuid><devices><interface><mac address='x'/></interface></devices>"
        "</domain>",
    ],
)
def test_garbage_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_domain(text)


@given(st.text(max_size=80))
def test_any_text_is_a_domain_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_domain(text)
    with pytest.raises(ValueError):
        parse_domain(f"<domain><uuid>{text}</uuid></domain>")
