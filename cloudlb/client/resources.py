# SPDX-License-Identifier: Apache-2.0
"""The API's nouns as openstacksdk Resources: the same attributes as the schemas, no more."""

from typing import Any

from openstack import resource
from openstack.resource import Body, Header, QueryParameters


class _Noun(resource.Resource):
    """What all nouns share: reads everywhere, and merge patches where a noun can be changed."""

    allow_list = True
    allow_fetch = True
    commit_method = "PATCH"
    _query_mapping = QueryParameters("name")


class _Removable(_Noun):
    """A noun that can be deleted."""

    allow_delete = True

    #: Set for one change: it is refused if the object has another ETag by now.
    if_match: str | None = Header("If-Match")


class _Spec(_Removable):
    """A noun that users create, change and delete."""

    allow_create = True
    allow_commit = True


class Network(_Spec):
    """A layer-2 domain and the ranges from which pools take their addresses."""

    resource_key = "network"
    resources_key = "networks"
    base_path = "/networks"
    _query_mapping = QueryParameters("name", "project_id")

    id: str = Body("id")
    name: str = Body("name")
    project_id: str = Body("project_id")
    #: The 32-bit number of the network in the data plane.
    number: int = Body("number", type=int)
    #: CIDR blocks that are on-link.
    prefixes: list[str] = Body("prefixes", type=list)
    #: CIDR blocks that pools may claim addresses from.
    vip_range: list[str] = Body("vip_range", type=list)
    generation: int = Body("generation", type=int)
    created_at: str = Body("created_at")
    updated_at: str = Body("updated_at")


class Pool(_Spec):
    """One address, its ports, and the members that share its connections."""

    resource_key = "pool"
    resources_key = "pools"
    base_path = "/pools"
    _query_mapping = QueryParameters("name", "project_id", "network_id")

    id: str = Body("id")
    name: str = Body("name")
    description: str = Body("description")
    project_id: str = Body("project_id")
    network_id: str = Body("network_id")
    address: str = Body("address")
    #: Write-only: the family (4 or 6) of an address that the network chooses.
    ip_version: int = Body("ip_version", type=int)
    #: ``{"protocol": "tcp", "port": 80}`` each.
    ports: list[dict[str, str | int]] = Body("ports", type=list)
    data_plane: str = Body("data_plane")
    scheduler: str = Body("scheduler")
    #: Turns of the scheduler weighted_round_robin.
    rotation_order: str = Body("rotation_order")
    #: What the schedulers (weighted_)least_connections compare.
    connection_count: str = Body("connection_count")
    #: ``{"timeout": seconds, "prefix": bits}``, or None.
    persistence: dict[str, int] | None = Body("persistence", type=dict)
    #: Seconds by state: ``opening``, ``established``, ``closing``, ``udp``; or None.
    timeouts: dict[str, int | None] | None = Body("timeouts", type=dict)
    #: Names of the hosts that receive the address's traffic.
    directors: list[str] = Body("directors", type=list)
    #: How members' hosts pass packets on, where these direct; else None.
    forwarding: str | None = Body("forwarding")
    #: Where the data plane nat translates; else None.
    translation: str | None = Body("translation")
    #: Whether what members begin by themselves gets the pool's address.
    masquerade: bool = Body("masquerade", type=bool)
    #: The first director where members' hosts direct, or None.
    entry_host: str | None = Body("entry_host")
    #: How members learn of clients that full NAT hides: ``tcp_option`` or None.
    client_address: str | None = Body("client_address")
    #: ``keep``, ``reschedule`` or ``reset``: what becomes of a dead member's connections.
    down_action: str = Body("down_action")
    #: ``preempt`` or ``stay``, of several directors.
    failover: str = Body("failover")
    #: Number by which several directors elect who announces the address; else 0.
    virtual_router: int = Body("virtual_router", type=int)
    monitor: dict[str, str | int | float] | None = Body("monitor", type=dict)
    #: Percentage of offline members beyond which probes are not believed; 0 for never.
    panic_threshold: int = Body("panic_threshold", type=int)
    drain_timeout: int = Body("drain_timeout", type=int)
    admin_state_up: bool = Body("admin_state_up", type=bool)
    #: Conditions ``admin``, ``realized`` and ``health``: a state and a reason each.
    status: dict[str, dict[str, str]] = Body("status", type=dict)
    #: Deleted, and shown until no host has anything of it.
    removing: bool = Body("removing", type=bool)
    #: Accepted at creation; in an answer only when one pool is asked for.
    members: list[dict[str, Any]] = Body("members", type=list)
    generation: int = Body("generation", type=int)
    created_at: str = Body("created_at")
    updated_at: str = Body("updated_at")


class Member(_Spec):
    """A server that takes a share of a pool's connections."""

    resource_key = "member"
    resources_key = "members"
    base_path = "/pools/%(pool_id)s/members"

    id: str = Body("id")
    name: str = Body("name")
    pool_id: str = resource.URI("pool_id")
    project_id: str = Body("project_id")
    #: Name or UUID of a server; answers hold the UUID, None of a remote one.
    server: str | None = Body("server")
    server_name: str = Body("server_name")
    #: Instead of ``server`` at creation: an address that one server holds, or a remote one.
    address: str = Body("address")
    #: The server is on no host with an agent.
    remote: bool = Body("remote", type=bool)
    #: A remote server is ready for what the pool's data plane needs of it.
    prepared: bool = Body("prepared", type=bool)
    addresses: list[str] = Body("addresses", type=list)
    port: int | None = Body("port", type=int)
    #: Share of the clients, 0 to 256; 0 takes no new ones. With round robin 0 or 1.
    weight: int = Body("weight", type=int)
    #: Takes new connections only while no other member is alive.
    backup: bool = Body("backup", type=bool)
    admin_state_up: bool = Body("admin_state_up", type=bool)
    #: ``hosted`` on a host that an agent watches, ``waiting`` for its server, or ``remote``.
    placement: str = Body("placement")
    placement_reason: str = Body("placement_reason")
    host: str | None = Body("host")
    mac: str | None = Body("mac")
    tap: str | None = Body("tap")
    source: str = Body("source")
    health: str = Body("health")
    health_reason: str = Body("health_reason")
    #: Deleted, and shown until its last connection has ended.
    removing: bool = Body("removing", type=bool)
    generation: int = Body("generation", type=int)
    created_at: str = Body("created_at")
    updated_at: str = Body("updated_at")


