/* SPDX-License-Identifier: Apache-2.0 */
/* The guard at a guest's tap: guests may hold the address of a pool, and nothing they say about
 * it is heard. What a guest must ask to reach others (ARP requests and neighbour solicitations
 * that name such an address as sender) is asked in the name of its own address instead: dropped
 * questions would leave it without a next hop (measured: 3 of 3 connections stalled). All pools
 * of the network count, on every host, so that a guest which holds an address before it becomes
 * a member, or after it was one, is as silent as a member.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define VLAN_ID 0x0fff
#define PSEUDO_HEADER BPF_F_PSEUDO_HDR

static __always_inline int guarded(__u32 network, const struct address *a)
{
	struct vip_key key = {.network = network, .address = *a};

	return !!bpf_map_lookup_elem(&guards, &key);
}

static __always_inline __u32 *delivered(__u32 ifindex, const struct address *a)
{
	struct delivery_key key = {.ifindex = ifindex, .address = *a};

	return bpf_map_lookup_elem(&deliveries, &key);
}

/* Whether the guest behind a tap is to hold the address; with NAT it is not. */
static __always_inline int holds(__u32 ifindex, const struct address *a)
{
	__u32 *number = delivered(ifindex, a);
	struct member *member = number ? bpf_map_lookup_elem(&members, number) : 0;

	return member && 1 << member->mode & HELD_BY_GUESTS;
}

static __always_inline int guard_drop(void)
{
	count_event(EVENT_GUARD_DROP);
	return TC_ACT_SHOT;
}

/* Whether something in a guest's frame stands behind a priority tag (VLAN 0) that is not its first
 * tag. The kernel takes the first one off before our programs run, and receivers take both off: a
 * claim behind two tags would be heard by all but the guard. Nobody sends such frames honestly.
 */
static __always_inline int hides_behind_tags(struct __sk_buff *skb)
{
	__u16 tag;

	if (skb->protocol != bpf_htons(ETH_P_8021Q) && skb->protocol != bpf_htons(ETH_P_8021AD))
		return 0;
	return !bpf_skb_load_bytes(skb, ETH_HLEN, &tag, sizeof(tag)) &&
	       !(tag & bpf_htons(VLAN_ID));
}

struct search {
	struct sighting seen;
	struct learned_key chosen;
	__u64 oldest;
};

/* For bpf_loop (Linux 5.17): unrolled, the verifier would walk every way through all places. */
static long look_at_place(__u32 place, struct search *search)
{
	struct learned_key key = {.ifindex = search->chosen.ifindex, .place = place};
	struct sighting *known = bpf_map_lookup_elem(&learned, &key);

	if (!known || same_address(&known->address, &search->seen.address)) {
		search->chosen.place = place;
		return 1;
	}
	if (known->at < search->oldest) {
		search->oldest = known->at;
		search->chosen.place = place;
	}
	return 0;
}

/* In the place that the address has, else in a free one, else instead of the address that was
 * not seen for the longest time. Two CPUs at once may give an address two places; the reader
 * takes the later.
 */
static __always_inline void learn(__u32 ifindex, const struct address *a)
{
	struct search search = {.seen = {.address = *a, .at = bpf_ktime_get_ns()},
				.chosen = {.ifindex = ifindex},
				.oldest = ~0ULL};

	bpf_loop(LEARNED_PER_PORT, look_at_place, &search, 0);
	bpf_map_update_elem(&learned, &search.chosen, &search.seen, BPF_ANY);
}

static __always_inline int load_arp(struct __sk_buff *skb, struct arp_ipv4 *arp)
{
	return bpf_skb_load_bytes(skb, ETH_HLEN, arp, sizeof(*arp)) ||
	       arp->header.ar_pro != bpf_htons(ETH_P_IP) || arp->header.ar_pln != 4;
}

static __always_inline int guard_arp_from_guest(struct __sk_buff *skb, struct port *port)
{
	struct address sender, target;
	__u32 sender_ipv4, target_ipv4;
	struct arp_ipv4 arp;

	if (load_arp(skb, &arp))
		return NOT_OURS;
	__builtin_memcpy(&sender_ipv4, arp.sender, 4);
	__builtin_memcpy(&target_ipv4, arp.target, 4);
	map_ipv4(&sender, sender_ipv4);
	map_ipv4(&target, target_ipv4);
	if (!guarded(port->network, &sender)) {
		if (!sender_ipv4) /* RFC 5227 probe: the director would defend the address */
			return guarded(port->network, &target) ? guard_drop() : NOT_OURS;
		if (port->own_ipv4 != sender_ipv4)
			port->own_ipv4 = sender_ipv4;
		learn(skb->ifindex, &sender);
		return NOT_OURS;
	}
	if (arp.header.ar_op != bpf_htons(ARPOP_REQUEST) || sender_ipv4 == target_ipv4)
		return guard_drop();
	/* Without an own address yet the request goes out as a probe; its answer serves as well. So
	 * it does where what was learned has become a pool's address since.
	 */
	sender_ipv4 = port->own_ipv4;
	map_ipv4(&sender, sender_ipv4);
	if (guarded(port->network, &sender))
		sender_ipv4 = 0;
	if (bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct arp_ipv4, sender),
				&sender_ipv4, 4, 0))
		return guard_drop();
	count_event(EVENT_GUARD_REWRITE);
	return NOT_OURS;
}

