/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that another director has told of. */
#pragma once

#include "flow.h"
#include "maps.h"
#include "nat.h"

/* The session of a connection that directors translate, so that its member's answers are known here
 * before its client's next packet. Of two connections that the member cannot tell apart the later
 * counts; nonzero if that is another one.
 */
static __noinline int adopt_session(const struct shared *told, const struct member *member,
				    __u64 seen)
{
	struct session_key key = {};
	struct session fresh = {}, *known;

	if (!told || !member || !is_translated(told->mode) || is_unspecified(&member->own))
		return 0;
	key.place = AT_DIRECTOR | told->key.network;
	key.protocol = told->key.protocol;
	key.client = told->key.client;
	key.client_port = told->key.client_port;
	key.guest = member->own;
	key.port = member->port ? member->port : told->key.port;
	fresh.seen = seen;
	fresh.address = told->key.address;
	fresh.port = told->key.port;
	fresh.member = told->member;
	fresh.state = told->state & 3;
	fresh.mode = told->mode;
	if (told->mode == MODE_MASQUERADE)
		key.port = bpf_htons(told->alias);
	if (told->mode == MODE_FULL_NAT) {
		key.client = told->key.address;
		key.client_port = bpf_htons(told->alias);
		fresh.client = told->key.client;
		fresh.client_port = told->key.client_port;
	}
	known = bpf_map_lookup_elem(&sessions, &key);
	if (known && known->seen > seen)
		return !is_of_service(known, &fresh.address, fresh.port) ||
		       known->client_port != fresh.client_port ||
		       !same_address(&known->client, &fresh.client);
	bpf_map_update_elem(&sessions, &key, &fresh, BPF_ANY);
	return 0;
}

#define LONG_AGO 0x40000000 /* jiffies: no end that is told of is as old */

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
	flow.alias = told->alias;
	flow.told = 1;
	here = bpf_map_lookup_elem(&flows, &told->key);
	flow.since = told->state == FLOW_OPENING ? now : here ? here->since : now - LONG_AGO;
	if (!here) {
		if (adopt_session(told, member, seen))
			return 0;
		if (!bpf_map_update_elem(&flows, &told->key, &flow, BPF_NOEXIST))
			count_flow(&flow, 1);
		return 1;
	}
	if (here->seen > seen || adopt_session(told, member, seen))
		return 0;
	old = *here;
	if (bpf_map_update_elem(&flows, &told->key, &flow, BPF_EXIST))
		return 0;
	count_flow(&old, -1);
	count_flow(&flow, 1);
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
