# SPDX-License-Identifier: Apache-2.0
"""A network: one layer-2 domain in which addresses are unique and virtual addresses are given."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from uuid import UUID

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


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
            address.version == block.version
            and address in block
            and not self._is_reserved(address, block)
            for block in self.vip_range
        )

    def candidates(self, version: int) -> Iterator[Address]:
        """The claimable addresses of a family, lowest first."""
        for block in self.vip_range:
            if block.version == version:
                yield from (a for a in block if not self._is_reserved(a, block))

    def _is_reserved(self, address: Address, block: Prefix) -> bool:
        """Network and broadcast addresses and the subnet-router anycast (RFC 4291, 2.6.1)."""
        edges = [p for p in self.prefixes if p.version == address.version and address in p]
        return any(
            address == p.network_address or (p.version == 4 and address == p.broadcast_address)
            for p in edges
            if p.num_addresses > 2
        )
