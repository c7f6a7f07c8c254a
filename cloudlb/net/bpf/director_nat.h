/* SPDX-License-Identifier: Apache-2.0 */
/* NAT through the director: it exchanges the pool's address for the member's own on the way there,
 * and back in what the member answers, which has to come by it. Members route their answers by the
 * director (MODE_NAT), or the director stands in for the client as well, with the pool's address
 * and a port of its own choice, the alias (MODE_FULL_NAT): then any member will do. Sessions are
 * those of edge NAT, of the network. Source: master's thesis, ch. 3 (LVS/NAT); L1, L19, L23.
 */
#pragma once

#include "answer.h"
#include "disguise.h"
#include "flow.h"
#include "forward.h"
#include "fragment.h"
#include "maps.h"
#include "masquerade.h"
#include "nat.h"
#include "parse.h"
#include "quoted.h"
#include "rewrite.h"
#include "signs.h"
#include "tell.h"

/* The port that a member has in a connection, by a packet of the other end, as it is on the wire. */
GLOBAL __u32 port_of_member(const struct port *port, const struct packet *p,
			    const struct member *member, __u32 mode)
{
	struct flow_key key;
	struct flow *flow;

	if (!port || !p || !member)
		return 0;
	if (mode != MODE_MASQUERADE)
		return member->port ? member->port : p->port;
	flow = flow_of(&key, port, p);
	return flow ? bpf_htons(flow->alias) : 0;
}

