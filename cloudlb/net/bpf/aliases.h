/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of a pool's address that its director gives away: with full NAT to clients, and to what
 * members begin by themselves where it masquerades.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define ALIAS_TRIES 256 /* of ports in a row, until all count as taken */

static __always_inline int is_service(__u32 network, const struct address *a, __u16 port,
				      __u32 protocol)
{
	struct service_key key = {
		.network = network, .address = *a, .port = port, .protocol = protocol};

	return !!bpf_map_lookup_elem(&services, &key);
}

static __always_inline __u32 at_director(const struct port *port)
{
	return AT_DIRECTOR | port->network;
}

/* Ports to be tried: each `step`-th of `count` from the first on, round from a start. */
struct aliases {
	__u32 first;
	__u32 step;
	__u32 count;
	__u32 start;
};

static __always_inline __u32 alias_at(const struct aliases *range, __u32 tried)
{
	return range->first + (range->start + tried) % range->count * range->step;
}

/* Which ports this host may give to clients of a member's pool: those whose remainder is its part's
 * number, so that no other director gives the same, whatever ports that one is configured with.
 */
static __always_inline int range_of_aliases(struct aliases *range, const struct pool *pool)
{
	__u32 zero = 0, parts, skipped;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);
	struct ticket *ticket = bpf_map_lookup_elem(&aliases, &zero);

	if (!pool || !config || !ticket)
		return -1;
	parts = pool->alias_parts ? pool->alias_parts : 1;
	skipped = (pool->alias_part + parts - config->first_alias % parts) % parts;
	if (skipped >= config->aliases)
		return -1;
	range->step = parts;
	range->first = config->first_alias + skipped;
	range->count = (config->aliases - skipped - 1) / parts + 1;
	range->start = __sync_fetch_and_add(&ticket->next, 1) % range->count;
	return 0;
}
