# SPDX-License-Identifier: Apache-2.0
"""Bodies of ``/v1/pools``."""

from cloudlb.model.dataplane import Mode
from cloudlb.model.pool import (
    ClientAddress,
    ConnectionCount,
    DownAction,
    Failover,
    Forwarding,
    Protocol,
    RotationOrder,
    Scheduler,
    Translation,
)
from cloudlb.schemas import member
from cloudlb.schemas.fields import (
    ADDRESS,
    COUNT,
    GENERATION,
    LABEL,
    NAME,
    PAGING,
    PORT,
    PROJECT_ID,
    SWITCH,
    TEXT,
    TIME,
    TIME_OR_NULL,
    UUID,
    Schema,
    body,
    described,
    page,
    patch,
    record,
    wrapped,
)
from cloudlb.schemas.monitor import MONITOR

ADMIN_STATES = ("up", "down")
REALIZED_STATES = ("yes", "pending", "failing")
HEALTH_STATES = ("online", "degraded", "offline", "unknown")
HOST_STATES = ("realized", "pending", "failing")

MAX_DIRECTORS = 8

SERVICE = body(
    {"protocol": {"type": "string", "enum": [p.value for p in Protocol]}, "port": PORT},
    required=("protocol", "port"),
)

PERSISTENCE: Schema = {
    **body(
        {
            "timeout": {
                "type": "integer",
                "minimum": 1,
                "maximum": 86400,
                "description": "Seconds since the client's latest new connection.",
            },
            "prefix": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": 128,
                "default": None,
                "description": "Clients with the same first bits of the address are one; "
                "default: all bits.",
            },
        },
        required=("timeout",),
    ),
    "type": ["object", "null"],
    "default": None,
    "description": "New connections of a client go where its former ones went; null for not.",
}

_TIMEOUT: Schema = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": 604800,
    "default": None,
}
TIMEOUTS: Schema = {
    **body(
        {
            "opening": described(_TIMEOUT, "TCP, until the client has acknowledged."),
            "established": described(_TIMEOUT, "TCP."),
            "closing": described(_TIMEOUT, "TCP, since a FIN or RST."),
            "udp": described(_TIMEOUT, "Datagrams."),
        },
    ),
    "type": ["object", "null"],
    "default": None,
    "description": "Seconds without a packet until a connection is forgotten, by its state; "
    "what is null is as the hosts are configured (by default 60, 900, 120 and 300).",
}

SPEC: dict[str, Schema] = {
    "network_id": described(UUID, "The network of the address. Fixed at creation."),
    "name": NAME,
    "description": {**TEXT, "default": ""},
    "address": described(
        ADDRESS, "The virtual address; default: the lowest free one. Fixed at creation."
    ),
    "ip_version": {
        "type": "integer",
        "enum": [4, 6],
        "description": "Family of the address to allocate; default: 4 if the network offers it.",
    },
    "ports": {
        "type": "array",
        "items": SERVICE,
        "minItems": 1,
        "maxItems": 64,
        "uniqueItems": True,
    },
    "data_plane": described(
        {**LABEL, "minLength": 1, "default": Mode.DR.value},
        "Name of a driver, see /v1/drivers. When it changes, connections that there are keep "
        "the mode in which they began.",
    ),
    "scheduler": {
        "type": "string",
        "enum": [s.value for s in Scheduler],
        "default": Scheduler.ROUND_ROBIN.value,
        "description": "How members are chosen. With round_robin and least_connections their "
        "weights are 0 or 1.",
    },
    "rotation_order": {
        "type": "string",
        "enum": [order.value for order in RotationOrder],
        "default": RotationOrder.INTERLEAVED.value,
        "description": "Turns of weighted_round_robin: with weights A4 B3 C2 interleaved gives "
        "ABCABCABA, lvs AABABCABC, smooth ABCABACBA.",
    },
    "connection_count": {
        "type": "string",
        "enum": [count.value for count in ConnectionCount],
        "default": ConnectionCount.ACTIVE.value,
        "description": "What least_connections and weighted_least_connections compare: active "
        "connections, or as lvs does 256 × active + inactive.",
    },
    "persistence": PERSISTENCE,
    "timeouts": TIMEOUTS,
    "directors": {
        "type": "array",
        "items": {**LABEL, "minLength": 1},
        "maxItems": MAX_DIRECTORS,
        "minItems": 1,
        "uniqueItems": True,
        "description": "The hosts that receive the address's traffic. All forward what reaches "
        "them; one announces the address: the first of them that lives. Default: one, the first "
        "by name that is able to and alive. A PATCH with null chooses so again; a PUT without it "
        "keeps the present ones, unless all are silent or unable and another host could. With the "
        "data plane dpr they are the hosts of the members, and none can be named.",
    },
    "forwarding": {
        "type": ["string", "null"],
        "enum": [*(way.value for way in Forwarding), None],
        "default": None,
        "description": "How the hosts of members pass packets on to each other, where these "
        "direct (data plane dpr): by Ethernet addresses (dr, the default there), in tunnels "
        "(tun), or by edge NAT (nat). With other data planes null.",
    },
    "entry_host": {
        **LABEL,
        "type": ["string", "null"],
        "minLength": 1,
        "default": None,
        "description": "The members' host that comes first of the directors, and so announces the "
        "address while it lives and has a member (data plane dpr). Default: who directs already "
        "stays first. With other data planes null.",
    },
    "translation": {
        "type": ["string", "null"],
        "enum": [*(way.value for way in Translation), None],
        "default": None,
        "description": "Where the data plane nat translates: at the member's tap (edge, the "
        "default there), after which members answer clients directly; at the director, to which "
        "members must route their answers (director); or there with the client's address and port "
        "exchanged as well, for the pool's and one of [agent] nat_ports, so that any member will "
        "do (full). With other data planes null.",
    },
    "masquerade": {
        **SWITCH,
        "default": False,
        "description": "Connections that members begin by themselves, and send by the director, "
        "get the pool's address and one of [agent] nat_ports. Only where the director translates.",
    },
    "client_address": {
        "type": ["string", "null"],
        "enum": [None, *(c.value for c in ClientAddress)],
        "default": None,
        "description": "How a member learns who its client is where the director stands in for "
        "it: with tcp_option segments tell it until the connection is established. With the "
        "translation director, which hides no client, and with other data planes null.",
    },
    "failover": {
        "type": "string",
        "enum": [way.value for way in Failover],
        "default": Failover.PREEMPT.value,
        "description": "Of several directors, one that comes back and stands before the one that "
        "announces: preempt takes the address back, stay leaves it there.",
    },
    "monitor": MONITOR,
    "down_action": {
        "type": "string",
        "enum": [action.value for action in DownAction],
        "default": DownAction.KEEP.value,
        "description": "What becomes of the connections of a member that probes find dead, or "
        "whose server is off: they stay with it (keep), go to another one with their next packet "
        "(reschedule), or the director resets them when their client sends something (reset; "
        "datagrams go to another member).",
    },
    "panic_threshold": {
        "type": "integer",
        "minimum": 0,
        "maximum": 99,
        "default": 0,
        "description": "When more than this percentage of the weight of members is offline, "
        "probes are not believed and all members take new connections; 0 for never.",
    },
    "drain_timeout": {
        "type": "integer",
        "minimum": 0,
        "maximum": 86400,
        "default": 300,
        "description": "Seconds that a removed member keeps its connections at most.",
    },
    "admin_state_up": {**SWITCH, "default": True},
}

