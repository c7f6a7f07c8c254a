/* SPDX-License-Identifier: Apache-2.0 */
/* Members that packets reach inside other packets: the director wraps them in IPv4 or IPv6 to
 * the member's own address (RFC 2003, RFC 2473, RFC 4213), the tap takes the outer header off.
 */
#pragma once

#include "answer.h"
#include "guard.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"

#define TUNNEL_HOPS 64
#define IPV4_DF 0x4000
#define ECN 3 /* RFC 3168, section 5 */
#define ECT_1 1
#define ECT_0 2
#define ECN_CE 3

/* What of an IP header, of either family, matters to the header around it. */
struct inner {
	struct address destination;
	__u32 length; /* header included */
	__u8 version;
	__u8 protocol;
	__u8 tos; /* or traffic class */
	__u8 dont_fragment;
};

static __always_inline __u32 header_length(int version)
{
	return version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* What the header to a member's own address adds to a packet. */
static __always_inline __u32 tunnel_overhead(const struct member *member)
{
	return header_length(is_ipv4(&member->own) ? 4 : 6);
}

static __always_inline int load_inner4(struct __sk_buff *skb, __u32 at, struct inner *inner)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4)
		return -1;
	map_ipv4(&inner->destination, ip.daddr);
	inner->length = bpf_ntohs(ip.tot_len);
	inner->version = 4;
	inner->protocol = ip.protocol;
	inner->tos = ip.tos;
	inner->dont_fragment = !!(ip.frag_off & bpf_htons(IPV4_DF));
	return 0;
}

static __always_inline int load_inner6(struct __sk_buff *skb, __u32 at, struct inner *inner)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return -1;
	__builtin_memcpy(&inner->destination, &ip.daddr, 16);
	inner->length = bpf_ntohs(ip.payload_len) + sizeof(ip);
	inner->version = 6;
	inner->protocol = ip.nexthdr;
	inner->tos = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	inner->dont_fragment = 1;
	return 0;
}

static __always_inline int load_inner(struct __sk_buff *skb, __u32 at, int version,
				      struct inner *inner)
{
	return version == 4 ? load_inner4(skb, at, inner) : load_inner6(skb, at, inner);
}

/* The length of a wrapped packet. The fields of a GSO packet are written anew when it is cut; where
 * it has outgrown them they say no more than that they are full.
 */
static __always_inline __u32 wrapped_length(struct __sk_buff *skb, const struct inner *inner,
					    __u32 header)
{
	__u32 length = skb->gso_size ? skb->len - ETH_HLEN : inner->length + header;

	return length > 0xffff ? 0xffff : length;
}

static __always_inline int write_outer4(struct __sk_buff *skb, const struct port *port,
					const struct member *member, const struct inner *inner)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tos = inner->tos,
		.tot_len = bpf_htons(wrapped_length(skb, inner, sizeof(ip))),
		.frag_off = inner->dont_fragment ? bpf_htons(IPV4_DF) : 0,
		.ttl = TUNNEL_HOPS,
		.protocol = inner->version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6,
		.saddr = port->host_ipv4,
		.daddr = member->own.word[3],
	};

	/* RFC 6864: a packet that must not be fragmented needs no identification. */
	if (!inner->dont_fragment)
		ip.id = bpf_get_prandom_u32();
	ip.check = fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int write_outer6(struct __sk_buff *skb, const struct port *port,
					const struct member *member, const struct inner *inner,
					__u32 label)
{
	__u32 first = 6U << 28 | (__u32)inner->tos << 20 | (label & 0xfffff);
	struct ipv6hdr ip = {
		.payload_len = bpf_htons(wrapped_length(skb, inner, sizeof(ip)) - sizeof(ip)),
		.nexthdr = inner->version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6,
		.hop_limit = TUNNEL_HOPS,
	};

	*(__be32 *)&ip = bpf_htonl(first);
	__builtin_memcpy(&ip.saddr, &port->host_ipv6, 16);
	__builtin_memcpy(&ip.daddr, &member->own, 16);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* Whether the director has an address to send from and the member one to send to. */
static __always_inline int has_tunnel(const struct port *port, const struct member *member)
{
	if (is_ipv4(&member->own))
		return !!port->host_ipv4;
	return !is_unspecified(&member->own) && !is_unspecified(&port->host_ipv6);
}

/* TCP's segments become shorter by the new header, datagrams must stay what they are. */
static __always_inline int make_room(struct __sk_buff *skb, int outer, __u32 protocol)
{
	__u64 flags = outer == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	__u16 type = bpf_htons(outer == 4 ? ETH_P_IP : ETH_P_IPV6);

	if (protocol == IPPROTO_UDP)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	return bpf_skb_adjust_room(skb, header_length(outer), BPF_ADJ_ROOM_MAC, flags) ||
	       bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &type,
				   sizeof(type), 0);
}

