# SPDX-License-Identifier: Apache-2.0
"""Options of the agent."""

from oslo_config import cfg, types

GROUP = "agent"
OPTIONS = [
    cfg.ListOpt(
        "roles",
        default=["compute"],
        item_type=types.String(choices=["director", "compute"]),
        help="What this host does: director (receives the traffic of pool addresses), compute "
        "(runs guests that are members), or both.",
    ),
    cfg.DictOpt(
        "network_mappings",
        default={},
        help="Where each network is on this host, as network:interface. Name the bridge where "
        "the network's guests are plugged into one, else the uplink.",
    ),
    cfg.StrOpt(
        "engine",
        default="ebpf",
        help="Name of the engine that programs the kernel: ebpf, or on a host that is a director "
        "only ipvs (LVS). Before changing it, stop the agent and run cloudlb-agent teardown.",
    ),
    cfg.StrOpt(
        "libvirt_uri",
        default="qemu:///system",
        help="URI of this host's libvirt. Empty: this host runs no guests.",
    ),
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/cloudlb",
        help="Directory for the last snapshot and the compiled programs.",
    ),
    cfg.StrOpt(
        "bpffs",
        default="/sys/fs/bpf/cloudlb",
        help="Directory on a BPF file system where programs and maps are pinned. What is pinned "
        "there keeps forwarding while no agent runs.",
    ),
    cfg.IntOpt(
        "pull_interval",
        default=60,
        min=1,
        help="Seconds between two pulls of the snapshot when no doorbell rings, "
        "varied by 20 percent.",
    ),
    cfg.IntOpt(
        "report_interval",
        default=10,
        min=1,
        help="Seconds between two reports of an agent that has nothing to tell.",
    ),
    cfg.IntOpt(
        "resync_interval",
        default=60,
        min=1,
        help="Seconds between two comparisons of the whole kernel state with what is wanted.",
    ),
    cfg.IntOpt(
        "snapshot_max_age",
        default=86400,
        min=60,
        help="Seconds after which the snapshot on disk is too old to announce addresses by: an "
        "agent that starts with an older one and without a conductor leaves what is in the "
        "kernel alone and adds nothing.",
    ),
    cfg.StrOpt(
        "management_address",
        default="",
        help="Address of this host in the management network, at which the agents of other "
        "directors reach it. Needed where pools have several directors; without it these hear of "
        "each other on the pools' networks only.",
    ),
    cfg.PortOpt(
        "east_west_port",
        default=9893,
        help="UDP port of the management address at which directors tell each other of their "
        "connections. The same on all directors.",
    ),
    cfg.FloatOpt(
        "election_interval",
        default=1.0,
        min=0.1,
        max=10.0,
        help="Seconds between two heartbeats of a director that announces addresses of pools with "
        "several directors. When three are missing, another one takes over. The same on all "
        "directors.",
    ),
    cfg.FloatOpt(
        "max_load",
        default=1000.0,
        min=0.0,
        help="Load from which on this host passes new connections on to others, of pools with the "
        "data plane dpr and another scheduler than a hash.",
    ),
    cfg.Opt(
        "load_weights",
        type=types.Dict(types.Float()),
        default={"connections": 1.0},
        help="What the load is the sum of, each part with its weight: connections (open ones of "
        "members here, of such pools), cpu (percent), passed_on (connections given to other hosts "
        "in the last second), sockets (TCP sockets of the host itself).",
    ),
    cfg.StrOpt(
        "xdp",
        default="auto",
        choices=["auto", "never", "always"],
        help="Where a director forwards packets of known connections in the network card's "
        "driver, before the kernel's stack sees them (XDP): auto, on physical interfaces; never; "
        "or always, on virtual ones too, which is slower there. It needs a driver that runs XDP "
        "programs and leaves VLAN tags in the frames (ethtool -K INTERFACE rxvlan off). "
        "Elsewhere, and where somebody else's XDP program is, all packets go the usual way, and "
        "the agent's log says why. What captures or filters packets on the interface does not see "
        "those that are forwarded so.",
    ),
    cfg.IntOpt(
        "flow_table_size",
        default=262144,
        min=1024,
        help="Connections that a director remembers. When the table is full, established "
        "connections stay and further ones are spread by a hash of their addresses and ports.",
    ),
    cfg.IntOpt(
        "client_table_size",
        default=262144,
        min=1024,
        help="Clients that a director keeps with their members, for pools with persistence. When "
        "the table is full, those that are known stay and further ones are not bound.",
    ),
    cfg.IntOpt(
        "fragment_table_size",
        default=8192,
        min=1024,
        help="Fragmented datagrams that are under way at a time, to pools of this director or to "
        "and from members behind edge NAT here. When the table is full, the oldest ones give "
        "way.",
    ),
    cfg.IntOpt(
        "member_table_size",
        default=65536,
        min=1024,
        max=1 << 24,
        help="Members that a host directs or serves, of all its pools together. Each takes some "
        "100 octets, and 32 more on every CPU. A pool for whose members there is no room is not "
        "realized.",
    ),
    cfg.StrOpt(
        "nat_ports",
        default="61000-65096",
        help="Ports that a director puts in the place of clients' ones, of pools with the "
        "translation full, and of members' ones, of pools that masquerade. Each may be in use "
        "once for each other end at a time, and each of a pool's directors gives its share of "
        "them; when none is free, connections are refused and counted as no_alias. Ports of the "
        "pool itself are left out.",
    ),
    cfg.IntOpt(
        "tcp_opening_timeout",
        default=60,
        min=1,
        help="Seconds until a TCP connection that the client has not acknowledged is forgotten.",
    ),
    cfg.IntOpt(
        "tcp_established_timeout",
        default=900,
        min=1,
        help="Seconds without a packet until an established TCP connection is forgotten.",
    ),
    cfg.IntOpt(
        "tcp_closing_timeout",
        default=120,
        min=1,
        help="Seconds until a TCP connection that was closed is forgotten.",
    ),
    cfg.IntOpt(
        "udp_timeout",
        default=300,
        min=1,
        help="Seconds without a packet until a UDP flow is forgotten.",
    ),
    cfg.HostAddressOpt(
        "metrics_host",
        default="127.0.0.1",
        help="Address at which the agent serves metrics to Prometheus. They name pools and their "
        "addresses, and nobody is asked who he is: choose one of the management network.",
    ),
    cfg.PortOpt(
        "metrics_port",
        default=9891,
        help="Port at which the agent serves metrics to Prometheus; 0: nowhere.",
    ),
]
