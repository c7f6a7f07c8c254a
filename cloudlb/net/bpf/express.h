/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a known connection's packet past the kernel's stack: on a physical interface, before
 * there is an skb. It does what `director` does with the same packet, by the same functions, and
 * leaves to it whatever asks for more.
 */
#pragma once

#include "connect.h"
#include "flow.h"
#include "forward.h"
#include "maps.h"
#include "mate.h"
#include "parse.h"

/* Whether the connection's packets get no more than another Ethernet address, and this one is
 * nothing that may begin another connection or belong to another director.
 */
static __always_inline int is_plain(const struct flow *flow, const struct packet *p)
{
	if (flow->mode != MODE_DR && flow->mode != MODE_EDGE_NAT)
		return 0;
	return !opens(p) && !(flow->told && flow->state == FLOW_CLOSING);
}

static __always_inline int take_express(void *data, void *end, const struct port *port)
{
	struct ethhdr *eth = data;
	struct packet p = {};
	struct flow_key key;
	struct member *member;
	struct flow *flow;
	__u32 number;

	if ((void *)(eth + 1) > end || !same_mac(eth->h_dest, port->mac))
		return XDP_PASS;
	if (parse_frame(data, end, &p))
		return XDP_PASS;
	flow_key_of(&key, port->network, &p);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !is_plain(flow, &p))
		return XDP_PASS;
	number = flow->member;
	member = bpf_map_lookup_elem(&members, &number);
	/* one that was removed has no address either */
	if (!member || !has_mac(member) || is_given_up(flow, member))
		return XDP_PASS;
	follow(flow, &key, &p);
	count_to(number, 1, end - data);
	address_to(eth, member, port);
	return XDP_TX;
}
