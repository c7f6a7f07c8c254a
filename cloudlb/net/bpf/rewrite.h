/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanging an end of a connection in a packet, with all checksums that cover it. Everything
 * is written by helpers: they pull what is not linear, and bpf_l4_csum_replace() knows packets
 * whose checksum is yet to be computed (CHECKSUM_PARTIAL: their field has the sum of the pseudo
 * header, so addresses change it and ports do not).
 */
#pragma once

#include "maps.h"
#include "parse.h"

/* A checksum of 0 says that there is none: it stays, and no other becomes 0 (RFC 768). */
#define ZERO_IS_NONE BPF_F_MARK_MANGLED_0

enum side { SOURCE, DESTINATION };

struct end {
	struct address address;
	__u16 port;
};

/* An address in the IP header at `ip`, and that header's own checksum. */
static __always_inline int write_address(struct __sk_buff *skb, __u32 version, __u32 ip,
					 enum side side, const struct address *from,
					 const struct address *to)
{
	if (version == 6)
		return bpf_skb_store_bytes(skb, ip + (side == SOURCE ? 8 : 24), to, 16, 0);
	return bpf_l3_csum_replace(skb, ip + 10, from->word[3], to->word[3], 4) ||
	       bpf_skb_store_bytes(skb, ip + (side == SOURCE ? 12 : 16), &to->word[3], 4, 0);
}

static __always_inline int write_port(struct __sk_buff *skb, __u32 l4, enum side side, __u16 port)
{
	return bpf_skb_store_bytes(skb, l4 + (side == SOURCE ? 0 : 2), &port, 2, 0);
}

/* The transport's or ICMP's checksum at `at` after an exchange of addresses: mapped IPv4 addresses
 * differ where the short ones do, so one way serves both families.
 */
static __always_inline int sum_address(struct __sk_buff *skb, __u32 at, const struct address *from,
				       const struct address *to, __u64 flags)
{
	__s64 difference = bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0);

	return bpf_l4_csum_replace(skb, at, 0, difference, flags);
}

/* An end of a TCP segment or a UDP datagram. */
static __always_inline int write_end(struct __sk_buff *skb, const struct packet *p, enum side side,
				     const struct end *from, const struct end *to)
{
	int is_udp = p->protocol == IPPROTO_UDP;
	__u32 at = p->l4 + (is_udp ? 6 : 16);
	__u64 flags = is_udp ? ZERO_IS_NONE : 0;

	return sum_address(skb, at, &from->address, &to->address, flags | BPF_F_PSEUDO_HDR) ||
	       bpf_l4_csum_replace(skb, at, from->port, to->port, flags | 2) ||
	       write_port(skb, p->l4, side, to->port) ||
	       write_address(skb, p->version, ETH_HLEN, side, &from->address, &to->address);
}
