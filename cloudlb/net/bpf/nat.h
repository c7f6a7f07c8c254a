/* SPDX-License-Identifier: Apache-2.0 */
/* Edge NAT at a guest's tap: what comes for a pool's address goes on to the guest's own address
 * and port, and what the guest answers comes from the pool's. The guest need not know the pool's
 * address. Sessions are keyed in the guest's terms, since its answers say nothing else; a packet
 * of the guest without a session is its own business and passes as it is.
 */
#pragma once

#include "flow.h"
#include "fragment.h"
#include "maps.h"
#include "parse.h"
#include "quoted.h"
#include "rewrite.h"
#include "signs.h"

static __always_inline int is_icmp(const struct packet *p)
{
	return p->protocol == (p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* Taps see frames for others too, when a bridge does not know where these are. */
static __always_inline int is_to(struct __sk_buff *skb, const struct member *member)
{
	__u8 mac[6], difference = 0;

	if (bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)))
		return 0;
	for (int i = 0; i < 6; i++)
		difference |= mac[i] ^ member->mac[i];
	return !difference;
}

/* The key of a packet to the guest; `guest` is the end that it is for in the guest's terms. */
static __always_inline void session_key_to(struct session_key *key, __u32 place,
					   const struct packet *p, const struct end *guest)
{
	key->place = place;
	key->protocol = p->protocol;
	key->client_port = p->source_port;
	key->port = guest->port;
	key->client = p->source;
	key->guest = guest->address;
}

/* The key of a packet from the guest. */
static __always_inline void session_key_from(struct session_key *key, __u32 place,
					     const struct packet *p)
{
	key->place = place;
	key->protocol = p->protocol;
	key->client_port = p->port;
	key->port = p->source_port;
	key->client = p->destination;
	key->guest = p->source;
}

static __always_inline int is_of_service(const struct session *session, const struct address *a,
					 __u16 port)
{
	return session->port == port && same_address(&session->address, a);
}

/* Whether another use of the same client port, which the guest cannot tell from this session,
 * takes its place. Datagrams know no end: the latest use counts.
 */
static __always_inline int yields(const struct session *session, const struct packet *p)
{
	return session->state == FLOW_UDP || (session->state == FLOW_CLOSING && opens(p));
}

/* The client's packet of a session. */
static __always_inline void follow_client(struct session *session, const struct packet *p)
{
	session->seen = bpf_jiffies64();
	session->state = session->state == FLOW_CLOSING && opens(p) ?
				 FLOW_OPENING :
				 next_state(session->state, p);
}

/* Remember a packet from the client, whose session may be `known`. Without one the answer would
 * leave with the guest's own address, so the packet is refused when it cannot have one: the client
 * tries again, and the guest knows nothing of it. Returns the event to count then, else -1.
 */
static __always_inline int remember(struct session *known, const struct session_key *key,
				    const struct packet *p, __u32 member, __u32 mode)
{
	struct session fresh = {};

	if (known && is_of_service(known, &p->destination, p->port)) {
		follow_client(known, p);
		return -1;
	}
	if (known && !yields(known, p))
		return EVENT_SESSION_CLASH;
	fresh.seen = bpf_jiffies64();
	fresh.address = p->destination;
	fresh.port = p->port;
	fresh.member = member;
	fresh.mode = mode;
	fresh.state = next_state(first_state(p), p);
	return bpf_map_update_elem(&sessions, key, &fresh, BPF_ANY) ? EVENT_TABLE_FULL : -1;
}

/* The guest's packet of a session. Its SYN says nothing of the client's (L11). */
static __always_inline void follow_guest(struct session *session, const struct packet *p)
{
	session->seen = bpf_jiffies64();
	if (!(p->tcp_flags & TCP_SYN))
		session->state = next_state(session->state, p);
}