/* The guest's link-local address: as learned, else made of its Ethernet address. */
static __always_inline void own_link_local(struct __sk_buff *skb, struct port *port,
					   struct address *own)
{
	__u8 mac[6] = {};
	__u8 *octet = (__u8 *)own;

	*own = port->own_link_local;
	if (!is_unspecified(own))
		return;
	bpf_skb_load_bytes(skb, 6, mac, 6);
	own->word[0] = bpf_htonl(0xfe800000);
	own->word[1] = 0;
	octet[8] = mac[0] ^ 2;
	octet[9] = mac[1];
	octet[10] = mac[2];
	octet[11] = 0xff;
	octet[12] = 0xfe;
	octet[13] = mac[3];
	octet[14] = mac[4];
	octet[15] = mac[5];
}

static __always_inline int rewrite_nd_source(struct __sk_buff *skb, struct port *port,
					     struct packet *p)
{
	struct address own;
	__s64 difference;

	own_link_local(skb, port, &own);
	difference = bpf_csum_diff((__be32 *)&p->source, 16, (__be32 *)&own, 16, 0);
	if (bpf_skb_store_bytes(skb, ETH_HLEN + 8, &own, 16, 0) ||
	    bpf_l4_csum_replace(skb, p->l4 + 2, 0, difference, PSEUDO_HEADER))
		return guard_drop();
	count_event(EVENT_GUARD_REWRITE);
	return NOT_OURS;
}

static __always_inline void learn_nd(struct __sk_buff *skb, struct port *port, struct packet *p,
				     struct address *target)
{
	struct address *own = &p->source;

	if (is_unspecified(own)) {
		if (p->icmp_type != 135)
			return;
		own = target; /* duplicate address detection: about to be its own */
	}
	if (is_link_local(own) && !same_address(own, &port->own_link_local))
		port->own_link_local = *own;
	learn(skb->ifindex, own);
}

static __always_inline int guard_nd_from_guest(struct __sk_buff *skb, struct port *port,
					       struct packet *p)
{
	int solicitation = p->icmp_type == 135, advertisement = p->icmp_type == 136;
	int claims = guarded(port->network, &p->source);
	struct nd_message nd = {};
	int about_vip = 0;

	if (solicitation || advertisement) {
		if (bpf_skb_load_bytes(skb, p->l4, &nd, sizeof(nd)))
			return NOT_OURS;
		about_vip = guarded(port->network, &nd.target);
	}
	if (about_vip && (advertisement || claims || is_unspecified(&p->source)))
		return guard_drop();
	if (!claims) {
		if (!about_vip)
			learn_nd(skb, port, p, &nd.target);
		return NOT_OURS;
	}
	if (p->icmp_type == 134 || p->icmp_type == 137) /* router advertisement, redirect */
		return guard_drop();
	return rewrite_nd_source(skb, port, p);
}

static __always_inline int guard_arp_to_guest(struct __sk_buff *skb, struct port *port)
{
	struct address sender, target;
	struct arp_ipv4 arp;
	__u32 ipv4;

	if (load_arp(skb, &arp))
		return NOT_OURS;
	__builtin_memcpy(&ipv4, arp.target, 4);
	map_ipv4(&target, ipv4);
	__builtin_memcpy(&ipv4, arp.sender, 4);
	map_ipv4(&sender, ipv4);
	if (holds(skb->ifindex, &sender))
		return guard_drop();
	if (same_address(&sender, &target)) /* an announcement; guests may have it as next hop */
		return NOT_OURS;
	if (arp.header.ar_op == bpf_htons(ARPOP_REQUEST) && guarded(port->network, &target))
		return guard_drop();
	return NOT_OURS;
}

static __always_inline int guard_nd_to_guest(struct __sk_buff *skb, struct port *port,
					     struct packet *p)
{
	struct nd_message nd = {};

	if (p->icmp_type != 135 && p->icmp_type != 136)
		return NOT_OURS;
	if (bpf_skb_load_bytes(skb, p->l4, &nd, sizeof(nd)))
		return NOT_OURS;
	if (p->icmp_type == 135 && guarded(port->network, &nd.target))
		return guard_drop();
	if (p->icmp_type == 136 && holds(skb->ifindex, &nd.target))
		return guard_drop();
	return NOT_OURS;
}