_WRITE = body(SPEC, required=("name", "ports"))
_CREATE = body(
    {
        **SPEC,
        "members": {"type": "array", "items": member.WRITE, "maxItems": member.MAX_BATCH},
    },
    required=("network_id", "name", "ports"),
)


def _condition(states: tuple[str, ...]) -> Schema:
    return record(
        {"state": {"type": "string", "enum": list(states)}, "reason": {"type": "string"}}
    )


CONDITIONS: dict[str, Schema] = {
    "admin": _condition(ADMIN_STATES),
    "realized": _condition(REALIZED_STATES),
    "health": _condition(HEALTH_STATES),
}

_READ_ONE: dict[str, Schema] = {
    "id": UUID,
    "project_id": PROJECT_ID,
    **{name: value for name, value in SPEC.items() if name not in ("ip_version", "directors")},
    "directors": {"type": "array", "items": LABEL},
    "virtual_router": {
        "type": "integer",
        "minimum": 0,
        "maximum": 255,
        "description": "Number (VRID of RFC 9568) by which several directors elect; else 0.",
    },
    "status": record(CONDITIONS),
    "removing": described(SWITCH, "Deleted; shown until no host has anything of it."),
    "generation": GENERATION,
    "created_at": TIME,
    "updated_at": TIME,
}
_READ = record(_READ_ONE)
_READ_WITH_MEMBERS = record({**_READ_ONE, "members": {"type": "array", "items": member.READ}})

CREATE = wrapped("pool", _CREATE)
REPLACE = wrapped("pool", _WRITE)
PATCH = wrapped("pool", patch(_WRITE))
SHOW = wrapped("pool", _READ_WITH_MEMBERS)
LIST = page("pools", _READ)
QUERY: dict[str, Schema] = {**PAGING, "name": LABEL, "project_id": LABEL, "network_id": UUID}

_HOST_STATUS = record(
    {
        "host": LABEL,
        "alive": SWITCH,
        "announcing": described(
            SWITCH, "This director answers ARP and neighbour solicitations for the address."
        ),
        "generation": described(
            COUNT, "The host's generation since which the pool is wanted as it is now."
        ),
        "observed_generation": described(
            COUNT,
            "The host's generation that its newest word is about: of it the host has realized "
            "the pool, or failed to for the reason. To have heard of it is not enough.",
        ),
        "state": {"type": "string", "enum": list(HOST_STATES)},
        "reason": {"type": "string"},
        "since": TIME_OR_NULL,
    }
)
_MEMBER_STATUS = record(
    {
        name: member.READ["properties"][name]
        for name in (
            "id",
            "name",
            "server",
            "host",
            "weight",
            "admin_state_up",
            "placement",
            "placement_reason",
            "health",
            "health_reason",
            "removing",
        )
    }
)
STATUS = wrapped(
    "status",
    record(
        {
            "pool_id": UUID,
            "name": NAME,
            "generation": GENERATION,
            "removing": SWITCH,
            **CONDITIONS,
            "hosts": {"type": "array", "items": _HOST_STATUS},
            "members": {"type": "array", "items": _MEMBER_STATUS},
        }
    ),
)
