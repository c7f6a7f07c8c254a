/* SPDX-License-Identifier: Apache-2.0 */
/* States of connections by what their clients send, and those that a director remembers. */
#pragma once

#include "maps.h"
#include "parse.h"
#include "share.h"

static __always_inline void flow_key_of(struct flow_key *key, __u32 network, const struct packet *p)
{
	key->network = network;
	key->client_port = p->source_port;
	key->port = p->port;
	key->client = p->source;
	key->address = p->destination;
	key->protocol = p->protocol;
}

static __always_inline int is_active(__u32 state)
{
	return state == FLOW_ESTABLISHED || state == FLOW_UDP;
}

/* Whether what is not known here may be on its way from the maps of another version. What comes in
 * the middle of something is dropped meanwhile, and sent again.
 */
static __noinline int is_carrying(void)
{
	__u32 zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);

	if (!config || config->carrying < bpf_ktime_get_ns())
		return 0;
	count_event(EVENT_CARRYING);
	return 1;
}

/* What a member has begun by itself is no load of its pool's. */
static __always_inline void count_in_state(__u32 member, __u32 mode, __u32 state, __s64 change)
{
	struct connections *c = bpf_map_lookup_elem(&connections, &member);

	if (c && mode != MODE_MASQUERADE)
		__sync_fetch_and_add(is_active(state) ? &c->active : &c->inactive, change);
}

static __always_inline void count_flow(const struct flow *flow, __s64 change)
{
	count_in_state(flow->member, flow->mode, flow->state, change);
}

static __always_inline void count_connection(__u32 member)
{
	struct connections *c = bpf_map_lookup_elem(&connections, &member);

	if (c)
		__sync_fetch_and_add(&c->total, 1);
}

/* The word of a flow that says how far it is. */
union stage {
	struct {
		__u8 state;
		__u8 mode;
		__u8 told;
		__u8 ended;
	};
	__u32 word;
};
_Static_assert(__builtin_offsetof(struct flow, state) % sizeof(__u32) == 0, "one word");
_Static_assert(__builtin_offsetof(struct flow, ended) - __builtin_offsetof(struct flow, state) ==
		       __builtin_offsetof(union stage, ended),
	       "a stage is laid out as in the flow");

typedef __u32 __attribute__((may_alias)) aliased;

/* In one step: both ends of a connection may end it on two CPUs at once, and it counts once. Of two
 * changes that meet the second one is left out; the next packet makes it.
 */
static __always_inline void enter_stage(struct flow *flow, const struct flow_key *key,
					__u32 state, __u32 ended)
{
	aliased *word = (aliased *)&flow->state;
	union stage old, new;

	old.word = *word;
	if (old.state == state && old.ended == ended)
		return;
	new.word = old.word;
	new.state = state;
	new.ended = ended;
	if (__sync_val_compare_and_swap(word, old.word, new.word) != old.word)
		return;
	if (is_active(old.state) != is_active(state)) {
		count_in_state(flow->member, old.mode, old.state, -1);
		count_in_state(flow->member, old.mode, state, 1);
	}
	if (old.state != state)
		share(key, flow);
}

static __always_inline void enter(struct flow *flow, const struct flow_key *key, __u32 state)
{
	enter_stage(flow, key, state, 0);
}

static __always_inline int opens(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline __u32 first_state(const struct packet *p)
{
	return p->protocol == IPPROTO_UDP ? FLOW_UDP : FLOW_OPENING;
}

/* The state of a connection after a packet of its client. */
static __always_inline __u32 next_state(__u32 state, const struct packet *p)
{
	if (p->protocol != IPPROTO_TCP)
		return state;
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		return FLOW_CLOSING;
	return state == FLOW_OPENING && p->tcp_flags & TCP_ACK ? FLOW_ESTABLISHED : state;
}

/* A client's packet of a connection that its member has ended. One who talks still after a second
 * talks in a connection that goes on: one half of it, or another one with the same ports.
 */
static __noinline int follow_ended(struct flow *flow, const struct flow_key *key,
				   const struct packet *p)
{
	__u32 zero = 0;
	struct settings *limits = bpf_map_lookup_elem(&settings, &zero);

	if (!flow || !key || !p || !limits)
		return 0;
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		enter(flow, key, FLOW_CLOSING);
	else if ((__u32)bpf_jiffies64() - flow->since > limits->second)
		enter(flow, key, FLOW_ESTABLISHED);
	return 0;
}

/* A client's packet of a known connection. */
static __always_inline void follow(struct flow *flow, const struct flow_key *key,
				   const struct packet *p)
{
	flow->seen = bpf_jiffies64();
	flow->told = 0;
	if (flow->ended)
		follow_ended(flow, key, p);
	else
		enter(flow, key, next_state(flow->state, p));
}

/* How many packets a frame is on a link. What a guest leaves to be cut says how large its segments
 * are to be, and not how many.
 */
static __always_inline __u32 packets_of(struct __sk_buff *skb, const struct packet *p)
{
	__u32 head = p->l4 + sizeof(struct udphdr), size = skb->gso_size;
	__u8 words;

	if (skb->gso_segs > 1 || !size)
		return skb->gso_segs > 1 ? skb->gso_segs : 1;
	if (p->protocol == IPPROTO_TCP && !bpf_skb_load_bytes(skb, p->l4 + 12, &words, 1))
		head = p->l4 + (words >> 4) * 4;
	return skb->len > head ? (skb->len - head + size - 1) / size : 1;
}

static __always_inline void count_answer(struct __sk_buff *skb, const struct packet *p,
					 __u32 member)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &member);

	if (t) {
		t->packets_out += packets_of(skb, p);
		t->bytes_out += skb->len;
	}
}

struct sweep {
	__u64 now;
	__u64 second;
	__u64 timeout[4];
};

/* Whether a member's connection has been silent for longer than its pool, or the host, allows. */
static __always_inline int is_over(const struct sweep *sweep, const struct member *member,
				   __u64 seen, __u32 state)
{
	struct pool *pool = bpf_map_lookup_elem(&pools, &member->pool);
	__u32 seconds = pool ? pool->timeout[state & 3] : 0;
	__u64 limit = seconds ? seconds * sweep->second : sweep->timeout[state & 3];

	return sweep->now >= seen && sweep->now - seen >= limit;
}

/* Forget what is over, and what belonged to members that are gone. */
static long sweep_flow(void *map, struct flow_key *key, struct flow *flow, struct sweep *sweep)
{
	struct member *member = bpf_map_lookup_elem(&members, &flow->member);
	int orphan = !member || member->state == MEMBER_FREE;

	if (!orphan && !is_over(sweep, member, flow->seen, flow->state))
		return 0;
	if (!bpf_map_delete_elem(map, key) && !orphan)
		count_flow(flow, -1);
	return 0;
}
