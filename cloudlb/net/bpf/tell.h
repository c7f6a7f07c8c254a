/* SPDX-License-Identifier: Apache-2.0 */
/* With full NAT a member takes the director for its client. Where its pool asks for it, what the
 * client sends until the connection is established tells the member who that is: in a TCP option
 * of its port and address, in network order, with the kind and length that LVS' full NAT and DPVS
 * use, too (an experimental kind, RFC 4727). Sequence numbers are as they were (L19).
 */
#pragma once

#include "maps.h"
#include "parse.h"
#include "rewrite.h"

#define OPTION_CLIENT 254
#define LONGEST_TCP_HEADER 60

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

static __always_inline int write_option(struct __sk_buff *skb, const struct packet *p, __u32 at)
{
	struct client_option option = {.kind = OPTION_CLIENT,
				       .length = option_length(p),
				       .port = p->source_port};

	if (p->version == 4) {
		option.address[0] = p->source.word[3];
		return bpf_l4_csum_replace(skb, p->l4 + 16, 0,
					   bpf_csum_diff(0, 0, (__be32 *)&option, LENGTH_IPV4, 0),
					   0) ||
		       bpf_skb_store_bytes(skb, at, &option, LENGTH_IPV4, 0);
	}
	__builtin_memcpy(option.address, &p->source, sizeof(option.address));
	return bpf_l4_csum_replace(skb, p->l4 + 16, 0,
				   bpf_csum_diff(0, 0, (__be32 *)&option, LENGTH_IPV6, 0), 0) ||
	       bpf_skb_store_bytes(skb, at, &option, LENGTH_IPV6, 0);
}

/* Add the option behind the header's other ones, where nothing comes after these and there is room;
 * else the segment goes without. What an Ethernet card has padded a short frame with is cut off.
 */
GLOBAL int tell_client(struct __sk_buff *skb, const struct packet *p)
{
	__u32 header, end, longer;
	__u16 length, words, more;

	if (!p || bpf_skb_load_bytes(skb, p->l4 + 12, &words, 2) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + (p->version == 4 ? 2 : 4), &length, 2))
		return -1;
	header = (bpf_ntohs(words) >> 12) * 4;
	end = ETH_HLEN + (p->version == 4 ? 0 : 40) + bpf_ntohs(length);
	longer = option_length(p);
	if (p->l4 + header != end || header + longer > LONGEST_TCP_HEADER ||
	    bpf_skb_change_tail(skb, end + longer, 0)) {
		count_event(EVENT_CLIENT_UNTOLD);
		return 0;
	}
	more = bpf_htons(bpf_ntohs(words) + (longer << 10));
	return write_option(skb, p, end) || sum_word(skb, p, words, more, 0) ||
	       bpf_skb_store_bytes(skb, p->l4 + 12, &more, 2, 0) ||
	       sum_word(skb, p, bpf_htons(header), bpf_htons(header + longer), BPF_F_PSEUDO_HDR) ||
	       write_length(skb, p, length);
}
