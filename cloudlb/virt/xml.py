# SPDX-License-Identifier: Apache-2.0
"""What libvirt's XML says of a domain's owner and interfaces, and of networks; pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID
from xml.etree import ElementTree

from cloudlb.model.ether import Mac
from cloudlb.model.host import Owner

_NOVA = (
    "http://openstack.org/xmlns/libvirt/nova/1.0",
    "http://openstack.org/xmlns/libvirt/nova/1.1",
)
_CLOUDLB = "urn:cloudlb:server:1"
_FOREIGN = ("http://ovirt.org/vm/", "http://kubevirt.io")


@dataclass(frozen=True, slots=True)
class DomainInterface:
    """A NIC: its tap on the host (empty while the domain is off) and the bridge it goes to.

    ``network`` is the libvirt network that it names instead of a bridge, else empty.
    """

    mac: Mac
    tap: str
    bridge: str
    network: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain as its XML describes it."""

    id: UUID
    name: str
    owner: Owner
    project_id: str
    interfaces: tuple[DomainInterface, ...]


def parse_domain(text: str) -> Domain:
    """Read a domain's XML; ValueError when it is not one that libvirt writes."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  (libvirt's own words)
        owner, project = _owner(root.find("metadata"))
        return Domain(
            id=UUID(root.findtext("uuid")),
            name=root.findtext("name") or "",
            owner=owner,
            project_id=project,
            interfaces=tuple(_interfaces(root)),
        )
    except (ElementTree.ParseError, TypeError) as error:
        raise ValueError(f"not a domain: {error}") from error


def parse_bridge(text: str) -> str:
    """The bridge of a libvirt network by its XML, empty for one that has none (macvtap, SR-IOV).

    ValueError when it is not a network that libvirt writes.
    """
    try:
        bridge = ElementTree.fromstring(text).find("bridge")  # noqa: S314  (libvirt's own words)
    except ElementTree.ParseError as error:
        raise ValueError(f"not a network: {error}") from error
    return bridge.get("name", "") if bridge is not None else ""


def with_bridges(domain: Domain, bridge_of: Callable[[str], str]) -> Domain:
    """The domain with the bridges of the libvirt networks that its NICs name.

    A running domain has them in its XML; one that is off has only the network's name.
    """
    return replace(
        domain,
        interfaces=tuple(
            replace(nic, bridge=bridge_of(nic.network)) if nic.network and not nic.bridge else nic
            for nic in domain.interfaces
        ),
    )


def _owner(metadata: ElementTree.Element | None) -> tuple[Owner, str]:
    """Nova writes its instance's project; a plain domain may carry cloudlb's own element.

    A domain of another's stays theirs, whatever else its metadata says.
    """
    project_id = ""
    for element in metadata if metadata is not None else ():
        space, _, name = element.tag[1:].partition("}")
        if space in _NOVA and name == "instance":
            project = element.find(f".//{{{space}}}project")
            return Owner.NOVA, project.get("uuid", "") if project is not None else ""
        if space.startswith(_FOREIGN):
            return Owner.FOREIGN, ""
        if space == _CLOUDLB:
            project_id = element.get("project", "")
    return Owner.LIBVIRT, project_id


def _interfaces(root: ElementTree.Element) -> list[DomainInterface]:
    found = []
    for interface in root.iterfind("devices/interface"):
        mac, source, target = (interface.find(tag) for tag in ("mac", "source", "target"))
        if mac is None or not mac.get("address"):
            continue
        found.append(
            DomainInterface(
                mac=Mac(mac.get("address", "")),
                tap=target.get("dev", "") if target is not None else "",
                bridge=source.get("bridge", "") if source is not None else "",
                network=source.get("network", "") if source is not None else "",
            )
        )
    return found
