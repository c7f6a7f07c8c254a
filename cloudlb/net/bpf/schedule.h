/* SPDX-License-Identifier: Apache-2.0 */
/* Which member a new connection gets. model/schedule.py computes the same hash. */
#pragma once

#include "maps.h"
#include "parse.h"

static __always_inline __u32 hash_word(__u32 h, __u32 word)
{
	__u32 k = word * 0xcc9e2d51;

	k = k << 15 | k >> 17;
	h ^= k * 0x1b873593;
	h = h << 13 | h >> 19;
	return h * 5 + 0xe6546b64;
}

static __always_inline __u32 hash_end(__u32 h, __u32 words)
{
	h ^= 4 * words;
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

static __always_inline __u32 hash_address(const struct address *a, __u32 seed)
{
	__u32 h = seed;

	h = hash_word(h, a->word[0]);
	h = hash_word(h, a->word[1]);
	h = hash_word(h, a->word[2]);
	h = hash_word(h, a->word[3]);
	return h;
}

static __always_inline __u32 hash_client(const struct packet *p, __u32 seed)
{
	return hash_end(hash_address(&p->source, seed), 4);
}

static __always_inline __u32 hash_connection(const struct packet *p, __u32 seed)
{
	__u32 h = hash_address(&p->source, seed);

	return hash_end(hash_word(h, (__u32)p->source_port << 16 | p->port), 5);
}

/* The member in a slot of a pool. */
static __always_inline __u32 *member_at(const struct pool *pool, __u32 index)
{
	__u32 slot = pool->base + index;

	return bpf_map_lookup_elem(&slots, &slot);
}

/* The same answer for every packet of a connection while the pool does not change. */
static __always_inline __u32 *pick_stateless(const struct pool *pool, const struct packet *p)
{
	__u32 hash = pool->scheduler == SOURCE_HASH ? hash_client(p, pool->seed) :
						      hash_connection(p, pool->seed);

	return member_at(pool, hash % pool->length);
}

/* Likewise, of the members of this host; there are some. */
static __always_inline __u32 *pick_local(const struct pool *pool, const struct packet *p)
{
	return member_at(pool, pool->length + hash_connection(p, pool->seed) % pool->locals);
}

struct scan {
	const struct pool *pool;
	__u64 least; /* connections of the best so far */
	__u32 weight;
	__u32 best; /* its slot's index */
};

/* Of what another version has counted some may be missing, until it is counted anew. */
static __always_inline __u64 at_least_none(__u64 counted)
{
	return (__s64)counted < 0 ? 0 : counted;
}

static __always_inline __u64 load_of(__u32 scheduler, const struct connections *c)
{
	__u64 active = at_least_none(c->active);

	if (scheduler == LC_LVS || scheduler == WLC_LVS) /* ip_vs.h, ip_vs_dest_conn_overhead() */
		return (active << 8) + at_least_none(c->inactive);
	return active;
}

/* Fractions load / weight are compared by cross-multiplication; ties go to the earlier (L24). */
static long compare_member(__u32 index, struct scan *scan)
{
	__u32 slot = scan->pool->base + index, scheduler = scan->pool->scheduler, weight = 1;
	__u32 *number = bpf_map_lookup_elem(&slots, &slot);
	struct connections *c;
	struct member *member;
	__u64 load;

	if (!number)
		return 0;
	c = bpf_map_lookup_elem(&connections, number);
	member = bpf_map_lookup_elem(&members, number);
	if (!c || !member)
		return 0;
	if (scheduler == WLC_ACTIVE || scheduler == WLC_LVS)
		weight = member->weight;
	load = load_of(scheduler, c);
	if (load * scan->weight < scan->least * weight) {
		scan->least = load;
		scan->weight = weight;
		scan->best = index;
	}
	return 0;
}

/* All members are looked at: 10 ns each, and exact. The first one beats what the scan starts with.
 * (A start with a weight of 0 that means "none yet" does not do: Linux 6.1 verifies the callback
 * for the first call only and removes the branch that this value excludes.)
 */
static __always_inline __u32 *pick_least(const struct pool *pool)
{
	struct scan scan = {.pool = pool, .least = ~0ULL, .weight = 1};

	bpf_loop(pool->length, compare_member, &scan, 0);
	return member_at(pool, scan.best);
}

/* One fetch-add per connection keeps the rotation exact whatever CPUs the packets arrive on (L4). */
static __always_inline __u32 *pick_in_turn(const struct pool *pool, __u32 number)
{
	struct ticket *ticket = bpf_map_lookup_elem(&tickets, &number);

	if (!ticket)
		return 0;
	return member_at(pool, __sync_fetch_and_add(&ticket->next, 1) % pool->length);
}

static __always_inline __u32 *pick_new(const struct pool *pool, __u32 number,
				       const struct packet *p)
{
	if (pool->scheduler <= LAST_ROTATION)
		return pick_in_turn(pool, number);
	if (pool->scheduler <= LAST_COUNT)
		return pick_least(pool);
	return pick_stateless(pool, p);
}