/* As the first part went; what comes before that waits for it. */
static __always_inline int later_part_to_guest(struct __sk_buff *skb, const struct packet *p)
{
	struct fragmented *known = fate_or_hold(skb, p);
	struct address own;

	if (!known)
		return TC_ACT_SHOT;
	if (known->fate != PARTS_GO)
		return known->fate == PARTS_PASS ? NOT_OURS : drop_for(EVENT_FRAGMENT);
	own = known->address;
	if (write_address(skb, p->version, ETH_HLEN, DESTINATION, &p->destination, &own))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* Here the datagram may be the guest's own, too. */
static __always_inline int later_part_from_guest(struct __sk_buff *skb, const struct packet *p)
{
	struct fragmented *known = fate_or_hold(skb, p);
	struct address pools;

	if (!known)
		return TC_ACT_SHOT;
	if (known->fate != PARTS_GO)
		return NOT_OURS;
	pools = known->address;
	count_answer(skb, p, known->member);
	if (write_address(skb, p->version, ETH_HLEN, SOURCE, &p->source, &pools))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* To the guest's own address. A new use of a client's port ends the session that had it, else its
 * answers would be taken for those of the session.
 */
static __always_inline int direct_to_guest(struct __sk_buff *skb, struct packet *p)
{
	struct end guest = {.address = p->destination};
	struct session_key key = {};
	struct session *session;

	if (load_ports(skb, p) || (p->protocol == IPPROTO_TCP && !opens(p)))
		return NOT_OURS;
	guest.port = p->port;
	session_key_to(&key, skb->ifindex, p, &guest);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return NOT_OURS;
	if (!yields(session, p))
		return drop_for(EVENT_SESSION_CLASH);
	bpf_map_delete_elem(&sessions, &key);
	return NOT_OURS;
}

/* Whether a packet for the pool's address is not translated, and the guest, which has the address
 * then, gets it as it is: it begins a connection while the mode is another, or belongs to one that
 * began in another mode and so has no session (L2). Of datagrams the latter cannot be told.
 */
static __always_inline int goes_as_it_is(const struct session *known,
					 const struct session_key *key, const struct packet *p,
					 const struct member *member)
{
	int ends = known && known->state == FLOW_CLOSING && opens(p);

	if (known && !ends && is_of_service(known, &p->destination, p->port))
		return 0;
	if (member->mode == MODE_EDGE_NAT)
		return holds_address(member) && p->protocol == IPPROTO_TCP && !known && !opens(p);
	if (ends)
		bpf_map_delete_elem(&sessions, key);
	return 1;
}

static __always_inline int pass_to_guest(struct __sk_buff *skb, const struct packet *p)
{
	int waiting = p->kind == KIND_FIRST_PART ? settle(skb, p, &p->destination, 0, PASSED) : 0;

	return waiting ? release_parts(skb, p, waiting, 0) : NOT_OURS;
}

static __always_inline int segment_to_guest(struct __sk_buff *skb, struct packet *p, __u32 number,
					    const struct member *member)
{
	struct end pools = {.address = p->destination}, guest = {.address = member->own};
	struct session_key key = {};
	struct session *known;
	int refusal, waiting = 0;

	if (load_ports(skb, p))
		return NOT_OURS;
	pools.port = p->port;
	guest.port = member->port ? member->port : p->port;
	session_key_to(&key, skb->ifindex, p, &guest);
	known = bpf_map_lookup_elem(&sessions, &key);
	if (goes_as_it_is(known, &key, p, member))
		return pass_to_guest(skb, p);
	refusal = remember(known, &key, p, number, MODE_EDGE_NAT);
	if (p->kind == KIND_FIRST_PART)
		waiting = settle(skb, p, &guest.address, 0,
				 refusal >= 0 ? REFUSED : (int)number);
	if (refusal >= 0)
		return drop_for(refusal);
	if (waiting)
		return release_parts(skb, p, waiting, 0);
	if (write_end(skb, p, DESTINATION, &pools, &guest))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* What is not of a session is the guest's own, in parts or not. */
static __always_inline int pass_from_guest(struct __sk_buff *skb, const struct packet *p)
{
	int waiting = p->kind == KIND_FIRST_PART ? settle(skb, p, &p->source, 0, PASSED) : 0;

	return waiting ? release_parts(skb, p, waiting, BPF_F_INGRESS) : NOT_OURS;
}

static __always_inline int segment_from_guest(struct __sk_buff *skb, const struct port *port,
					      struct packet *p)
{
	struct end guest = {.address = p->source}, pools = {};
	struct session_key key = {};
	struct session *session;
	__u32 member;
	int waiting = 0;

	if (load_ports(skb, p))
		return pass_from_guest(skb, p);
	session_key_from(&key, skb->ifindex, p);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return is_carrying() ? TC_ACT_SHOT : pass_from_guest(skb, p);
	guest.port = p->source_port;
	pools.address = session->address;
	pools.port = session->port;
	member = session->member;
	follow_guest(session, p);
	watch_session(port, p, session);
	if (p->kind == KIND_FIRST_PART)
		waiting = settle(skb, p, &pools.address, 0, member);
	if (waiting)
		return release_parts(skb, p, waiting, BPF_F_INGRESS);
	count_answer(skb, p, member);
	if (write_end(skb, p, SOURCE, &guest, &pools))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* About what the guest sent in a session: it is to find its own address in it (L12). */
static __always_inline int error_to_guest(struct __sk_buff *skb, const struct packet *p,
					  const struct member *member)
{
	struct end pools = {.address = p->destination}, guest = {.address = member->own};
	__u32 ip = p->l4 + 8;
	struct packet quoted = {};
	struct session_key key = {};
	struct session *session;

	if (parse_quoted(skb, p, &quoted, ip) || !same_address(&quoted.source, &p->destination))
		return NOT_OURS;
	pools.port = quoted.source_port;
	guest.port = member->port ? member->port : quoted.source_port;
	quoted.source = guest.address;
	quoted.source_port = guest.port;
	session_key_from(&key, skb->ifindex, &quoted);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session || !is_of_service(session, &pools.address, pools.port))
		return NOT_OURS;
	if (write_quoted_end(skb, p, &quoted, ip, SOURCE, &pools, &guest))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* About what the client sent in a session: it is to find the pool's address in it. */
static __always_inline int error_from_guest(struct __sk_buff *skb, const struct packet *p)
{
	struct end guest = {.address = p->source}, pools = {};
	__u32 ip = p->l4 + 8;
	struct packet quoted = {};
	struct session_key key = {};
	struct session *session;

	if (parse_quoted(skb, p, &quoted, ip) || !same_address(&quoted.destination, &p->source))
		return NOT_OURS;
	guest.port = quoted.port;
	session_key_to(&key, skb->ifindex, &quoted, &guest);
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return NOT_OURS;
	pools.address = session->address;
	pools.port = session->port;
	count_answer(skb, p, session->member);
	if (write_quoted_end(skb, p, &quoted, ip, DESTINATION, &guest, &pools))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

/* To the pool's address, or to the member's own. */
static __always_inline int nat_to_guest(struct __sk_buff *skb, struct packet *p, __u32 number,
					const struct member *member)
{
	if (!is_to(skb, member) || !is_of_family(&member->own, p->version) || part_of(skb, p))
		return NOT_OURS;
	if (same_address(&p->destination, &member->own))
		return p->kind == KIND_LATER_PART ? NOT_OURS : direct_to_guest(skb, p);
	if (p->kind == KIND_LATER_PART)
		return later_part_to_guest(skb, p);
	if (is_icmp(p))
		return error_to_guest(skb, p, member);
	return segment_to_guest(skb, p, number, member);
}

/* From the own address of a member. */
static __always_inline int nat_from_guest(struct __sk_buff *skb, const struct port *port,
					  struct packet *p)
{
	if (part_of(skb, p))
		return NOT_OURS;
	if (p->kind == KIND_LATER_PART)
		return later_part_from_guest(skb, p);
	if (!is_icmp(p))
		return segment_from_guest(skb, port, p);
	if (p->kind == KIND_FIRST_PART)
		return pass_from_guest(skb, p);
	return error_from_guest(skb, p);
}
