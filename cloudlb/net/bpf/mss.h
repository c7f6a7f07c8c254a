/* SPDX-License-Identifier: Apache-2.0 */
/* The maximum segment size that a member asks of a client: what comes to it through a tunnel must
 * fit with the tunnel's header (RFC 9293, 3.7.1). Only ever lowered, and never added: without the
 * option segments are small (536 or 1220 octets).
 */
#pragma once

#include "maps.h"
#include "options.h"
#include "parse.h"
#include "tunnel.h"

/* A segment that a member sends from a pool's address. */
static __noinline int clamp_mss(struct __sk_buff *skb, const struct port *port,
				const struct member *member, const struct packet *p)
{
	struct options options = {
		.skb = skb,
		.tcp = p->l4,
		.at = p->l4 + sizeof(struct tcphdr),
		.limit = port->mtu - tunnel_overhead(member) - header_length(p->version) -
			 sizeof(struct tcphdr),
	};
	__u8 bytes[2]; /* data offset, flags */

	if (is_unspecified(&member->own) ||
	    bpf_skb_load_bytes(skb, p->l4 + 12, bytes, sizeof(bytes)) || !(bytes[1] & TCP_SYN))
		return 0;
	options.end = p->l4 + (bytes[0] >> 4) * 4;
	bpf_loop(MAX_OPTIONS, look_at_option, &options, 0);
	return 0;
}
