/* SPDX-License-Identifier: Apache-2.0 */
/* The director's own words for a pool's address: ARP, neighbour advertisements and echo replies.
 * They are said here and not by the kernel's stack, so that the address is on no interface: no
 * service of the host is reachable by it, and a dead agent leaves nothing half-configured.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define NA_SOLICITED_OVERRIDE bpf_htonl(0x60000000) /* RFC 4861, 4.4 */
#define NA_OVERRIDE bpf_htonl(0x20000000)
#define OPTION_TARGET_LINK_LAYER 2

static __always_inline int answers(__u32 network, const struct address *a)
{
	struct vip_key key = {.network = network, .address = *a};

	return !!bpf_map_lookup_elem(&vips, &key);
}

/* Whether ARP and ND for a pool's address are this host's to answer. A function of its own: the
 * stack of `director` has no room for its variables.
 */
static __noinline int announces(__u32 network, const struct address *a)
{
	struct vip_key key = {.network = network};
	struct pool *pool;
	__u32 *number;
	__u32 router;
	__u64 *until;

	if (!a)
		return 0;
	key.address = *a;
	number = bpf_map_lookup_elem(&vips, &key);
	pool = number ? bpf_map_lookup_elem(&pools, number) : 0;
	if (!pool)
		return 0;
	router = pool->router;
	if (!router)
		return 1;
	until = bpf_map_lookup_elem(&leases, &router);
	return until && *until > bpf_ktime_get_ns();
}

static __always_inline int send_back(struct __sk_buff *skb)
{
	count_event(EVENT_ANSWERED);
	return bpf_redirect(skb->ifindex, 0);
}

GLOBAL int answer_arp(struct __sk_buff *skb, const struct port *port)
{
	struct address target;
	struct arp_ipv4 *arp;
	struct ethhdr *eth;
	__u8 vip[4];

	if (!port || need(skb, ETH_HLEN + sizeof(*arp)))
		return NOT_OURS;
	eth = (void *)(long)skb->data;
	arp = (void *)(eth + 1);
	if ((void *)(arp + 1) > (void *)(long)skb->data_end)
		return NOT_OURS;
	if (arp->header.ar_op != bpf_htons(ARPOP_REQUEST) ||
	    arp->header.ar_hrd != bpf_htons(ARPHRD_ETHERNET) ||
	    arp->header.ar_pro != bpf_htons(ETH_P_IP))
		return NOT_OURS;
	__builtin_memcpy(vip, arp->target, 4);
	map_ipv4(&target, *(__u32 *)vip);
	if (!announces(port->network, &target))
		return NOT_OURS;
	if (!__builtin_memcmp(arp->sender, vip, 4))
		return TC_ACT_SHOT; /* somebody announces our address: say nothing, learn nothing */

	arp->header.ar_op = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, 6);
	__builtin_memcpy(arp->target, arp->sender, 4);
	__builtin_memcpy(arp->sender_mac, port->mac, 6);
	__builtin_memcpy(arp->sender, vip, 4);
	__builtin_memcpy(eth->h_dest, arp->target_mac, 6);
	__builtin_memcpy(eth->h_source, port->mac, 6);
	return send_back(skb);
}

struct advertisement {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct nd_message nd;
	__u8 option[8];
} __attribute__((packed));

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u16 nd_checksum(struct advertisement *na)
{
	__u32 tail[2] = {bpf_htonl(sizeof(na->nd) + sizeof(na->option)),
			 bpf_htonl(IPPROTO_ICMPV6)};
	__u32 buffer[16];
	__s64 sum;

	__builtin_memcpy(buffer, &na->ip.saddr, 32);
	__builtin_memcpy(buffer + 8, &na->nd, 32);
	sum = bpf_csum_diff(0, 0, buffer, sizeof(buffer), 0);
	sum = bpf_csum_diff(0, 0, tail, sizeof(tail), sum);
	return fold(sum);
}

