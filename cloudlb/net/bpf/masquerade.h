/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that members begin by themselves, under the pool's address and an alias. The session is
 * that of a client's connection with the ends exchanged, so all else is as there; the flow has the
 * alias as its port, and the member's port as its alias. Requirement L22.
 */
#pragma once

#include "aliases.h"
#include "answer.h"
#include "guard.h"
#include "mate.h"
#include "nat.h"
#include "share.h"

/* Whether a packet is of a member's own address, or an error about one to it. */
static __always_inline int is_of_member(struct __sk_buff *skb, const struct address *a)
{
	return !!delivered(skb->ifindex, a);
}

/* The key by which the other end's packets are found, in a connection that a member has begun. */
static __always_inline void masked_key_of(struct flow_key *key, const struct port *port,
					  const struct packet *p, const struct address *address,
					  __u16 alias)
{
	key->network = port->network;
	key->client_port = p->port;
	key->port = alias;
	key->client = p->destination;
	key->address = *address;
	key->protocol = p->protocol;
}

/* Its other end may be silent for longer than the member, which may also end it, or begin anew. */
static __noinline int renew_masked(const struct port *port, const struct packet *p,
				   const struct session *session)
{
	struct flow fresh = {};
	struct flow_key key;
	struct flow *flow;

	if (!port || !p || !session)
		return 0;
	masked_key_of(&key, port, p, &session->address, session->port);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow) {
		flow->seen = session->seen;
		flow->told = 0;
		enter(flow, &key, session->state);
		return 0;
	}
	fresh.seen = session->seen;
	fresh.member = session->member;
	fresh.alias = bpf_ntohs(p->source_port);
	fresh.state = session->state;
	fresh.mode = MODE_MASQUERADE;
	bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST);
	return 0;
}

/* Whether an address is this host's in the network. (Its routes would tell of all addresses that it
 * has, but only to programs under the GPL: bpf_fib_lookup.)
 */
static __always_inline int is_hosts(const struct port *port, const struct address *a)
{
	struct address own;

	map_ipv4(&own, port->host_ipv4);
	return same_address(a, &own) || same_address(a, &port->host_ipv6) || is_link_local(a);
}

#define TAKEN -17 /* EEXIST */

/* For bpf_loop: the first port of a pool that no connection with the same other end has, and no
 * service.
 */
struct mask_search {
	struct flow_key key;
	struct flow fresh;
	struct aliases range;
	__u32 found;
	__u32 is_full; /* the table, and not the range */
};

static long try_mask(__u32 tried, struct mask_search *search)
{
	__u32 port = alias_at(&search->range, tried);
	long failed;

	search->key.port = bpf_htons(port);
	if (tried >= search->range.count)
		return 1;
	if (is_service(search->key.network, &search->key.address, search->key.port,
		       search->key.protocol))
		return 0;
	failed = bpf_map_update_elem(&flows, &search->key, &search->fresh, BPF_NOEXIST);
	if (failed == TAKEN)
		return 0;
	search->found = failed ? 0 : port;
	search->is_full = !!failed;
	return 1;
}

/* Remember what a member begins under the pool's address and a port of it: the flow for what the
 * other end sends, the session for the member's own packets. Returns the event to count if that
 * cannot be, else -1.
 */
static __noinline int mask(const struct port *port, const struct packet *p, __u32 number,
			   const struct pool *pool)
{
	struct mask_search search = {};
	struct session_key key = {};
	struct session session = {};

	if (!port || !p || !pool)
		return EVENT_NO_ALIAS;
	masked_key_of(&search.key, port, p, &pool->address, 0);
	search.fresh.seen = session.seen = bpf_jiffies64();
	search.fresh.member = session.member = number;
	search.fresh.alias = bpf_ntohs(p->source_port);
	search.fresh.state = session.state = first_state(p);
	search.fresh.mode = session.mode = MODE_MASQUERADE;
	if (range_of_aliases(&search.range, pool))
		return EVENT_NO_ALIAS;
	bpf_loop(ALIAS_TRIES, try_mask, &search, 0);
	if (!search.found)
		return search.is_full ? EVENT_TABLE_FULL : EVENT_NO_ALIAS;
	session.address = pool->address;
	session.port = search.key.port;
	session_key_from(&key, at_director(port), p);
	if (bpf_map_update_elem(&sessions, &key, &session, BPF_NOEXIST)) {
		/* The table is full, or another packet of the same connection was quicker. */
		bpf_map_delete_elem(&flows, &search.key);
		return bpf_map_lookup_elem(&sessions, &key) ? -1 : EVENT_TABLE_FULL;
	}
	share(&search.key, &search.fresh);
	return -1;
}

/* Whether a packet of no session begins a connection of a member whose pool masquerades; REFUSED if
 * that cannot be remembered. What members send to pools, to each other and to the host is not
 * masqueraded. Other TCP segments are not, either: they are answers in connections that others have
 * made to the member itself, or nobody's.
 */
GLOBAL int begins_masked(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	__u32 *number;
	struct member *member;
	struct pool *pool;
	int refusal;

	if (!port || !p || (p->kind != KIND_TRANSPORT && p->kind != KIND_FIRST_PART) ||
	    (p->protocol == IPPROTO_TCP && !opens(p)))
		return 0;
	number = delivered(skb->ifindex, &p->source);
	member = number ? bpf_map_lookup_elem(&members, number) : 0;
	pool = member ? bpf_map_lookup_elem(&pools, &member->pool) : 0;
	if (!pool || !pool->masquerades || !is_of_family(&pool->address, p->version))
		return 0;
	if (answers(port->network, &p->destination) || is_of_member(skb, &p->destination) ||
	    is_hosts(port, &p->destination))
		return 0;
	refusal = mask(port, p, *number, pool);
	return refusal < 0 ? 1 : refuse_for(refusal);
}

/* Whether a packet to a pool's address that is of no service and no connection here was handed to
 * another director, by which a member may have begun one: to a port that is not this host's to give.
 */
static __noinline int pass_on_masked(struct __sk_buff *skb, const struct port *port,
				     const struct packet *p)
{
	__u32 zero = 0, alias, *number;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);
	struct vip_key key = {};
	struct pool *pool;

	if (!port || !p || !config || p->kind != KIND_TRANSPORT)
		return 0;
	alias = bpf_ntohs(p->port);
	if (alias < config->first_alias || alias - config->first_alias >= config->aliases)
		return 0;
	key.network = port->network;
	key.address = p->destination;
	number = bpf_map_lookup_elem(&vips, &key);
	pool = number ? bpf_map_lookup_elem(&pools, number) : 0;
	if (!pool || !pool->masquerades || !pool->alias_parts ||
	    alias % pool->alias_parts == pool->alias_part)
		return 0;
	return pass_to_mate(skb, port, pool->router, 1);
}
