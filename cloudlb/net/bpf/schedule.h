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

/* The same answer for every packet of a connection while the pool does not change. */
static __always_inline __u32 pick_stateless(const struct pool *pool, const struct packet *p)
{
	if (pool->scheduler == SOURCE_HASH)
		return hash_client(p, pool->seed) % pool->length;
	return hash_connection(p, pool->seed) % pool->length;
}

/* The answer for a new connection. One fetch-add per connection keeps the rotation exact
 * whatever CPUs the packets arrive on (L4).
 */
static __always_inline __u32 pick_new(const struct pool *pool, __u32 number, const struct packet *p)
{
	struct ticket *ticket;

	if (pool->scheduler != ROUND_ROBIN)
		return pick_stateless(pool, p);
	ticket = bpf_map_lookup_elem(&tickets, &number);
	if (!ticket)
		return 0;
	return __sync_fetch_and_add(&ticket->next, 1) % pool->length;
}
