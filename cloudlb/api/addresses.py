# SPDX-License-Identifier: Apache-2.0
"""Which address a pool may claim: one of its network's vip_range that nobody holds."""

from collections.abc import Collection
from ipaddress import ip_address
from uuid import UUID

from cloudlb.db import pools
from cloudlb.db.session import Session
from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.network import Address, Network


def claim(
    session: Session,
    network: Network,
    given: str | None,
    version: int | None,
    own: Collection[UUID] = (),
) -> Address:
    """The address of a new pool: the given one, else the lowest free one of a family.

    ``own`` are the servers that the caller may make its members; they may hold the address
    already.
    """
    wanted = None if given is None else ip_address(given)
    if wanted is not None:
        _check_offered(network, wanted, version)
    families: set[int] = {block.version for block in network.vip_range}
    family = wanted.version if wanted is not None else _family(network, version, families)
    taken = pools.taken(session, network, own, remote=True)
    if wanted is not None:
        if str(wanted) in taken:
            raise Conflict(
                f"{wanted} {taken[str(wanted)]}. Choose another one, or leave the address out to "
                "be given a free one.",
                field="pool.address",
            )
        return wanted
    for candidate in network.candidates(family):
        if str(candidate) not in taken:
            return candidate
    raise Conflict(
        f"Every IPv{family} address of the vip_range of network {network.name} is taken; delete a "
        "pool or have the range extended.",
        field="pool.address",
    )


def _family(network: Network, version: int | None, families: set[int]) -> int:
    if not families:
        raise InvalidRequest(
            f"Network {network.name} has no vip_range, so pools cannot claim addresses in it; an "
            "administrator can set one.",
            field="pool.network_id",
        )
    if version is not None and version not in families:
        raise InvalidRequest(_no_family(network, version), field="pool.ip_version")
    return version or min(families)


def _no_family(network: Network, version: int) -> str:
    return (
        f"Network {network.name} offers no IPv{version} addresses to pools; its vip_range is "
        f"{_blocks(network)}."
    )


def _check_offered(network: Network, wanted: Address, version: int | None) -> None:
    if version is not None and wanted.version != version:
        raise InvalidRequest(
            f"{wanted} is no IPv{version} address; leave ip_version out.", field="pool.ip_version"
        )
    if wanted.version not in {block.version for block in network.vip_range}:
        raise InvalidRequest(_no_family(network, wanted.version), field="pool.address")
    if not network.offers(wanted):
        raise InvalidRequest(
            f"{wanted} is outside what network {network.name} offers to pools: {_blocks(network)} "
            "without the network and broadcast addresses of its prefixes.",
            field="pool.address",
        )


def _blocks(network: Network) -> str:
    return ", ".join(map(str, network.vip_range)) or "empty"
