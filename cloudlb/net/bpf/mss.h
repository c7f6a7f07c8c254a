/* SPDX-License-Identifier: Apache-2.0 */
/* The maximum segment size that a member asks of a client: what comes to it through a tunnel must
 * fit with the tunnel's header (RFC 9293, 3.7.1). Only ever lowered, and never added: without the
 * option segments are small (536 or 1220 octets).
 */
#pragma once

#include "maps.h"
#include "parse.h"
#include "tunnel.h"

#define MAX_OPTIONS 40 /* octets of TCP options, so at most that many options */
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2

struct options {
	struct __sk_buff *skb;
	__u32 tcp;
	__u32 at;
	__u32 end;
	__u32 limit;
};

/* In a checksum the octets of a word at an odd place have changed places. Where the checksum is
 * left to the device the helper leaves it alone.
 */
static __always_inline void lower_mss(const struct options *options)
{
	__u16 old, new = bpf_htons(options->limit);
	__u32 at = options->at + 2;

	if (bpf_skb_load_bytes(options->skb, at, &old, sizeof(old)) ||
	    bpf_ntohs(old) <= options->limit ||
	    bpf_skb_store_bytes(options->skb, at, &new, sizeof(new), 0))
		return;
	if ((at - options->tcp) & 1) {
		old = __builtin_bswap16(old);
		new = __builtin_bswap16(new);
	}
	bpf_l4_csum_replace(options->skb, options->tcp + 16, old, new, sizeof(new));
}

/* For bpf_loop: 1 ends it, at the end of the options or where they make no sense. */
static long look_at_option(__u32 index, struct options *options)
{
	__u8 option[2];

	if (options->at >= options->end || bpf_skb_load_bytes(options->skb, options->at, option, 1) ||
	    option[0] == OPTION_END)
		return 1;
	if (option[0] == OPTION_NOP) {
		options->at++;
		return 0;
	}
	if (bpf_skb_load_bytes(options->skb, options->at, option, sizeof(option)) ||
	    option[1] < 2 || options->at + option[1] > options->end)
		return 1;
	if (option[0] == OPTION_MSS && option[1] == 4)
		lower_mss(options);
	options->at += option[1];
	return 0;
}

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
