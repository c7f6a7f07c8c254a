/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs share with the agent: layout.py names the same fields, and the sizes are
 * compared when the object is loaded. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291,
 * 2.5.5.2); ports and words of addresses are in network order, all else in the host's.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define MAX_POOLS 16384
#define MAX_SERVICES 65536
#define MAX_MEMBERS 65536
#define MAX_SLOTS 1048576
#define MAX_PORTS 4096
#define NEAR_PORTS 1024
#define MAX_FLOWS 262144 /* the loader sets the configured size */

struct address {
	__u32 word[4];
};

/* An interface that carries a program; learned addresses are those of the guest behind a tap. */
struct port {
	__u32 network;
	__u32 own_ipv4;
	struct address own_link_local;
	__u8 mac[6];
	__u8 attached; /* 0 in elements of near_ports that stand for no interface */
	__u8 pad;
};

struct vip_key {
	__u32 network;
	struct address address;
};

struct service_key {
	__u32 network;
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

enum scheduler { ROUND_ROBIN = 0, SOURCE_HASH = 1 };

/* Members of new connections stand in slots[base .. base + length). */
struct pool {
	__u8 id[16];
	__u32 network;
	struct address address;
	__u32 seed;
	__u32 base;
	__u32 length;
	__u32 order; /* 2^order slots are reserved from base on */
	__u32 scheduler;
};

enum member_state { MEMBER_FREE = 0, MEMBER_ACTIVE = 1, MEMBER_IDLE = 2 };
enum member_role { MEMBER_BACKEND = 1, MEMBER_GUEST = 2 };

struct member {
	__u8 id[16];
	__u32 pool;
	__u32 weight;
	__u32 rank;
	__u8 mac[6];
	__u8 state;
	__u8 role;
};

/* A guest behind a tap that serves an address. */
struct delivery_key {
	__u32 ifindex;
	struct address address;
};

struct flow_key {
	__u32 network;
	__u16 client_port;
	__u16 port;
	struct address client;
	struct address address;
	__u32 protocol;
};

enum flow_state { FLOW_OPENING = 0, FLOW_ESTABLISHED = 1, FLOW_CLOSING = 2, FLOW_UDP = 3 };

struct flow {
	__u64 seen; /* jiffies: read without a call, which the clock in ns is not */
	__u32 member;
	__u32 state;
};

struct traffic {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
};

/* Changed atomically by all CPUs; a cache line each. */
struct connections {
	__u64 total;
	__u64 active;
	__u64 inactive;
	__u64 pad[5];
};

struct ticket {
	__u64 next;
	__u64 pad[7];
};

/* Why a packet to a pool's address went nowhere, or was not remembered. */
enum event {
	EVENT_NO_MEMBER = 0,
	EVENT_NO_SERVICE,
	EVENT_FRAGMENT,
	EVENT_TABLE_FULL,
	EVENT_GUARD_DROP,
	EVENT_GUARD_REWRITE,
	EVENT_ANSWERED,
	EVENT_COUNT,
};

struct settings {
	__u64 timeout[4]; /* jiffies, by flow_state */
};

/* Interfaces whose number is small, as that of an uplink is: every packet asks for its port, and
 * an array answers without a hash (1 ns for 24). Others are in `ports`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NEAR_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} near_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

/* The addresses of pools that this host directs: it answers ARP, ND and echo requests for them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_POOLS);
	__type(key, struct vip_key);
	__type(value, __u32);
} vips SEC(".maps");

/* Addresses of all pools of this host's networks: guests may hold but not announce them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct vip_key);
	__type(value, __u32);
} guards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct service_key);
	__type(value, __u32);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_POOLS);
	__type(key, __u32);
	__type(value, struct pool);
} pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_POOLS);
	__type(key, __u32);
	__type(value, struct ticket);
} tickets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MEMBERS);
	__type(key, __u32);
	__type(value, struct member);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_MEMBERS);
	__type(key, struct delivery_key);
	__type(value, __u32);
} deliveries SEC(".maps");

/* Not LRU: established connections must outlive a flood of new ones (L11). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_MEMBERS);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MEMBERS);
	__type(key, __u32);
	__type(value, struct connections);
} connections SEC(".maps");

/* Addresses that guests were seen to use: an LRU, since a guest may invent any number. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, struct delivery_key);
	__type(value, __u64);
} learned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

static __always_inline struct port *port_of(__u32 ifindex)
{
	struct port *port = bpf_map_lookup_elem(&near_ports, &ifindex);

	if (port)
		return port->attached ? port : 0;
	return bpf_map_lookup_elem(&ports, &ifindex);
}

static __always_inline void count_event(__u32 event)
{
	__u64 *counter = bpf_map_lookup_elem(&events, &event);

	if (counter)
		*counter += 1;
}
