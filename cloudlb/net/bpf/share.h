/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of pools with several directors, told to the agent as they change. */
#pragma once

#include "maps.h"

/* A function of its own: the stack of `director` has no room for its variables. */
static __noinline int share(const struct flow_key *key, const struct flow *flow)
{
	struct shared *shared;
	struct member *member;
	struct pool *pool;
	__u32 number;

	if (!key || !flow || (flow->mode == MODE_FULL_NAT && !flow->alias))
		return 0;
	number = flow->member;
	member = bpf_map_lookup_elem(&members, &number);
	pool = member ? bpf_map_lookup_elem(&pools, &member->pool) : 0;
	if (!pool || !pool->router)
		return 0;
	shared = bpf_ringbuf_reserve(&news, sizeof(*shared), 0);
	if (!shared)
		return 0; /* nobody reads; what is missing is told with the next refresh */
	shared->key = *key;
	shared->member = number;
	shared->state = flow->state;
	shared->mode = flow->mode;
	shared->alias = flow->alias;
	shared->idle = 0;
	bpf_ringbuf_submit(shared, 0);
	return 0;
}