/* To the member itself where it is on the link, else by the host's routes. */
static __always_inline int send_to(struct __sk_buff *skb, const struct port *port,
				   const struct member *member)
{
	__u8 head[12];

	if (!has_mac(member))
		return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
	for (int i = 0; i < 6; i++) {
		head[i] = member->mac[i];
		head[6 + i] = port->mac[i];
	}
	if (bpf_skb_store_bytes(skb, 0, head, sizeof(head), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* A later part has no ports; the first one has made the session. */
static __always_inline int write_later_part(struct __sk_buff *skb, const struct packet *p,
					    const struct member *member, __u32 mode)
{
	return write_address(skb, p->version, ETH_HLEN, DESTINATION, &p->destination,
			     &member->own) ||
	       (mode == MODE_FULL_NAT && write_address(skb, p->version, ETH_HLEN, SOURCE,
						       &p->source, &p->destination));
}

/* About what the member sent to the other end: both find what they know in it (L12). */
GLOBAL int write_error(struct __sk_buff *skb, const struct port *port, const struct packet *p,
		       const struct member *member, __u32 mode)
{
	struct end pools = {}, own = {}, client = {}, alias = {};
	struct packet quoted = {};
	struct flow_key key;
	struct flow *flow;
	__u32 ip;

	if (!port || !p || !member)
		return -1;
	ip = p->l4 + 8;
	if (parse_quoted(skb, p, &quoted, ip))
		return -1;
	pools.address = p->destination;
	own.address = member->own;
	pools.port = quoted.source_port;
	turn_round(&quoted);
	own.port = port_of_member(port, &quoted, member, mode);
	turn_round(&quoted);
	if (write_quoted_end(skb, p, &quoted, ip, SOURCE, &pools, &own))
		return -1;
	if (mode != MODE_FULL_NAT)
		return 0;
	client.address = quoted.destination;
	client.port = quoted.port;
	turn_round(&quoted);
	flow = flow_of(&key, port, &quoted);
	if (!flow || !flow->alias)
		return -1;
	alias.address = pools.address;
	alias.port = bpf_htons(flow->alias);
	return write_quoted(skb, p, &quoted, ip, DESTINATION, &client, &alias) ||
	       write_outer(skb, p, SOURCE, &p->source, &pools.address);
}

#define TELLS 0x10000 /* beyond all ports */

/* Returns the connection's alias, which is 0 without full NAT, or -1 if the packet is refused. With
 * an alias TELLS says that the connection is not established yet.
 */
GLOBAL int remember_segment(const struct port *port, const struct packet *p, __u32 choice)
{
	__u32 number = NUMBER_OF(choice), mode = choice >> MODE_SHIFT;
	struct member *member = bpf_map_lookup_elem(&members, &number);
	struct session_key key = {};
	struct end own = {};
	int outcome;

	if (!port || !p || !member)
		return -1;
	own.address = member->own;
	own.port = port_of_member(port, p, member, mode);
	session_key_to(&key, at_director(port), p, &own);
	if (mode == MODE_FULL_NAT)
		outcome = remember_disguised(&key, port, p, number);
	else
		outcome = remember(bpf_map_lookup_elem(&sessions, &key), &key, p, number, mode);
	if (outcome >= 0) {
		count_event(outcome);
		return -1;
	}
	if (mode != MODE_FULL_NAT)
		return 0;
	return bpf_ntohs(key.client_port) | (outcome == IS_OPENING ? TELLS : 0);
}

GLOBAL int write_segment(struct __sk_buff *skb, const struct packet *p,
			 const struct member *member, __u32 alias, __u32 own_port)
{
	struct end from = {}, to = {};

	if (!p || !member)
		return -1;
	if (alias) {
		from.address = p->source;
		from.port = p->source_port;
		to.address = p->destination;
		to.port = bpf_htons(alias);
		if (write_end(skb, p, SOURCE, &from, &to))
			return -1;
	}
	from.address = p->destination;
	from.port = p->port;
	to.address = member->own;
	to.port = own_port;
	return write_end(skb, p, DESTINATION, &from, &to);
}

static __always_inline int tells_clients(const struct member *member)
{
	struct pool *pool = bpf_map_lookup_elem(&pools, &member->pool);

	return pool && pool->tells_clients;
}

static __always_inline int translate_segment(struct __sk_buff *skb, const struct port *port,
					     const struct packet *p,
					     const struct member *member, __u32 choice)
{
	int alias = remember_segment(port, p, choice);

	if (alias < 0 || write_segment(skb, p, member, alias & ~TELLS,
				       port_of_member(port, p, member, choice >> MODE_SHIFT)))
		return -1;
	return alias & TELLS && p->protocol == IPPROTO_TCP && tells_clients(member) ?
		       tell_client(skb, p) :
		       0;
}

/* A client's packet, or an error about what its member has sent. */
static __always_inline int forward_translated(struct __sk_buff *skb, const struct port *port,
					      const struct packet *p, __u32 choice)
{
	__u32 number = NUMBER_OF(choice), mode = choice >> MODE_SHIFT;
	struct member *member = bpf_map_lookup_elem(&members, &number);
	int failed;

	if (!member || member->state == MEMBER_FREE || !is_of_family(&member->own, p->version))
		return drop_for(EVENT_NO_MEMBER);
	if (p->kind == KIND_LATER_PART)
		failed = write_later_part(skb, p, member, mode);
	else if (p->kind == KIND_ICMP)
		failed = write_error(skb, port, p, member, mode);
	else
		failed = translate_segment(skb, port, p, member, choice);
	if (failed)
		return TC_ACT_SHOT;
	count_in(skb, p, number);
	return send_to(skb, port, member);
}

/* A packet to no service, in parts or not. One to a pool's address must not reach the host's stack,
 * and neither may a member's answer to a probe, which the agent has read from its packet socket
 * before.
 */
GLOBAL int refuse_stray(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	int is_pools, waiting = 0;

	if (!port || !p)
		return NOT_OURS;
	is_pools = answers(port->network, &p->destination);
	if (is_pools && pass_on_masked(skb, port, p))
		return bpf_redirect(skb->ifindex, 0);
	if (p->kind == KIND_FIRST_PART)
		waiting = settle(skb, p, &p->source, 0, is_pools ? REFUSED : PASSED);
	if (waiting)
		return release_parts(skb, p, waiting, BPF_F_INGRESS);
	if (is_pools)
		return drop_for(EVENT_NO_SERVICE);
	return answers(port->network, &p->source) ? TC_ACT_SHOT : NOT_OURS;
}

/* Of these STRAY says that a packet is of no session, and so the host's business or nobody's. */
GLOBAL int later_part_from_member(struct __sk_buff *skb, const struct packet *p)
{
	struct fragmented *known;
	struct address pools, client;

	if (!p)
		return STRAY;
	known = fate_or_hold(skb, p);
	if (!known)
		return TC_ACT_SHOT;
	if (known->fate != PARTS_GO)
		return STRAY;
	pools = known->address;
	client = known->client;
	count_answer(skb, p, known->member);
	if (write_address(skb, p->version, ETH_HLEN, SOURCE, &p->source, &pools) ||
	    write_address(skb, p->version, ETH_HLEN, DESTINATION, &p->destination, &client))
		return TC_ACT_SHOT;
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

GLOBAL int error_from_member(struct __sk_buff *skb, const struct port *port,
			     const struct packet *p)
{
	struct end own = {}, pools = {}, alias = {}, client = {};
	struct packet quoted = {};
	struct session_key key = {};
	struct session *session;
	__u32 ip;

	if (!port || !p)
		return STRAY;
	ip = p->l4 + 8;
	if (parse_quoted(skb, p, &quoted, ip) || !is_of_member(skb, &quoted.destination) ||
	    !same_address(&quoted.source, &p->destination))
		return STRAY;
	own.address = quoted.destination;
	own.port = quoted.port;
	session_key_to(&key, at_director(port), &quoted, &own);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return STRAY;
	pools.address = session->address;
	pools.port = session->port;
	alias.address = quoted.source;
	alias.port = quoted.source_port;
	client = alias;
	if (session->mode == MODE_FULL_NAT) {
		client.address = session->client;
		client.port = session->client_port;
	}
	count_answer(skb, p, session->member);
	if (write_quoted(skb, p, &quoted, ip, DESTINATION, &own, &pools) ||
	    write_quoted_end(skb, p, &quoted, ip, SOURCE, &alias, &client))
		return TC_ACT_SHOT;
	if (same_address(&p->source, &own.address) &&
	    write_outer(skb, p, SOURCE, &own.address, &pools.address))
		return TC_ACT_SHOT;
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

GLOBAL int segment_from_member(struct __sk_buff *skb, const struct port *port,
			       struct packet *p)
{
	struct end own = {}, pools = {}, alias = {}, client = {};
	struct session_key key = {};
	struct session *session;
	__u32 number;
	int waiting = 0;

	if (!port || !p)
		return STRAY;
	if (p->kind != KIND_TRANSPORT && load_ports(skb, p))
		return STRAY;
	session_key_from(&key, at_director(port), p);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return STRAY;
	own.address = p->source;
	own.port = p->source_port;
	pools.address = session->address;
	pools.port = session->port;
	alias.address = p->destination;
	alias.port = p->port;
	client = alias;
	if (session->mode == MODE_FULL_NAT) {
		client.address = session->client;
		client.port = session->client_port;
	}
	number = session->member;
	if (session->mode == MODE_MASQUERADE) {
		follow_client(session, p);
		renew_masked(port, p, session);
	} else {
		follow_guest(session, p);
		conclude_session(port, p, session);
	}
	if (p->kind == KIND_FIRST_PART)
		waiting = settle(skb, p, &pools.address, &client.address, number);
	if (waiting)
		return release_parts(skb, p, waiting, BPF_F_INGRESS);
	count_answer(skb, p, number);
	if (write_end(skb, p, SOURCE, &own, &pools) ||
	    write_end(skb, p, DESTINATION, &alias, &client))
		return TC_ACT_SHOT;
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

/* Whether a packet of no session that is known here was handed to another director, because it may
 * be an answer in a connection that this one has. Members send their answers to who announces the
 * pool's address, clients to any director, and what they tell each other takes milliseconds.
 */
GLOBAL int pass_on_answer(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	__u32 *number;
	struct member *member;
	struct pool *pool;

	if (!port || !p || p->kind != KIND_TRANSPORT)
		return 0;
	number = delivered(skb->ifindex, &p->source);
	member = number ? bpf_map_lookup_elem(&members, number) : 0;
	pool = member ? bpf_map_lookup_elem(&pools, &member->pool) : 0;
	if (!pool || !is_translated(member->mode))
		return 0;
	if (member->port ? member->port != p->source_port :
			   !is_service(port->network, &pool->address, p->source_port, p->protocol))
		return 0;
	return pass_to_mate(skb, port, pool->router, 1);
}

static __always_inline int known_of_member(struct __sk_buff *skb, const struct port *port,
					   struct packet *p)
{
	if (p->kind == KIND_FRAGMENT && part_of(skb, p))
		return STRAY;
	if (p->kind == KIND_LATER_PART)
		return later_part_from_member(skb, p);
	if (p->kind != KIND_TRANSPORT && p->kind != KIND_FIRST_PART)
		return STRAY;
	return segment_from_member(skb, port, p);
}

/* From a member's own address: in a connection that is translated here, or by another director, or
 * the beginning of one that is masqueraded.
 */
static __always_inline int packet_of_member(struct __sk_buff *skb, const struct port *port,
					    struct packet *p)
{
	int done = known_of_member(skb, port, p), begins;

	if (done != STRAY)
		return done;
	if (is_carrying())
		return TC_ACT_SHOT;
	if (pass_on_answer(skb, port, p))
		return bpf_redirect(skb->ifindex, 0);
	begins = begins_masked(skb, port, p);
	if (begins < 0 && p->kind == KIND_FIRST_PART)
		settle(skb, p, &p->source, 0, REFUSED);
	if (begins < 0)
		return TC_ACT_SHOT;
	return begins ? known_of_member(skb, port, p) : STRAY;
}

/* A packet to no service: what a member sends by the director, or nobody's. */
static __always_inline int from_member(struct __sk_buff *skb, const struct port *port,
				       struct packet *p)
{
	int done = STRAY;

	if (p->kind == KIND_ICMP)
		done = error_from_member(skb, port, p);
	else if (is_of_member(skb, &p->source))
		done = packet_of_member(skb, port, p);
	return done == STRAY ? refuse_stray(skb, port, p) : done;
}

/* Whether a session is still somebody's: at a tap the guest serves its address, by whatever number
 * the member has now; at an uplink the member is one that this host directs to.
 */
static __always_inline struct member *member_of_session(const struct session_key *key,
							struct session *session)
{
	struct delivery_key at = {.ifindex = key->place, .address = session->address};
	struct member *member;
	__u32 number = session->member, *found;

	if (session->mode != MODE_EDGE_NAT) {
		member = bpf_map_lookup_elem(&members, &number);
		return member && member->state != MEMBER_FREE ? member : 0;
	}
	found = bpf_map_lookup_elem(&deliveries, &at);
	member = found ? bpf_map_lookup_elem(&members, found) : 0;
	if (!member || !serves_by(member, MODE_EDGE_NAT))
		return 0;
	session->member = *found;
	return member;
}

/* Forget what is over, and what is nobody's. */
static long sweep_session(void *map, struct session_key *key, struct session *session,
			  struct sweep *sweep)
{
	struct member *member = member_of_session(key, session);

	if (!member || is_over(sweep, member, session->seen, session->state))
		bpf_map_delete_elem(map, key);
	return 0;
}
