/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that another director has told of. */
#pragma once

#include "flow.h"
#include "maps.h"

/* What was seen here later than there stays as it is. A connection that was told with another
 * member goes there: who tells it has forwarded its packets since.
 */
static __noinline int adopt_flow(const struct shared *told)
{
	__u64 now = bpf_jiffies64(), seen;
	struct member *member;
	struct flow flow = {}, old;
	struct flow *here;
	__u32 number;

	if (!told)
		return 0;
	number = told->member;
	member = bpf_map_lookup_elem(&members, &number);
	if (!member || member->state == MEMBER_FREE)
		return 0;
	seen = now > told->idle ? now - told->idle : 0;
	flow.seen = seen;
	flow.member = number;
	flow.state = told->state & 3;
	flow.mode = told->mode;
	flow.told = 1;
	here = bpf_map_lookup_elem(&flows, &told->key);
	if (!here) {
		if (!bpf_map_update_elem(&flows, &told->key, &flow, BPF_NOEXIST))
			count_flow(number, flow.state, 1);
		return 1;
	}
	if (here->seen > seen)
		return 0;
	old = *here;
	if (bpf_map_update_elem(&flows, &told->key, &flow, BPF_EXIST))
		return 0;
	count_flow(old.member, old.state, -1);
	count_flow(number, flow.state, 1);
	return 1;
}

static __noinline int adopt_at(struct __sk_buff *skb, __u32 at)
{
	struct shared told;

	if (bpf_skb_load_bytes(skb, at, &told, sizeof(told)))
		return -1;
	adopt_flow(&told);
	return 0;
}
