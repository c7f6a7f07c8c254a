# SPDX-License-Identifier: Apache-2.0
"""What a data plane cannot do is refused when it is asked for, naming the drivers that can."""

from collections.abc import Callable, Mapping

from cloudlb.drivers.base import Capabilities, DataPlaneDriver
from cloudlb.model.errors import InvalidRequest, Unsupported
from cloudlb.model.network import Address, Network
from cloudlb.model.pool import Member, Pool, Protocol, Translation

Drivers = Mapping[str, DataPlaneDriver]
_Can = Callable[[Capabilities], bool]


def check_pool(drivers: Drivers, pool: Pool) -> None:
    """Raise `Unsupported` for what the pool's data plane cannot do."""
    protocols = {port.protocol for port in pool.ports}
    _need(
        drivers, pool, "pool.address", f"IPv{pool.address.version}", _family(pool.address.version)
    )
    for protocol in sorted(protocols):
        _need(drivers, pool, "pool.ports", protocol, _protocol(protocol))
    _need(
        drivers,
        pool,
        "pool.scheduler",
        f"the scheduler {pool.scheduler}",
        lambda able: pool.scheduler in able.schedulers,
    )
    if pool.persistence is not None:
        able = "persistence of clients"
        _need(drivers, pool, "pool.persistence", able, lambda able: able.persistence)
    _check_masquerade(pool)
    _check_client_address(pool)
    if pool.monitor is not None:
        kind = pool.monitor.type
        _need(
            drivers,
            pool,
            "pool.monitor.type",
            f"{kind} probes",
            lambda able: kind in able.monitors,
        )


def _check_masquerade(pool: Pool) -> None:
    ways = (Translation.DIRECTOR, Translation.FULL)
    if pool.masquerade and pool.translation not in ways:
        raise Unsupported(
            "Only a director that translates can masquerade what members begin by themselves, as "
            "what comes back has to pass it. Set this to false, or choose the data plane nat with "
            f"the translation {' or '.join(ways)}.",
            field="pool.masquerade",
        )


def _check_client_address(pool: Pool) -> None:
    ways = (Translation.FULL, Translation.EDGE)
    if pool.client_address is not None and pool.translation not in ways:
        raise Unsupported(
            "Only where the director stands in for clients members need to be told of them. Leave "
            "this out, or choose the data plane nat with the translation full, or edge for the "
            "remote members that there are.",
            field="pool.client_address",
        )
    if pool.client_address is not None and Protocol.TCP not in {p.protocol for p in pool.ports}:
        raise Unsupported(
            "A client's address is told of TCP connections, and the pool has no port of TCP. "
            "Leave this out.",
            field="pool.client_address",
        )


def check_member(
    drivers: Drivers, pool: Pool, network: Network, member: Member, field: str
) -> None:
    """Raise `Unsupported` for what the pool's data plane cannot do with a member."""
    if member.prepared and member.remote is None:
        raise InvalidRequest(
            f"The host of {member.name} sees to what the data plane needs; only remote servers "
            "are prepared by their users. Leave this out.",
            field=f"{field}.prepared",
        )
    check_port(drivers, pool, member, f"{field}.port")
    check_weight(drivers, pool, member, f"{field}.weight")
    check_remote(drivers, pool, network, member, f"{field}.remote")


def check_remote(
    drivers: Drivers, pool: Pool, network: Network, member: Member, field: str
) -> None:
    """Raise `Unsupported` for a remote server that the data plane cannot reach, or cannot use as
    it is.
    """
    address = member.remote
    if address is None:
        return
    _need(
        drivers,
        pool,
        field,
        f"members on hosts without an agent, as the remote server {address} is",
        lambda able: able.remote_members is not None,
    )
    needs = drivers[pool.data_plane].capabilities().remote_members
    if needs is None:
        return
    said = f"The data plane {pool.data_plane} reaches"
    if needs.same_family and address.version != pool.address.version:
        raise Unsupported(
            f"{said} servers of an IPv{pool.address.version} pool by IPv{pool.address.version}; "
            f"{address} is none.",
            field=field,
        )
    if needs.on_link and not _is_on_link(network, address):
        raise Unsupported(
            f"{said} servers on the director's link alone, and {address} is in no prefix of "
            f"network {network.name}: {', '.join(map(str, network.prefixes))}.",
            field=field,
        )
    if needs.preparation and not member.prepared:
        raise Unsupported(
            f"With the data plane {pool.data_plane} a remote server is of use only if it "
            f"{needs.preparation}. If {address} does, say that it is prepared; if not, give the "
            "pool the data plane nat.",
            field=field,
        )


def _is_on_link(network: Network, address: Address) -> bool:
    return any(address in prefix for prefix in network.prefixes)


def check_weight(drivers: Drivers, pool: Pool, member: Member, field: str) -> None:
    """Raise `Unsupported` for a weight that the pool's scheduler would not follow."""
    weighted = drivers[pool.data_plane].capabilities().weighted_schedulers
    if member.weight > 1 and pool.scheduler not in weighted:
        others = ", ".join(sorted(weighted))
        other = f", or the pool one of the schedulers that share by weight: {others}"
        raise Unsupported(
            f"The scheduler {pool.scheduler} treats all members alike, so the weight "
            f"{member.weight} of member {member.name} would say nothing. Give it weight 1"
            f"{other if others else ''}.",
            field=field,
        )


def check_port(drivers: Drivers, pool: Pool, member: Member, field: str) -> None:
    """Raise `Unsupported` for a member's own port where the data plane does not translate."""
    if member.port is not None and member.port not in {port.port for port in pool.ports}:
        _need(
            drivers,
            pool,
            field,
            f"port translation, which the port {member.port} of member {member.name} needs "
            f"because the pool's ports are {', '.join(map(str, pool.ports))}",
            lambda able: able.port_translation,
        )


def check_name(drivers: Drivers, name: str) -> None:
    """Raise `Unsupported` if there is no such data plane."""
    if name not in drivers:
        raise Unsupported(
            f"There is no data plane {name!r}; known: {', '.join(sorted(drivers))}.",
            field="pool.data_plane",
        )


def _protocol(protocol: Protocol) -> _Can:
    return lambda able: protocol in able.protocols


def _family(version: int) -> _Can:
    return lambda able: version in able.address_families


def _need(drivers: Drivers, pool: Pool, field: str, what: str, can: _Can) -> None:
    if can(drivers[pool.data_plane].capabilities()):
        return
    able = sorted(name for name, driver in drivers.items() if can(driver.capabilities()))
    remedy = f"these can: {', '.join(able)}" if able else "no installed data plane can"
    raise Unsupported(f"The data plane {pool.data_plane} cannot do {what}; {remedy}.", field=field)
