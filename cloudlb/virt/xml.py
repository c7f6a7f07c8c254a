# SPDX-License-Identifier: Apache-2.0
"""What a libvirt domain's XML says of its owner and its interfaces; pure."""

from dataclasses import dataclass
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
    """A NIC: its tap on the host (empty while the domain is off) and the bridge it goes to."""

    mac: Mac
    tap: str
    bridge: str


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
            )
        )
    return found
