# SPDX-License-Identifier: Apache-2.0
"""A network: one layer-2 domain in which addresses are unique and virtual addresses are given."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from uuid import UUID

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

UNSERVED: tuple[tuple[Prefix, str], ...] = tuple(
    (ip_network(block), kind)
    for block, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Blocks whose addresses no network serves, with the kind of their addresses (RFC 6890)."""


def unserved(block: Prefix) -> str:
    """The kind of addresses in a block that cannot be served; empty if there are none."""
    kinds = (
        kind
        for other, kind in UNSERVED
        if block.version == other.version and block.overlaps(other)
    )
    return next(kinds, "")


@dataclass(frozen=True, slots=True)
class Network:
    """A network and the ranges from which pools may claim their addresses.

    ``number`` is the 32-bit number that stands in every key of the data plane's maps.
    """

    id: UUID
    project_id: str
    name: str
    number: int
    prefixes: tuple[Prefix, ...]
    vip_range: tuple[Prefix, ...]
    generation: int = 1

    def offers(self, address: Address) -> bool:
        """Whether a pool may claim this address."""
        return any(
            address.version == block.version and address in block and not self.is_reserved(address)
            for block in self.vip_range
        )

    def candidates(self, version: int) -> Iterator[Address]:
        """The claimable addresses of a family, lowest first."""
        for block in self.vip_range:
            if block.version == version:
                yield from (a for a in block if not self.is_reserved(a))

    def own_address(self, addresses: Collection[Address], version: int) -> Address | None:
        """Of a member's addresses the one at which all of the network can reach it.

        It is in a prefix of the network, and none that pools may claim; the lowest of the family
        ``version``, else the lowest of the other.
        """
        own = [
            address
            for address in addresses
            if not address.is_link_local
            and any(address in prefix for prefix in self.prefixes)
            and not any(address in block for block in self.vip_range)
        ]
        return min(own, key=lambda a: (a.version != version, int(a)), default=None)

    def is_reserved(self, address: Address) -> bool:
        """Network and broadcast addresses and the subnet-router anycast (RFC 4291, 2.6.1)."""
        edges = [p for p in self.prefixes if p.version == address.version and address in p]
        return any(
            address == p.network_address or (p.version == 4 and address == p.broadcast_address)
            for p in edges
            if p.num_addresses > 2
        )
