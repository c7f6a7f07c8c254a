/* SPDX-License-Identifier: Apache-2.0 */
/* Clients whose new connections go where their former ones went (L10). */
#pragma once

#include "maps.h"
#include "parse.h"

static __always_inline __u32 first_bits(__u32 word, __s32 bits)
{
	if (bits <= 0)
		return 0;
	return bits >= 32 ? word : word & bpf_htonl(0xffffffffU << (32 - bits));
}

static __always_inline void client_key_of(struct client_key *key, const struct pool *pool,
					  __u32 number, const struct packet *p)
{
	__s32 prefix = pool->prefix;

	key->pool = number;
	for (int i = 0; i < 4; i++)
		key->prefix.word[i] = first_bits(p->source.word[i], prefix - 32 * i);
}

/* Whether a client is bound to a member that takes new connections, which is `number` then. It is
 * judged by a copy: the client's record may be given to another one at any moment.
 */
static __always_inline int bound(const struct client_key *key, __u64 until, __u32 *number)
{
	struct client *client = bpf_map_lookup_elem(&clients, key);
	struct member *member;

	if (!client || client->until < bpf_jiffies64())
		return 0;
	*number = client->member;
	member = bpf_map_lookup_elem(&members, number);
	if (!member || member->state != MEMBER_ACTIVE || !member->weight ||
	    member->pool != key->pool)
		return 0;
	client->until = until;
	return 1;
}

static __always_inline void bind(const struct client_key *key, __u64 until, __u32 member)
{
	struct client client = {.until = until, .member = member};

	if (bpf_map_update_elem(&clients, key, &client, BPF_ANY))
		count_event(EVENT_TABLE_FULL);
}

/* The time to which a binding made now lasts. */
static __always_inline __u64 bound_until(const struct pool *pool)
{
	__u32 zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);

	return config ? bpf_jiffies64() + pool->persistence * config->second : 0;
}

/* Forget who is no longer bound, and who was bound to a member that is gone. */
static long sweep_client(void *map, struct client_key *key, struct client *client, __u64 *now)
{
	struct member *member = bpf_map_lookup_elem(&members, &client->member);

	if (client->until < *now || !member || member->state == MEMBER_FREE)
		bpf_map_delete_elem(map, key);
	return 0;
}
