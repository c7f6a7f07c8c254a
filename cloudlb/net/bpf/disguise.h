/* SPDX-License-Identifier: Apache-2.0 */
/* Full NAT: the pool's address and an alias stand in for a connection's client. */
#pragma once

#include "aliases.h"
#include "answer.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "share.h"

/* For bpf_loop: the first port that no session with the same end of the member has, and no service.
 */
struct alias_search {
	struct session_key key;
	struct session fresh;
	__u32 network;
	struct aliases range;
	__u32 found;
};

static long try_alias(__u32 tried, struct alias_search *search)
{
	__u32 port = alias_at(&search->range, tried);

	search->key.client_port = bpf_htons(port);
	if (tried >= search->range.count)
		return 1;
	if (is_service(search->network, &search->fresh.address, search->key.client_port,
		       search->key.protocol) ||
	    bpf_map_update_elem(&sessions, &search->key, &search->fresh, BPF_NOEXIST))
		return 0;
	search->found = port;
	return 1;
}

/* A port for a client whose connection has none, or whose session is gone: that gets the one again
 * that it had. Two packets of it at once may both find one: the first is kept.
 */
GLOBAL __u32 find_alias(const struct session_key *key, const struct packet *p, __u32 network,
			__u32 number, struct flow *flow)
{
	struct alias_search search = {.network = network};
	struct member *member = bpf_map_lookup_elem(&members, &number);
	__u32 other;

	if (!key || !p || !flow || !member)
		return 0;
	search.key = *key;
	search.fresh.seen = bpf_jiffies64();
	search.fresh.address = p->destination;
	search.fresh.port = p->port;
	search.fresh.client = p->source;
	search.fresh.client_port = p->source_port;
	search.fresh.member = number;
	search.fresh.mode = MODE_FULL_NAT;
	search.fresh.state = next_state(first_state(p), p);
	if (flow->alias)
		search.range = (struct aliases){.first = flow->alias, .count = 1};
	else if (range_of_aliases(&search.range, bpf_map_lookup_elem(&pools, &member->pool)))
		return 0;
	bpf_loop(ALIAS_TRIES, try_alias, &search, 0);
	if (!search.found)
		return 0;
	other = __sync_val_compare_and_swap(&flow->alias, 0, search.found);
	if (!other || other == search.found)
		return search.found;
	bpf_map_delete_elem(&sessions, &search.key);
	return other;
}

/* The client's connection as the director remembers it, with its key. */
static __always_inline struct flow *flow_of(struct flow_key *key, const struct port *port,
					    const struct packet *p)
{
	flow_key_of(key, port->network, p);
	return bpf_map_lookup_elem(&flows, key);
}

/* Put the pool's address and the connection's alias in the client's place. */
static __always_inline void stand_in(struct session_key *key, const struct packet *p,
				     __u32 alias)
{
	key->client = p->destination;
	key->client_port = bpf_htons(alias);
}

static __always_inline int is_of_client(const struct session *session, const struct packet *p)
{
	return session->client_port == p->source_port &&
	       same_address(&session->client, &p->source);
}

/* What became of a packet that was to be remembered, where it is no event. */
enum remembered { IS_OPENING = -1, UNDER_WAY = -2 };

/* Remember a client's packet in a session with an alias, which becomes the key's client. Returns
 * how far the connection was, or the event to count if it is refused: without an alias the member
 * could not answer. A member that has closed its side may have its session forgotten before the
 * client does. Other directors hear of the connection only now: without its alias it is of no use
 * to them.
 */
static __always_inline int remember_disguised(struct session_key *key, const struct port *port,
					      const struct packet *p, __u32 number)
{
	struct flow_key known;
	struct flow *flow = flow_of(&known, port, p);
	struct session *session;
	__u32 alias, state;

	if (!flow)
		return EVENT_TABLE_FULL;
	stand_in(key, p, flow->alias);
	session = flow->alias ? bpf_map_lookup_elem(&sessions, key) : 0;
	if (session && !is_of_client(session, p))
		return EVENT_SESSION_CLASH;
	if (session) {
		state = session->state;
		follow_client(session, p);
		return state == FLOW_OPENING ? IS_OPENING : UNDER_WAY;
	}
	alias = find_alias(key, p, port->network, number, flow);
	if (!alias)
		return EVENT_NO_ALIAS;
	stand_in(key, p, alias);
	share(&known, flow);
	return opens(p) ? IS_OPENING : UNDER_WAY;
}
