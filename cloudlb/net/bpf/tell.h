/* SPDX-License-Identifier: Apache-2.0 */
/* With full NAT a member takes the director for its client. Where its pool asks for it, what the
 * client sends until the connection is established tells the member who that is: in a TCP option
 * of its port and address, in network order, before all others, as LVS' full NAT and DPVS write it
 * (the kind is an experimental one, RFC 4727). Sequence numbers are as they were (L19).
 */
#pragma once

#include "maps.h"
#include "options.h"
#include "parse.h"
#include "rewrite.h"

#define TCP_HEADER 20 /* without options */

struct client_option {
	__u8 kind;
	__u8 length;
	__u16 port;
	__u32 address[4]; /* of IPv4 the first word only */
};

#define LENGTH_IPV4 8
#define LENGTH_IPV6 ((__u32)sizeof(struct client_option))

static __always_inline __u32 option_length(const struct packet *p)
{
	return p->version == 4 ? LENGTH_IPV4 : LENGTH_IPV6;
}

/* Two octets that the TCP checksum covers, in the header or, with BPF_F_PSEUDO_HDR, before it. */
static __always_inline int sum_word(struct __sk_buff *skb, const struct packet *p, __u16 from,
				    __u16 to, __u64 flags)
{
	return bpf_l4_csum_replace(skb, p->l4 + 16, from, to, flags | 2);
}

/* The IP header's length field becomes longer; `length` as it is in the packet. */
static __always_inline int write_length(struct __sk_buff *skb, const struct packet *p,
					__u16 length)
{
	__u16 longer = bpf_htons(bpf_ntohs(length) + option_length(p));

	if (p->version == 6)
		return bpf_skb_store_bytes(skb, ETH_HLEN + 4, &longer, 2, 0);
	return bpf_l3_csum_replace(skb, ETH_HLEN + 10, length, longer, 2) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN + 2, &longer, 2, 0);
}

static __always_inline int write_option(struct __sk_buff *skb, const struct packet *p)
{
	struct client_option option = {.kind = OPTION_CLIENT,
				       .length = option_length(p),
				       .port = p->source_port};

	if (p->version == 4) {
		option.address[0] = p->source.word[3];
		return bpf_l4_csum_replace(skb, p->l4 + 16, 0,
					   bpf_csum_diff(0, 0, (__be32 *)&option, LENGTH_IPV4, 0),
					   0) ||
		       bpf_skb_store_bytes(skb, p->l4 + TCP_HEADER, &option, LENGTH_IPV4, 0);
	}
	__builtin_memcpy(option.address, &p->source, sizeof(option.address));
	return bpf_l4_csum_replace(skb, p->l4 + 16, 0,
				   bpf_csum_diff(0, 0, (__be32 *)&option, LENGTH_IPV6, 0), 0) ||
	       bpf_skb_store_bytes(skb, p->l4 + TCP_HEADER, &option, LENGTH_IPV6, 0);
}

/* What a client itself says in such an option could be taken for ours: it is overwritten. Then all
 * options are written behind ours, or in their old place; where they stand says nothing to the
 * checksum.
 */
GLOBAL int move_options(struct __sk_buff *skb, const struct packet *p, __u32 length, __u32 by)
{
	__u8 before[ROOM_FOR_OPTIONS] = {}, after[ROOM_FOR_OPTIONS] = {};
	struct options walk = {.skb = skb};
	__s64 difference;

	if (!p || length > MAX_OPTIONS)
		return -1;
	if (!length)
		return 0;
	walk.at = p->l4 + TCP_HEADER;
	walk.end = walk.at + length;
	if (bpf_skb_load_bytes(skb, p->l4 + TCP_HEADER, before, some_octets(length)))
		return -1;
	bpf_loop(MAX_OPTIONS, look_at_option, &walk, 0);
	if (bpf_skb_load_bytes(skb, p->l4 + TCP_HEADER, after, some_octets(length)))
		return -1;
	difference = bpf_csum_diff((__be32 *)before, sizeof(before), (__be32 *)after,
				   sizeof(after), 0);
	return bpf_l4_csum_replace(skb, p->l4 + 16, 0, difference, 0) ||
	       bpf_skb_store_bytes(skb, p->l4 + TCP_HEADER + by, after, some_octets(length), 0);
}

/* Insert the option where nothing follows the header and there is room; else the segment goes
 * without. What an Ethernet card has padded a short frame with is cut off.
 */
GLOBAL int tell_client(struct __sk_buff *skb, const struct packet *p)
{
	__u32 header, known, end, longer;
	__u16 length, words, more;

	if (!p || bpf_skb_load_bytes(skb, p->l4 + 12, &words, 2) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + (p->version == 4 ? 2 : 4), &length, 2))
		return -1;
	header = (bpf_ntohs(words) >> 12) * 4;
	known = header - TCP_HEADER;
	end = ETH_HLEN + (p->version == 4 ? 0 : 40) + bpf_ntohs(length);
	longer = option_length(p);
	if (p->l4 + header != end || known + longer > MAX_OPTIONS ||
	    bpf_skb_change_tail(skb, end + longer, 0)) {
		count_event(EVENT_CLIENT_UNTOLD);
		return move_options(skb, p, known, 0);
	}
	more = bpf_htons(bpf_ntohs(words) + (longer << 10));
	return move_options(skb, p, known, longer) || write_option(skb, p) ||
	       sum_word(skb, p, words, more, 0) ||
	       bpf_skb_store_bytes(skb, p->l4 + 12, &more, 2, 0) ||
	       sum_word(skb, p, bpf_htons(header), bpf_htons(header + longer), BPF_F_PSEUDO_HDR) ||
	       write_length(skb, p, length);
}
