/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors and the packets that they quote. */
#pragma once

#include "fragment.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"

/* The other direction of a connection's packet. */
static __always_inline void turn_round(struct packet *p)
{
	struct address source = p->source;
	__u16 port = p->source_port;

	p->source = p->destination;
	p->source_port = p->port;
	p->destination = source;
	p->port = port;
}

/* Of a quoted datagram in parts the first one has ports. */
static __always_inline int skip_quoted_fragment(struct __sk_buff *skb, struct packet *quoted)
{
	struct ipv6_fragment head;

	if (quoted->protocol != IPPROTO_FRAGMENT)
		return 0;
	if (bpf_skb_load_bytes(skb, quoted->l4, &head, sizeof(head)) ||
	    head.offset & bpf_htons(0xfff8))
		return -1;
	quoted->protocol = head.next;
	quoted->l4 += sizeof(head);
	return 0;
}

/* What an ICMP error quotes, from `ip` on. -1: no error, or of a packet without ports. */
static __always_inline int parse_quoted(struct __sk_buff *skb, const struct packet *p,
					struct packet *quoted, __u32 ip)
{
	__u16 ports[2];
	__u8 type;

	if (bpf_skb_load_bytes(skb, p->l4, &type, 1))
		return -1;
	if (p->version == 4) {
		struct iphdr head;

		/* unreachable, time exceeded, parameter problem (RFC 792) */
		if ((type != 3 && type != 11 && type != 12) ||
		    bpf_skb_load_bytes(skb, ip, &head, sizeof(head)) ||
		    head.frag_off & bpf_htons(0x1fff))
			return -1;
		map_ipv4(&quoted->source, head.saddr);
		map_ipv4(&quoted->destination, head.daddr);
		quoted->protocol = head.protocol;
		quoted->l4 = ip + head.ihl * 4;
	} else {
		struct ipv6hdr head;

		if (type < 1 || type > 4 || bpf_skb_load_bytes(skb, ip, &head, sizeof(head)))
			return -1; /* RFC 4443, section 3 */
		__builtin_memcpy(&quoted->source, &head.saddr, 16);
		__builtin_memcpy(&quoted->destination, &head.daddr, 16);
		quoted->protocol = head.nexthdr;
		quoted->l4 = ip + sizeof(head);
		if (skip_quoted_fragment(skb, quoted))
			return -1;
	}
	if ((quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP) ||
	    bpf_skb_load_bytes(skb, quoted->l4, ports, sizeof(ports)))
		return -1;
	quoted->source_port = ports[0];
	quoted->port = ports[1];
	return 0;
}

/* An end of the packet that an ICMP error quotes from `ip` on. Within ICMP for IPv4 the quoted
 * address and the quoted header's checksum cancel each other out. The quoted transport's checksum
 * stays as it was: nobody looks at it, and of TCP it is mostly cut off.
 */
static __always_inline int write_quoted(struct __sk_buff *skb, const struct packet *p,
					const struct packet *quoted, __u32 ip, enum side side,
					const struct end *from, const struct end *to)
{
	__u32 at = p->l4 + 2;

	if (p->version == 6 && sum_address(skb, at, &from->address, &to->address, 0))
		return -1;
	return bpf_l4_csum_replace(skb, at, from->port, to->port, 2) ||
	       write_port(skb, quoted->l4, side, to->port) ||
	       write_address(skb, p->version, ip, side, &from->address, &to->address);
}

/* An address of the error itself. */
static __always_inline int write_outer(struct __sk_buff *skb, const struct packet *p,
				       enum side side, const struct address *from,
				       const struct address *to)
{
	if (p->version == 6 && sum_address(skb, p->l4 + 2, from, to, BPF_F_PSEUDO_HDR))
		return -1;
	return write_address(skb, p->version, ETH_HLEN, side, from, to);
}

/* An end of the quoted packet, and the same address on the other side of the error. */
static __always_inline int write_quoted_end(struct __sk_buff *skb, const struct packet *p,
					    const struct packet *quoted, __u32 ip, enum side side,
					    const struct end *from, const struct end *to)
{
	enum side outer = side == SOURCE ? DESTINATION : SOURCE;

	return write_quoted(skb, p, quoted, ip, side, from, to) ||
	       write_outer(skb, p, outer, &from->address, &to->address);
}
