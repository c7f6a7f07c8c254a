# SPDX-License-Identifier: Apache-2.0
"""What the lab consists of: hosts, guests and their addresses; constants and no I/O."""

import enum
import uuid
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

LAN_NETWORK4 = IPv4Network("10.60.0.0/24")
LAN_NETWORK6 = IPv6Network("fd60::/64")
VIP_RANGE4 = IPv4Network("10.60.0.128/26")
"""Addresses of the tenant network that are left to pools."""
VIP_RANGE6 = IPv6Network("fd60::f000/116")
MANAGEMENT_NETWORK = IPv4Network("10.61.0.0/24")

LAN = "lan"
"""Name of the tenant network, and of its bridge in the switch namespace."""
MANAGEMENT = "mgmt"
SWITCH = "switch"
UPLINK = "eth0"
MANAGEMENT_LINK = "mgmt0"
BRIDGE = "br0"

_GUEST_IDS = uuid.UUID("5a8c1f0e-6d0b-4f4e-9a53-c10ad1b00000")


class Role(enum.Enum):
    """What a host is there for."""

    CONTROL = "control"
    CLIENT = "client"
    DIRECTOR = "director"
    COMPUTE = "compute"


@dataclass(frozen=True)
class HostSpec:
    """A host of the lab; `number` is the last part of all its addresses."""

    name: str
    role: Role
    number: int

    @property
    def on_lan(self) -> bool:
        """Whether the host has an uplink to the tenant network."""
        return self.role is not Role.CONTROL

    @property
    def has_agent(self) -> bool:
        """Whether an agent of cloudlb runs there."""
        return self.role in {Role.DIRECTOR, Role.COMPUTE}

    @property
    def lan_device(self) -> str:
        """The device that has the tenant addresses: the bridge where there are guests."""
        return BRIDGE if self.role is Role.COMPUTE else UPLINK

    @property
    def lan4(self) -> IPv4Address:
        """The host's IPv4 address in the tenant network."""
        return LAN_NETWORK4[self.number]

    @property
    def lan6(self) -> IPv6Address:
        """The host's IPv6 address in the tenant network."""
        return LAN_NETWORK6[self.number]

    @property
    def management(self) -> IPv4Address:
        """The host's address in the management network."""
        return MANAGEMENT_NETWORK[self.number]

    @property
    def lan_mac(self) -> str:
        """MAC of the uplink; fixed, as saved guests may remember it."""
        return f"52:54:00:60:00:{self.number:02x}"

    @property
    def management_mac(self) -> str:
        """MAC of the management link."""
        return f"52:54:00:61:00:{self.number:02x}"


@dataclass(frozen=True)
class GuestSpec:
    """A virtual machine of the lab and the compute host on which it starts."""

    name: str
    home: str
    number: int

    @property
    def ipv4(self) -> IPv4Address:
        """The guest's own IPv4 address."""
        return LAN_NETWORK4[10 + self.number]

    @property
    def ipv6(self) -> IPv6Address:
        """The guest's own IPv6 address: `fd60::11` for the first, to look like the IPv4 one."""
        return LAN_NETWORK6[0x10 + self.number]

    @property
    def mac(self) -> str:
        """MAC of the guest's network card."""
        return f"52:54:00:60:01:{self.number:02x}"

    @property
    def uuid(self) -> str:
        """The libvirt UUID, the same in every lab."""
        return str(uuid.uuid5(_GUEST_IDS, self.name))


HOSTS = (
    HostSpec("control", Role.CONTROL, 1),
    HostSpec("client", Role.CLIENT, 2),
    HostSpec("director", Role.DIRECTOR, 3),
    HostSpec("compute1", Role.COMPUTE, 4),
    HostSpec("compute2", Role.COMPUTE, 5),
)
GUESTS = (
    GuestSpec("vm1", "compute1", 1),
    GuestSpec("vm2", "compute1", 2),
    GuestSpec("vm3", "compute2", 3),
    GuestSpec("vm4", "compute2", 4),
)
CONTROL = HOSTS[0]
MORE_HOSTS = (HostSpec("director2", Role.DIRECTOR, 6),)
"""Hosts that can be added to a lab that is up."""


def hosts_file() -> str:
    """Text of /etc/hosts; libvirt waits seconds for a resolver when a name is missing."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{host.management} {host.name}" for host in (*HOSTS, *MORE_HOSTS)]
    return "\n".join(lines) + "\n"
