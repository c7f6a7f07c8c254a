/* SPDX-License-Identifier: Apache-2.0 */
/* Where packets leave the director for their member. */
#pragma once

#define AF_INET 2 /* linux/socket.h would pull in the C library's headers */
#define AF_INET6 10

#include "flow.h"
#include "maps.h"
#include "mate.h"
#include "parse.h"
#include "too_big.h"
#include "tunnel.h"

static __always_inline void count_to(__u32 number, __u32 packets, __u32 bytes)
{
	struct traffic *traffic_of = bpf_map_lookup_elem(&traffic, &number);

	if (traffic_of) {
		traffic_of->packets_in += packets;
		traffic_of->bytes_in += bytes;
	}
}

static __always_inline void count_in(struct __sk_buff *skb, const struct packet *p, __u32 number)
{
	count_to(number, packets_of(skb, p), skb->len);
}

static __always_inline int forward_in_tunnel(struct __sk_buff *skb, const struct port *port,
					     __u32 number, const struct member *member,
					     const struct packet *p)
{
	if (!has_tunnel(port, member))
		return drop_for(EVENT_NO_TUNNEL);
	if (too_big(skb, port, member, p))
		return tell_too_big(skb, port, member, p);
	count_in(skb, p, number);
	return wrap(skb, port, member, p);
}

static __always_inline int has_mac(const struct member *member)
{
	return !!(*(const __u32 *)member->mac | *(const __u16 *)(member->mac + 4));
}

/* A packet as it is to a server that is no guest of ours, by what the kernel knows or finds out of
 * its neighbour (L21).
 */
static __always_inline int forward_to_neighbour(struct __sk_buff *skb,
						const struct member *member, __u32 version)
{
	struct bpf_redir_neigh hop = {.nh_family = version == 4 ? AF_INET : AF_INET6};

	if (!is_of_family(&member->own, version))
		return drop_for(EVENT_NO_MEMBER);
	if (version == 4)
		hop.ipv4_nh = member->own.word[3];
	else
		__builtin_memcpy(hop.ipv6_nh, member->own.word, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(skb->ifindex, &hop, sizeof(hop), 0);
}

/* Both addresses: behind a learning bridge the source must be the forwarder's own. */
static __always_inline void address_to(struct ethhdr *eth, const struct member *member,
				       const struct port *port)
{
	copy_mac(eth->h_dest, member->mac);
	copy_mac(eth->h_source, port->mac);
}

/* To the member of a choice, by its mode. */
GLOBAL int forward(struct __sk_buff *skb, const struct port *port, const struct packet *p,
		   __u32 choice)
{
	__u32 number = NUMBER_OF(choice);
	struct member *member = bpf_map_lookup_elem(&members, &number);
	struct ethhdr *eth = (void *)(long)skb->data;

	if (!port || !p || !member || member->state == MEMBER_FREE)
		return drop_for(EVENT_NO_MEMBER);
	if (choice >> MODE_SHIFT == MODE_TUN)
		return forward_in_tunnel(skb, port, number, member, p);
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	count_in(skb, p, number);
	if (!has_mac(member))
		return forward_to_neighbour(skb, member, p->version);
	address_to(eth, member, port);
	return bpf_redirect(skb->ifindex, 0);
}
