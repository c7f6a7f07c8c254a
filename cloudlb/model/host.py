# SPDX-License-Identifier: Apache-2.0
"""Hosts, and the servers that an agent sees on its host."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address


class Role(StrEnum):
    """What a host does for pools."""

    DIRECTOR = "director"
    COMPUTE = "compute"


class Owner(StrEnum):
    """Who defined a libvirt domain; cloudlb changes only plain ones (``libvirt``)."""

    LIBVIRT = "libvirt"
    NOVA = "nova"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Interface:
    """A guest's NIC on its host; ``network`` is the mapped network's name, empty if none."""

    mac: Mac
    tap: str
    network: str
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A libvirt domain. ``project_id`` is empty for a domain that belongs to no project."""

    id: UUID
    name: str
    owner: Owner
    running: bool
    project_id: str = ""
    interfaces: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Uplink:
    """A host's interface in a network, with the addresses the host itself holds there.

    ``gateways``: the next hops of what leaves the network through it.
    """

    network: str
    interface: str
    mac: Mac
    addresses: tuple[Address, ...] = ()
    gateways: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an agent found on its host. A lower ``revision`` is older and is ignored.

    ``management`` is the address at which other agents reach this one.
    """

    revision: int
    roles: tuple[Role, ...]
    engine: str
    uplinks: tuple[Uplink, ...] = ()
    servers: tuple[Server, ...] = ()
    management: Address | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the control plane knows it.

    ``generation`` counts the changes of what is wanted of it, ``observed_generation`` is the last
    one that its agent has taken, or for readers of the API the last one that it has applied.
    """

    name: str
    roles: tuple[Role, ...] = ()
    engine: str = ""
    alive: bool = False
    last_seen: float = 0.0
    generation: int = 0
    observed_generation: int = 0
    uplinks: tuple[Uplink, ...] = field(default=())
    management: Address | None = None