/* Write the whole frame anew: whatever options the solicitation had do not matter. */
GLOBAL int answer_nd(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	static const __u8 all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
	struct advertisement na = {};
	struct address target;
	struct nd_message *ns;
	struct ethhdr *eth;
	int probing; /* duplicate address detection */

	if (!port || !p || p->icmp_type != 135 || p->hop_limit != 255 ||
	    need(skb, p->l4 + sizeof(*ns)))
		return NOT_OURS;
	eth = (void *)(long)skb->data;
	ns = (void *)(long)skb->data + ETH_HLEN + sizeof(struct ipv6hdr);
	if ((void *)(ns + 1) > (void *)(long)skb->data_end)
		return NOT_OURS;
	target = ns->target;
	probing = is_unspecified(&p->source);
	if (!announces(port->network, &target))
		return NOT_OURS;

	__builtin_memcpy(na.eth.h_dest, probing ? all_nodes_mac : eth->h_source, 6);
	__builtin_memcpy(na.eth.h_source, port->mac, 6);
	na.eth.h_proto = bpf_htons(ETH_P_IPV6);
	na.ip.version = 6;
	na.ip.payload_len = bpf_htons(sizeof(na.nd) + sizeof(na.option));
	na.ip.nexthdr = IPPROTO_ICMPV6;
	na.ip.hop_limit = 255;
	__builtin_memcpy(&na.nd.target, &target, 16);
	__builtin_memcpy(&na.ip.saddr, &target, 16);
	if (probing) {
		na.ip.daddr.s6_addr32[0] = bpf_htonl(0xff020000);
		na.ip.daddr.s6_addr32[3] = bpf_htonl(1);
	} else {
		__builtin_memcpy(&na.ip.daddr, &p->source, 16);
	}
	na.nd.type = 136;
	na.nd.flags = probing ? NA_OVERRIDE : NA_SOLICITED_OVERRIDE;
	na.option[0] = OPTION_TARGET_LINK_LAYER;
	na.option[1] = 1;
	__builtin_memcpy(na.option + 2, port->mac, 6);
	na.nd.checksum = nd_checksum(&na);

	if (bpf_skb_change_tail(skb, sizeof(na), 0) ||
	    bpf_skb_store_bytes(skb, 0, &na, sizeof(na), BPF_F_RECOMPUTE_CSUM))
		return TC_ACT_SHOT;
	return send_back(skb);
}

/* The TTL is our own, so that a traceroute by echo requests ends here (RFC 1122, 3.2.1.7). */
static __always_inline int write_ttl(struct __sk_buff *skb, const struct packet *p)
{
	__u32 at = p->version == 4 ? ETH_HLEN + 8 : ETH_HLEN + 7;
	__u8 ttl = 64;
	__u16 old = bpf_htons(p->hop_limit << 8), new = bpf_htons(ttl << 8);

	if (p->version == 4 && bpf_l3_csum_replace(skb, ETH_HLEN + 10, old, new, 2))
		return -1;
	return bpf_skb_store_bytes(skb, at, &ttl, 1, 0);
}

/* Swapping addresses leaves every checksum but the type's share as it was. */
GLOBAL int answer_echo(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	__u16 old, new;
	__u8 type;
	struct ethhdr eth = {};

	if (!port || !p || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return TC_ACT_SHOT;
	type = p->version == 4 ? 0 : 129;
	old = bpf_htons(p->icmp_type << 8);
	new = bpf_htons(type << 8);
	__builtin_memcpy(eth.h_dest, eth.h_source, 6);
	__builtin_memcpy(eth.h_source, port->mac, 6);
	if (bpf_l4_csum_replace(skb, p->l4 + 2, old, new, 2) ||
	    bpf_skb_store_bytes(skb, p->l4, &type, 1, 0) || write_ttl(skb, p) ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0))
		return TC_ACT_SHOT;
	if (p->version == 4) {
		__u32 pair[2] = {p->destination.word[3], p->source.word[3]};

		if (bpf_skb_store_bytes(skb, ETH_HLEN + 12, pair, sizeof(pair), 0))
			return TC_ACT_SHOT;
	} else {
		struct address pair[2] = {p->destination, p->source};

		if (bpf_skb_store_bytes(skb, ETH_HLEN + 8, pair, sizeof(pair), 0))
			return TC_ACT_SHOT;
	}
	return send_back(skb);
}
