/* SPDX-License-Identifier: Apache-2.0 */
/* The maps, which outlive the programs and the agent. */
#pragma once

#include "records.h"

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

/* Not LRU: a session that is pushed out leaves the guest's answers with the wrong source. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SESSIONS);
	__type(key, struct session_key);
	__type(value, struct session);
} sessions SEC(".maps");

/* LRU: an entry is needed for the time that the fragments of one datagram take to arrive. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED);
	__type(key, struct fragmented_key);
	__type(value, struct fragmented);
} fragmented SEC(".maps");

/* LRU: what strangers send in parts pushes out what others have sent so, and nothing else. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_HELD);
	__type(key, struct held_key);
	__type(value, struct held);
} held SEC(".maps");

/* Where a part is put together for `held`: the stack has no room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct held);
} drafts SEC(".maps");

/* Not LRU either: a flood of new clients must not part the known ones from their members. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CLIENTS);
	__type(key, struct client_key);
	__type(value, struct client);
} clients SEC(".maps");

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

/* Addresses that guests were seen to use. A guest may invent any number of them: each port has
 * places of its own, filled in order, so that it can only take those of its own guest.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, (NEAR_PORTS + MAX_PORTS) * LEARNED_PER_PORT);
	__type(key, struct learned_key);
	__type(value, struct sighting);
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

/* What the agent is to tell other directors. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NEWS_SIZE);
} news SEC(".maps");

/* What members do with connections, for the agent. Apart from `news`, which a flood of resets must
 * not crowd out.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SIGNS_SIZE);
} signs SEC(".maps");

/* Until when, in ns since boot, this host is master of a virtual router. A lease: who elects
 * renews it, and when that process is gone the host announces nothing any more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROUTERS);
	__type(key, __u32);
	__type(value, __u64);
} leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROUTERS);
	__type(key, __u32);
	__type(value, struct mate);
} mates SEC(".maps");

/* Where the search for an alias begins: one behind the other, so that none is used again while its
 * member may still wait for late segments of the connection that had it (TIME_WAIT).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ticket);
} aliases SEC(".maps");

/* Of clients, by a hash of their address, for what is answered so many times a second. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUDGETS);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

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
