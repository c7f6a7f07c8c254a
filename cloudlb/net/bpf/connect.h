/* SPDX-License-Identifier: Apache-2.0 */
/* Which member a packet goes to: its connection's, or one that is chosen now. */
#pragma once

#include "answer.h"
#include "flow.h"
#include "maps.h"
#include "mate.h"
#include "parse.h"
#include "persist.h"
#include "schedule.h"
#include "signs.h"

/* The member of a new connection: its client's, or the scheduler's choice. */
static __always_inline int pick_fresh(const struct pool *pool, __u32 number,
				      const struct packet *p, __u32 *member)
{
	struct client_key key = {};
	__u64 until = 0;
	__u32 *choice;

	if (pool->persistence) {
		client_key_of(&key, pool, number, p);
		until = bound_until(pool);
		if (bound(&key, until, member))
			return 0;
	}
	choice = pick_new(pool, number, p);
	if (!choice)
		return -1;
	*member = *choice;
	if (pool->persistence)
		bind(&key, until, *member);
	return 0;
}

/* The member of a packet whose connection is not known or could not be remembered: one of this
 * host's own where the pool `keeps` such, so that it is never scheduled anew (D3).
 */
static __always_inline int pick_again(const struct pool *pool, const struct packet *p, int keeps,
				      __u32 *member)
{
	__u32 *choice = keeps ? pick_local(pool, p) : pick_stateless(pool, p);

	if (!choice)
		return -1;
	*member = *choice;
	return 0;
}

/* The number of the pool that has the address and port as a service. */
static __always_inline __u32 *service_of(const struct port *port, const struct packet *p)
{
	struct service_key key = {.network = port->network,
				  .address = p->destination,
				  .port = p->port,
				  .protocol = p->protocol};

	return bpf_map_lookup_elem(&services, &key);
}

/* A member with its present mode. */
static __always_inline int chosen(__u32 number)
{
	struct member *member = bpf_map_lookup_elem(&members, &number);

	return member ? choice_of(number, member->mode) : refuse_for(EVENT_NO_MEMBER);
}

/* `old` is the connection that had the same ports before, if it still counts, or that has lost its
 * member; it stays when there is no member for the new one. Its record may be given to another
 * connection once replaced.
 */
static __always_inline int new_connection(struct __sk_buff *skb, const struct port *port,
					  const struct packet *p, struct flow_key *key,
					  const struct flow *old)
{
	__u32 *pool_number = service_of(port, p);
	struct pool *pool;
	struct flow flow = {}, replaced = {};
	__u32 number;
	int fresh = opens(p) || p->protocol == IPPROTO_UDP, keeps, choice;

	if (!pool_number)
		return STRAY;
	pool = bpf_map_lookup_elem(&pools, pool_number);
	keeps = pool && pool->locals && !fresh && !old;
	if (!pool || !(pool->length || keeps))
		return refuse_for(EVENT_NO_MEMBER);
	if (!old && !opens(p) && is_carrying())
		return REFUSED;
	if (!old && !fresh && p->kind == KIND_TRANSPORT && pass_on(skb, port, pool, 0))
		return PASSED_ON;
	if (fresh ? pick_fresh(pool, *pool_number, p, &number) :
		    pick_again(pool, p, keeps, &number))
		return refuse_for(EVENT_NO_MEMBER);
	choice = chosen(number);
	if (choice < 0)
		return choice;
	flow.member = number;
	flow.mode = choice >> MODE_SHIFT;
	flow.state = first_state(p);
	flow.seen = bpf_jiffies64();
	flow.since = flow.seen;
	if (old)
		replaced = *old;
	if (!bpf_map_update_elem(&flows, key, &flow, BPF_ANY)) {
		if (old)
			count_flow(&replaced, -1);
		count_flow(&flow, 1);
		share(key, &flow);
	} else {
		count_event(EVENT_TABLE_FULL);
		if (pick_again(pool, p, !!pool->locals, &number))
			return refuse_for(EVENT_NO_MEMBER);
		choice = chosen(number);
	}
	if (fresh)
		count_connection(number);
	return choice;
}