class PoolStatus(resource.Resource):
    """A pool's conditions, and what each of its hosts and members has to say to them."""

    allow_fetch = True
    requires_id = False
    resource_key = "status"
    base_path = "/pools/%(pool_id)s/status"

    pool_id: str = resource.URI("pool_id")
    name: str = Body("name")
    admin: dict[str, str] = Body("admin", type=dict)
    realized: dict[str, str] = Body("realized", type=dict)
    health: dict[str, str] = Body("health", type=dict)
    hosts: list[dict[str, Any]] = Body("hosts", type=list)
    members: list[dict[str, Any]] = Body("members", type=list)
    removing: bool = Body("removing", type=bool)
    generation: int = Body("generation", type=int)


class PoolStats(resource.Resource):
    """A pool's counters and rates, in sum and for each member."""

    allow_fetch = True
    requires_id = False
    resource_key = "stats"
    base_path = "/pools/%(pool_id)s/stats"

    pool_id: str = resource.URI("pool_id")
    connections: int = Body("connections", type=int)
    active: int = Body("active", type=int)
    inactive: int = Body("inactive", type=int)
    packets_in: int = Body("packets_in", type=int)
    bytes_in: int = Body("bytes_in", type=int)
    packets_out: int = Body("packets_out", type=int)
    bytes_out: int = Body("bytes_out", type=int)
    connections_per_second: float = Body("connections_per_second", type=float)
    packets_in_per_second: float = Body("packets_in_per_second", type=float)
    bytes_in_per_second: float = Body("bytes_in_per_second", type=float)
    packets_out_per_second: float = Body("packets_out_per_second", type=float)
    bytes_out_per_second: float = Body("bytes_out_per_second", type=float)
    members: list[dict[str, Any]] = Body("members", type=list)
    #: What each of the pool's directors has counted, and its load.
    hosts: list[dict[str, Any]] = Body("hosts", type=list)
    #: Hosts that did not answer; their part is not in the sums.
    missing: list[str] = Body("missing", type=list)


class PoolFlow(resource.Resource):
    """A connection that a director remembers."""

    allow_list = True
    resources_key = "flows"
    base_path = "/pools/%(pool_id)s/flows"
    _query_mapping = QueryParameters("limit")

    pool_id: str = resource.URI("pool_id")
    client: str = Body("client")
    client_port: int = Body("client_port", type=int)
    protocol: str = Body("protocol")
    port: int = Body("port", type=int)
    member_id: str = Body("member_id")
    member_name: str = Body("member_name")
    state: str = Body("state")
    #: Seconds since the last packet.
    idle: float = Body("idle", type=float)
    director: str = Body("director")


class PoolExplanation(resource.Resource):
    """The member that a client's next packet goes to, and why."""

    allow_fetch = True
    requires_id = False
    resource_key = "explanation"
    base_path = "/pools/%(pool_id)s/explain"
    _query_mapping = QueryParameters("client", "client_port", "protocol", "port")

    pool_id: str = resource.URI("pool_id")
    director: str = Body("director")
    member_id: str | None = Body("member_id")
    member_name: str | None = Body("member_name")
    host: str | None = Body("host")
    reason: str = Body("reason")
    detail: str = Body("detail")


class Host(_Removable):
    """A machine with an agent."""

    resource_key = "host"
    resources_key = "hosts"
    base_path = "/hosts"

    name: str = Body("name", alternate_id=True)
    roles: list[str] = Body("roles", type=list)
    engine: str = Body("engine")
    alive: bool = Body("alive", type=bool)
    last_seen: str | None = Body("last_seen")
    generation: int = Body("generation", type=int)
    observed_generation: int = Body("observed_generation", type=int)
    uplinks: list[dict[str, Any]] = Body("uplinks", type=list)
    #: The address at which other agents reach this one.
    management: str | None = Body("management")


class Driver(_Noun):
    """A data plane that pools can ask for, and what it can do."""

    allow_fetch = False
    resource_key = "driver"
    resources_key = "drivers"
    base_path = "/drivers"

    name: str = Body("name", alternate_id=True)
    description: str = Body("description")
    protocols: list[str] = Body("protocols", type=list)
    address_families: list[int] = Body("address_families", type=list)
    schedulers: list[str] = Body("schedulers", type=list)
    #: Those that share by weight; with the others a weight is 0 or 1.
    weighted_schedulers: list[str] = Body("weighted_schedulers", type=list)
    monitors: list[str] = Body("monitors", type=list)
    #: Clients may be bound to members.
    persistence: bool = Body("persistence", type=bool)
    #: The hosts of a pool's members are its directors.
    members_direct: bool = Body("members_direct", type=bool)
    #: A member may have a port of its own.
    port_translation: bool = Body("port_translation", type=bool)
    #: Where it may translate, as the pool says.
    translations: list[str] = Body("translations", type=list)
    #: A member may be on a host without an agent.
    remote_members: bool = Body("remote_members", type=bool)
