/* SPDX-License-Identifier: Apache-2.0 */
/* The second chance of a connection that another director may know. */
#pragma once

#include "maps.h"

/* clang makes a call of the builtin for six octets, and twelve instructions of a copy. */
static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	const __u16 *x = (const void *)from;
	__u16 *y = (void *)to;

	y[0] = x[0];
	y[1] = x[1];
	y[2] = x[2];
}

#define MATE_ALIVE 3000000000ULL /* ns: three greetings */

static __always_inline int is_of_mate(const __u8 *source, const struct mate *mate)
{
	for (int i = 0; i < MOST_MATES; i++)
		if (same_mac(source, mate->all[i]))
			return 1;
	return 0;
}

/* Whether a packet was addressed to another director of a virtual router, one that `lives` or that
 * was heard in the last minute. What comes from any of them stays here, so that nothing circles. A
 * function of its own: the stack of `director` has no room for its variables.
 */
static __noinline int pass_to_mate(struct __sk_buff *skb, const struct port *port, __u32 router,
				   int lives)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct mate *mate;

	if (!port || !router || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return 0;
	mate = bpf_map_lookup_elem(&mates, &router);
	if (!mate || (lives ? mate->heard + MATE_ALIVE : mate->until) <= bpf_ktime_get_ns())
		return 0;
	if (is_of_mate(eth->h_source, mate))
		return 0;
	__builtin_memcpy(eth->h_dest, mate->mac, 6);
	__builtin_memcpy(eth->h_source, port->mac, 6);
	count_event(EVENT_PASSED_ON);
	return 1;
}

/* Likewise a packet in the middle of a connection that is not known here. A scheduler that takes
 * turns or compares counts cannot find the connection's member again, and a wrong one would reset
 * it; so would an alias that is not the one which the member knows. A connection that the other
 * director has `told` to be closing is its affair as well, while it lives: the ports may be in use
 * again, which it would tell a moment later. Where members of this host get what is not known,
 * nothing is passed on.
 */
static __always_inline int pass_on(struct __sk_buff *skb, const struct port *port,
				   const struct pool *pool, int told)
{
	int by_hash;

	if (!pool || pool->locals)
		return 0;
	by_hash = pool->scheduler > LAST_COUNT;
	if (by_hash && !pool->disguises)
		return 0;
	return pass_to_mate(skb, port, pool->router, told || by_hash);
}