/* The host's routes and neighbours lead to the member, which may be behind a router; a packet to
 * a neighbour that is not known yet waits for it in the kernel's queue.
 */
static __noinline int wrap(struct __sk_buff *skb, const struct port *port,
			   const struct member *member, const struct packet *p)
{
	int outer = is_ipv4(&member->own) ? 4 : 6, failed;
	struct inner inner = {};

	if (load_inner(skb, ETH_HLEN, p->version, &inner) || make_room(skb, outer, p->protocol))
		failed = 1;
	else if (outer == 4)
		failed = write_outer4(skb, port, member, &inner);
	else
		failed = write_outer6(skb, port, member, &inner,
				      hash_connection(p, member->pool));
	if (!failed)
		return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
	count_event(EVENT_NO_TUNNEL);
	return TC_ACT_SHOT;
}

static __always_inline int is_tunnel(const struct packet *p)
{
	return p->version && (p->protocol == IPPROTO_IPIP || p->protocol == IPPROTO_IPV6);
}

/* What a director sends through a tunnel. Neighbour discovery trusts the hop limit, which says
 * nothing of where the outer packet came from; in parts nobody takes it (RFC 6980).
 */
static __always_inline int may_be_inside(struct __sk_buff *skb, __u32 at,
					 const struct inner *inner)
{
	__u8 type;

	if (inner->protocol == IPPROTO_TCP || inner->protocol == IPPROTO_UDP)
		return 1;
	if (inner->version == 4)
		return inner->protocol == IPPROTO_ICMP;
	if (inner->protocol == IPPROTO_FRAGMENT)
		return 1;
	if (inner->protocol != IPPROTO_ICMPV6 ||
	    bpf_skb_load_bytes(skb, at + sizeof(struct ipv6hdr), &type, 1))
		return 0;
	return type < 133 || type > 137;
}

/* The ECN field of a packet that leaves a tunnel (RFC 6040, section 4.2); -1: to be dropped. */
static __always_inline int ecn_outside(__u8 outer, __u8 inner)
{
	outer &= ECN;
	inner &= ECN;
	if (outer == ECN_CE)
		return inner ? ECN_CE : -1;
	return outer == ECT_1 && inner == ECT_0 ? ECT_1 : inner;
}

static __always_inline int write_ecn(struct __sk_buff *skb, const struct inner *inner, __u8 ecn)
{
	__u8 tos = (inner->tos & ~ECN) | ecn, byte;

	if (tos == inner->tos)
		return 0;
	if (inner->version == 4)
		return bpf_l3_csum_replace(skb, ETH_HLEN + 10, bpf_htons(inner->tos),
					   bpf_htons(tos), 2) ||
		       bpf_skb_store_bytes(skb, ETH_HLEN + 1, &tos, 1, 0);
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 1, &byte, 1))
		return -1;
	byte = (byte & 0xf) | tos << 4;
	return bpf_skb_store_bytes(skb, ETH_HLEN + 1, &byte, 1, BPF_F_RECOMPUTE_CSUM);
}

/* Linux 6.1 has no BPF_F_ADJ_ROOM_DECAP_L3 (6.3 has it): where the families differ, the outer
 * header is first exchanged for one of the inner family, which tells the kernel the packet's new
 * protocol, and that one is removed. Segments keep the size in which they travelled.
 */
static __always_inline int take_off(struct __sk_buff *skb, int outer, int inner)
{
	__u16 type = bpf_htons(inner == 4 ? ETH_P_IP : ETH_P_IPV6);
	__s32 length = header_length(inner);

	if (outer != inner && bpf_skb_change_proto(skb, type, 0))
		return -1;
	return bpf_skb_adjust_room(skb, -length, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	       bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &type,
				   sizeof(type), 0);
}

/* A packet to a pool's address inside one to the own address of the pool's member behind this
 * tap. All else is the guest's own business.
 */
static __noinline int unwrap(struct __sk_buff *skb, const struct packet *p)
{
	int version = p->protocol == IPPROTO_IPIP ? 4 : 6, ecn;
	__u32 at = ETH_HLEN + header_length(p->version), *number;
	struct inner inner = {}, outer = {};
	struct member *member;

	if (p->kind == KIND_FRAGMENT || p->l4 != at || load_inner(skb, at, version, &inner))
		return NOT_OURS;
	number = delivered(skb->ifindex, &inner.destination);
	member = number ? bpf_map_lookup_elem(&members, number) : 0;
	if (!member || !serves_by(member, MODE_TUN) || !same_address(&member->own, &p->destination) ||
	    !may_be_inside(skb, at, &inner) || load_inner(skb, ETH_HLEN, p->version, &outer))
		return NOT_OURS;
	ecn = ecn_outside(outer.tos, inner.tos);
	if (ecn < 0 || take_off(skb, p->version, version) || write_ecn(skb, &inner, ecn)) {
		count_event(EVENT_NO_TUNNEL);
		return TC_ACT_SHOT;
	}
	return NOT_OURS;
}