#define RECENT 4 /* seconds: a client has sent its first SYN three times by then (RFC 6298) */

/* Whether a SYN belongs to a connection that is known. One that is opening has sent it again. One
 * that is established gets it late, or somebody has made it up: its member challenges the sender
 * (RFC 5961, section 4), and a client that has begun anew with the same port resets what was there.
 * A member that takes no new connections may be dead and challenge nobody: there the connection's
 * last packet must be recent. Else the SYN opens a connection with a re-used port.
 */
static __always_inline int belongs(const struct flow *flow, const struct member *member)
{
	struct settings *limits;
	__u32 zero = 0;

	if (member->state == MEMBER_ACTIVE)
		return flow->state != FLOW_CLOSING;
	if (flow->state != FLOW_ESTABLISHED)
		return 0;
	limits = bpf_map_lookup_elem(&settings, &zero);
	return limits && bpf_jiffies64() - flow->seen < RECENT * limits->second;
}

/* Whether a SYN is one that a client sends again because nobody has answered (RFC 6298: after a
 * second), and not one that the network has doubled.
 */
static __always_inline int is_late(const struct flow *flow)
{
	struct settings *limits;
	__u32 zero = 0;

	limits = bpf_map_lookup_elem(&settings, &zero);
	return limits && (bpf_jiffies64() - flow->seen) * 2 > limits->second;
}

/* Whether a connection does not stay with its dead member, as the pool says (A17). One that a member
 * has begun is the member's.
 */
static __always_inline int is_given_up(const struct flow *flow, const struct member *member)
{
	return member->state >= MEMBER_DESERTED && flow->mode != MODE_MASQUERADE;
}

/* The member of a client's packet, with the mode of its connection. */
GLOBAL int member_of(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	struct flow_key key;
	struct member *member;
	struct flow *flow;
	__u32 number;

	if (!port || !p)
		return STRAY;
	flow_key_of(&key, port->network, p);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return new_connection(skb, port, p, &key, 0);
	number = flow->member;
	member = bpf_map_lookup_elem(&members, &number);
	if (!member || member->state == MEMBER_FREE)
		return new_connection(skb, port, p, &key, 0);
	if (is_given_up(flow, member)) {
		if (member->state == MEMBER_DESERTED || opens(p) || p->protocol == IPPROTO_UDP)
			return new_connection(skb, port, p, &key, flow);
		enter(flow, &key, FLOW_CLOSING);
		return p->kind == KIND_TRANSPORT ? RESET : REFUSED;
	}
	if (opens(p)) {
		if (!belongs(flow, member))
			return new_connection(skb, port, p, &key, flow);
		flow->since = bpf_jiffies64();
		if (flow->state == FLOW_ESTABLISHED) /* which it does not renew */
			return choice_of(number, flow->mode);
		if (is_late(flow))
			doubt(&key, number, SIGN_UNANSWERED);
	}
	if (flow->told && flow->state == FLOW_CLOSING &&
	    pass_on(skb, port, bpf_map_lookup_elem(&pools, &member->pool), 1))
		return PASSED_ON;
	follow(flow, &key, p);
	return choice_of(number, flow->mode);
}

/* The member of a packet of which only the ports and addresses are known: it renews nothing and
 * is remembered nowhere. Without a known connection it is the one that a packet in the middle of
 * a connection would go to.
 */
static __always_inline int member_without_trace(const struct port *port, const struct packet *p)
{
	struct flow_key key;
	struct flow *flow;
	struct pool *pool;
	__u32 number, *pool_number;

	flow_key_of(&key, port->network, p);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow)
		return choice_of(flow->member, flow->mode);
	pool_number = service_of(port, p);
	if (!pool_number)
		return STRAY;
	pool = bpf_map_lookup_elem(&pools, pool_number);
	if (!pool || !pool->length || pick_again(pool, p, !!pool->locals, &number))
		return refuse_for(EVENT_NO_MEMBER);
	return chosen(number);
}
