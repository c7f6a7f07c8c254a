# SPDX-License-Identifier: Apache-2.0
"""Which host receives the traffic of a pool's address."""

from collections.abc import Sequence

from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.host import Host, Role
from cloudlb.model.network import Network


def can_direct(host: Host, network: Network) -> bool:
    """Whether a host has the role and an interface in the network."""
    return Role.DIRECTOR in host.roles and any(u.network == network.name for u in host.uplinks)


def choose(
    hosts: Sequence[Host], network: Network, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The given directors if they are able to direct, else the first host that is and is alive."""
    able = {host.name: host for host in hosts if can_direct(host, network)}
    if given is None:
        alive = sorted(name for name, host in able.items() if host.alive)
        if not alive:
            raise Conflict(
                f"No host that is alive can direct pools of network {network.name}. Start an "
                "agent with the role director that maps this network: [agent] roles = director "
                f"and network_mappings = {network.name}:<interface>.",
                field="pool.directors",
            )
        return (alive[0],)
    for name in given:
        if name not in able:
            raise InvalidRequest(
                f"Host {name} is not known to be a director in network {network.name}; known are: "
                f"{', '.join(sorted(able)) or 'none'}.",
                field="pool.directors",
            )
    return tuple(given)
