# SPDX-License-Identifier: Apache-2.0
"""Which host receives the traffic of a pool's address."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cloudlb.api.capabilities import Drivers
from cloudlb.model.errors import Conflict, InvalidRequest
from cloudlb.model.host import Host, Role
from cloudlb.model.network import Network
from cloudlb.model.pool import Forwarding, Pool, Translation

_DISTRIBUTED = {
    "forwarding": "members' hosts pass nothing on",
    "entry_host": "members' hosts do not direct",
}
"""Fields of pools that members' hosts direct, and why others have none."""


def can_direct(host: Host, network: Network) -> bool:
    """Whether a host has the role and an interface in the network."""
    return Role.DIRECTOR in host.roles and _is_in(host, network)


def _is_in(host: Host, network: Network) -> bool:
    return any(uplink.network == network.name for uplink in host.uplinks)


def resolved(drivers: Drivers, spec: dict[str, Any], old: Pool | None = None) -> dict[str, Any]:
    """The spec with what it leaves open about directors that members' hosts are, or were.

    Of a pool that they direct, its directors and what says how they do it may be named again as
    they are.
    """
    given = spec.get("directors")
    known = old is not None and given == list(old.directors)
    if drivers[spec["data_plane"]].capabilities().members_direct:
        if given is not None and not known:
            raise InvalidRequest(
                f"With the data plane {spec['data_plane']} the hosts of the members direct the "
                "pool, so none can be named. Leave them out, or choose another data plane.",
                field="pool.directors",
            )
        rest = {name: value for name, value in spec.items() if name != "directors"}
        return rest | {"forwarding": spec["forwarding"] or Forwarding.DR.value}
    for name, why in _DISTRIBUTED.items():
        if spec[name] is not None and (old is None or spec[name] != getattr(old, name)):
            _refuse(drivers, spec["data_plane"], name, why)
    if old is None or not old.members_direct:
        return spec
    return spec | {**dict.fromkeys(_DISTRIBUTED), "directors": None if known else given}


def translated(drivers: Drivers, spec: dict[str, Any], old: Pool | None = None) -> dict[str, Any]:
    """The spec with what it leaves open about where packets are translated."""
    able, given = drivers[spec["data_plane"]].capabilities().translations, spec["translation"]
    if able:
        return spec | {"translation": given or Translation.EDGE.value}
    if given is not None and (old is None or given != old.translation):
        names = ", ".join(sorted(n for n, d in drivers.items() if d.capabilities().translations))
        raise InvalidRequest(
            f"With the data plane {spec['data_plane']} nothing is translated. Leave this out, or "
            f"choose a data plane that translates: {names}.",
            field="pool.translation",
        )
    return spec | {"translation": None}


def _refuse(drivers: Drivers, data_plane: str, name: str, why: str) -> NoReturn:
    able = sorted(n for n, d in drivers.items() if d.capabilities().members_direct)
    raise InvalidRequest(
        f"With the data plane {data_plane} {why}. Leave this out, or choose a data plane with "
        f"which they do: {', '.join(able)}.",
        field=f"pool.{name}",
    )


def check_entry(hosts: Sequence[Host], network: Network, name: str) -> None:
    """Raise `InvalidRequest` for an entry host that can have no member."""
    able = sorted(h.name for h in hosts if Role.COMPUTE in h.roles and _is_in(h, network))
    if name not in able:
        raise InvalidRequest(
            f"Host {name} is not known to have guests in network {network.name}; known are: "
            f"{', '.join(able) or 'none'}.",
            field="pool.entry_host",
        )


def choose(
    hosts: Sequence[Host],
    network: Network,
    given: Sequence[str] | None,
    present: Sequence[str] = (),
) -> tuple[str, ...]:
    """The given directors if they can be, else the first host that is able to direct and alive.

    ``present`` are those of the pool, which may be named again while they are silent.
    """
    able = {host.name: host for host in hosts if can_direct(host, network)}
    alive = sorted(name for name, host in able.items() if host.alive)
    if given is None:
        if not alive:
            raise Conflict(
                f"No host that is alive can direct pools of network {network.name}. Start an "
                "agent with the role director that maps this network: [agent] roles = director "
                f"and network_mappings = {network.name}:<interface>.",
                field="pool.directors",
            )
        return (alive[0],)
    for name in given:
        if name not in present:
            _check(name, network, able, alive)
    return tuple(given)


def keep(hosts: Sequence[Host], network: Network, present: tuple[str, ...]) -> tuple[str, ...]:
    """The present directors while one is able and alive, or while no other host is."""
    alive = sorted(host.name for host in hosts if host.alive and can_direct(host, network))
    if not alive or set(present) & set(alive):
        return present
    return (alive[0],)


def _check(name: str, network: Network, able: Mapping[str, Host], alive: Sequence[str]) -> None:
    if name not in able:
        raise InvalidRequest(
            f"Host {name} is not known to be a director in network {network.name}; known are: "
            f"{', '.join(sorted(able)) or 'none'}.",
            field="pool.directors",
        )
    if name not in alive:
        raise Conflict(
            f"The agent of host {name} is silent, so nobody would answer for the address. Start "
            f"it, or name a director that is alive: {', '.join(alive) or 'there is none'}.",
            field="pool.directors",
        )
