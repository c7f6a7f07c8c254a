/* SPDX-License-Identifier: Apache-2.0 */
/* What members' answers, or their silence, say of connections. A director sees the client's packets
 * only, where members answer the client directly: that a member has ended a connection is seen at
 * its tap and told to the directors, so that their counts are exact (L6, L7). That one refuses new
 * connections, or leaves a client without an answer, has the agent probe it at once (L13).
 */
#pragma once

#include "flow.h"
#include "maps.h"
#include "parse.h"

/* A function of its own: the stack of its callers has no room for its variables. */
static __noinline int sign(const struct flow_key *key, __u32 member, __u32 what)
{
	struct sign *told;

	if (!key)
		return 0;
	told = bpf_ringbuf_reserve(&signs, sizeof(*told), 0);
	if (!told)
		return 0; /* nobody reads; what has ended is forgotten in its time */
	told->key = *key;
	told->member = member;
	told->what = what;
	told->at = bpf_ktime_get_ns();
	bpf_ringbuf_submit(told, 0);
	return 0;
}

#define DOUBT_INTERVAL 250000000ULL /* ns: a flood of refusals tells no more than one of them */

static __always_inline void doubt(const struct flow_key *key, __u32 member, __u32 what)
{
	struct connections *c = bpf_map_lookup_elem(&connections, &member);
	__u64 now = bpf_ktime_get_ns();

	if (!c || now - c->doubted < DOUBT_INTERVAL)
		return;
	c->doubted = now;
	sign(key, member, what);
}

/* What is older than a connection's SYN is not about this connection, but about one that had the
 * same ports before.
 */
static __always_inline int is_older(const struct flow *flow, const struct settings *limits,
				    __u64 at)
{
	__u64 now = bpf_ktime_get_ns(), passed = now > at ? now - at : 0;
	__u32 since_syn = (__u32)bpf_jiffies64() - flow->since;

	return passed / (1000000000 / (limits->second ? limits->second : 1)) > since_syn;
}

/* A member has ended a connection, as was seen at a moment in ns since boot. */
static __noinline int conclude_flow(const struct flow_key *key, __u32 member, __u32 what, __u64 at)
{
	__u32 zero = 0, state;
	struct settings *limits = bpf_map_lookup_elem(&settings, &zero);
	struct flow *flow = key ? bpf_map_lookup_elem(&flows, key) : 0;

	if (!limits || !flow || flow->member != member || flow->mode == MODE_MASQUERADE ||
	    is_older(flow, limits, at))
		return 0;
	state = flow->state;
	if (state != FLOW_OPENING && state != FLOW_ESTABLISHED)
		return 0;
	flow->since = bpf_jiffies64();
	enter_stage(flow, key, FLOW_CLOSING, 1);
	if (state == FLOW_OPENING && what == SIGN_RESET)
		doubt(key, member, SIGN_REFUSED);
	return 1;
}

static __always_inline __u32 end_of(__u8 tcp_flags)
{
	return tcp_flags & TCP_RST ? SIGN_RESET : SIGN_CLOSED;
}

/* A guest's segment from the pool's address. Its ports are read only where it ends something. */
static __noinline int watch_answer(struct __sk_buff *skb, const struct port *port,
				   struct packet *p, __u32 member)
{
	struct flow_key key = {};

	if (!port || !p || bpf_skb_load_bytes(skb, p->l4 + 13, &p->tcp_flags, 1) ||
	    !(p->tcp_flags & (TCP_FIN | TCP_RST)) || load_ports(skb, p))
		return 0;
	key.network = port->network;
	key.client_port = p->port;
	key.port = p->source_port;
	key.client = p->destination;
	key.address = p->source;
	key.protocol = p->protocol;
	return sign(&key, member, end_of(p->tcp_flags));
}

/* The connection of a session, in the client's terms. */
static __always_inline void flow_key_of_session(struct flow_key *key, __u32 network,
						const struct session *session,
						const struct packet *answer)
{
	int is_hidden = session->mode == MODE_FULL_NAT;

	key->network = network;
	key->client_port = is_hidden ? session->client_port : answer->port;
	key->port = session->port;
	key->client = is_hidden ? session->client : answer->destination;
	key->address = session->address;
	key->protocol = answer->protocol;
}

static __always_inline int ends(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && p->tcp_flags & (TCP_FIN | TCP_RST);
}

/* A guest's segment of a session, at its tap. */
static __noinline int watch_session(const struct port *port, const struct packet *p,
				    const struct session *session)
{
	struct flow_key key = {};
	struct member *member;
	__u32 number;

	if (!port || !p || !session || !ends(p))
		return 0;
	number = session->member;
	member = bpf_map_lookup_elem(&members, &number);
	if (!member || !(member->role & MEMBER_WATCHED))
		return 0;
	flow_key_of_session(&key, port->network, session, p);
	return sign(&key, number, end_of(p->tcp_flags));
}

/* A member's segment of a session that is translated here. */
static __noinline int conclude_session(const struct port *port, const struct packet *p,
				       const struct session *session)
{
	struct flow_key key = {};

	if (!port || !p || !session || !ends(p))
		return 0;
	flow_key_of_session(&key, port->network, session, p);
	return conclude_flow(&key, session->member, end_of(p->tcp_flags), bpf_ktime_get_ns());
}

static __noinline int conclude_at(struct __sk_buff *skb, __u32 at)
{
	struct sign told;

	if (bpf_skb_load_bytes(skb, at, &told, sizeof(told)))
		return -1;
	conclude_flow(&told.key, told.member, told.what, told.at);
	return 0;
}
