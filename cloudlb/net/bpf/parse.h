/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over a frame's headers. Only what lies in the linear part can be read directly, and
 * behind a tap that can be as little as 66 bytes: need() pulls what is missing.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/icmpv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#define TC_ACT_UNSPEC (-1)
#define NOT_OURS TC_ACT_UNSPEC /* lets further filters and the stack have the packet */
#define TC_ACT_OK 0
#define TC_ACT_SHOT 2

#define IPV4_FRAGMENT 0x3fff /* offset and "more fragments" (RFC 791) */

enum kind {
	KIND_OTHER,
	KIND_ARP,
	KIND_ND,
	KIND_ECHO,
	KIND_ICMP,
	KIND_TRANSPORT,
	KIND_FRAGMENT, /* of which part_of() makes one of the following */
	KIND_FIRST_PART,
	KIND_LATER_PART,
};

struct packet {
	enum kind kind;
	__u32 l4;          /* offset of the transport or ICMP header */
	__u32 protocol;
	struct address source;
	struct address destination;
	__u16 source_port; /* network order */
	__u16 port;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 version;
	__u8 hop_limit;
	__u32 id; /* of the datagram, where this is a part of one */
};

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define ARPHRD_ETHERNET 1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

/* RFC 826; linux/if_arp.h would pull in the C library's headers. */
struct arp_header {
	__u16 ar_hrd;
	__u16 ar_pro;
	__u8 ar_hln;
	__u8 ar_pln;
	__u16 ar_op;
};

struct arp_ipv4 {
	struct arp_header header;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
} __attribute__((packed));

struct nd_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 flags;
	struct address target;
};

/* A function that the verifier looks at once, and not for each way that leads to it. What its
 * arguments point to may be nothing, as far as it can know.
 */
#define GLOBAL __attribute__((noinline))

static __always_inline int drop_for(__u32 event)
{
	count_event(event);
	return TC_ACT_SHOT;
}

/* What stands for a member's number where there is none. */
#define PASSED (-1)  /* not a pool's packet */
#define REFUSED (-2) /* dropped, and counted where it should be */
#define PASSED_ON (-3) /* now addressed to another director */
#define UNDECIDED (-4)
#define STRAY (-5) /* to no service */
#define RESET (-6) /* to be answered with a reset */

static __always_inline int refuse_for(__u32 event)
{
	count_event(event);
	return REFUSED;
}

/* Ports and flags, once the whole header is known to be there: what is begun can be finished. */
static __always_inline int load_ports(struct __sk_buff *skb, struct packet *p)
{
	__u8 head[sizeof(struct tcphdr)] = {};

	if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->l4, head, sizeof(struct tcphdr)))
			return -1;
		p->tcp_flags = head[13];
	} else if (p->protocol != IPPROTO_UDP ||
		   bpf_skb_load_bytes(skb, p->l4, head, sizeof(struct udphdr))) {
		return -1;
	}
	__builtin_memcpy(&p->source_port, head, 2);
	__builtin_memcpy(&p->port, head + 2, 2);
	return 0;
}

/* Make `length` bytes readable; the caller reloads its pointers afterwards. */
static __always_inline int need(struct __sk_buff *skb, __u64 length)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (data + length <= end)
		return 0;
	return bpf_skb_pull_data(skb, length);
}

static __always_inline void map_ipv4(struct address *to, __u32 from)
{
	to->word[0] = 0;
	to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = from;
}

static __always_inline int is_unspecified(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

static __always_inline int is_ipv4(const struct address *a)
{
	return !(a->word[0] | a->word[1]) && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline int is_of_family(const struct address *a, __u32 version)
{
	return version == 4 ? is_ipv4(a) : !is_ipv4(a) && !is_unspecified(a);
}

static __always_inline int same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

static __always_inline int is_link_local(const struct address *a)
{
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* Ports and flags of the TCP header at `l4`. -1: it is not all there. */
static __always_inline int read_tcp(const void *data, const void *end, __u64 l4, struct packet *p)
{
	const struct tcphdr *tcp = data + l4;

	if ((const void *)(tcp + 1) > end)
		return -1;
	p->source_port = tcp->source;
	p->port = tcp->dest;
	p->tcp_flags = ((const __u8 *)tcp)[13];
	p->kind = KIND_TRANSPORT;
	return 0;
}

/* What of another protocol than TCP matters here, as far as the first 8 octets at `l4` tell. */
static __always_inline int read_other(const void *data, const void *end, __u64 l4,
				      struct packet *p)
{
	const struct udphdr *udp = data + l4;

	if ((const void *)(udp + 1) > end)
		return -1;
	if (p->protocol == IPPROTO_UDP) {
		p->source_port = udp->source;
		p->port = udp->dest;
		p->kind = KIND_TRANSPORT;
	} else if (p->protocol == IPPROTO_ICMP && p->version == 4) {
		p->icmp_type = *(const __u8 *)udp;
		p->kind = p->icmp_type == 8 ? KIND_ECHO : KIND_ICMP;
	} else if (p->protocol == IPPROTO_ICMPV6 && p->version == 6) {
		p->icmp_type = *(const __u8 *)udp;
		p->kind = KIND_ICMP;
		if (p->icmp_type == 128)
			p->kind = KIND_ECHO;
		if (p->icmp_type >= 133 && p->icmp_type <= 137)
			p->kind = KIND_ND;
	}
	return 0;
}

/* The offset of the transport header: the verifier lost its bound in memory. */
static __always_inline __u64 bounded_l4(const struct packet *p)
{
	return p->l4 & 0x7f; /* at most 14 + 60 */
}

static __always_inline int parse_l4(struct __sk_buff *skb, struct packet *p)
{
	__u64 l4 = bounded_l4(p);

	if (p->protocol == IPPROTO_TCP) {
		if (need(skb, l4 + sizeof(struct tcphdr)))
			return -1;
		return read_tcp((void *)(long)skb->data, (void *)(long)skb->data_end, l4, p);
	}
	if (need(skb, l4 + sizeof(struct udphdr)))
		return p->kind = KIND_OTHER, 0;
	return read_other((void *)(long)skb->data, (void *)(long)skb->data_end, l4, p);
}

static __always_inline int read_ipv4(const void *data, const void *end, struct packet *p)
{
	const struct iphdr *ip = data + ETH_HLEN;

	if ((const void *)(ip + 1) > end || ip->ihl < 5)
		return -1;
	map_ipv4(&p->source, ip->saddr);
	map_ipv4(&p->destination, ip->daddr);
	p->version = 4;
	p->hop_limit = ip->ttl;
	p->protocol = ip->protocol;
	p->l4 = ETH_HLEN + ip->ihl * 4;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT))
		p->kind = KIND_FRAGMENT;
	return 0;
}

static __always_inline int read_ipv6(const void *data, const void *end, struct packet *p)
{
	const struct ipv6hdr *ip = data + ETH_HLEN;

	if ((const void *)(ip + 1) > end)
		return -1;
	__builtin_memcpy(&p->source, &ip->saddr, 16);
	__builtin_memcpy(&p->destination, &ip->daddr, 16);
	p->version = 6;
	p->hop_limit = ip->hop_limit;
	p->protocol = ip->nexthdr;
	p->l4 = ETH_HLEN + sizeof(*ip);
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		p->kind = KIND_FRAGMENT;
	return 0;
}

/* Addresses only; `l4` and `protocol` are set. -1: too short to be what it says it is. */
static __always_inline int parse_l3(struct __sk_buff *skb, struct packet *p)
{
	p->kind = KIND_OTHER;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (need(skb, ETH_HLEN + sizeof(struct iphdr)))
			return -1;
		return read_ipv4((void *)(long)skb->data, (void *)(long)skb->data_end, p);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (need(skb, ETH_HLEN + sizeof(struct ipv6hdr)))
			return -1;
		return read_ipv6((void *)(long)skb->data, (void *)(long)skb->data_end, p);
	}
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		p->kind = KIND_ARP;
	return 0;
}

/* The type of a message at any offset, for guards: read by copy, which needs no bound. */
static __always_inline int parse_icmpv6(struct __sk_buff *skb, struct packet *p)
{
	if (bpf_skb_load_bytes(skb, p->l4, &p->icmp_type, 1))
		return -1;
	p->kind = p->icmp_type >= 133 && p->icmp_type <= 137 ? KIND_ND : KIND_ICMP;
	return 0;
}

#define MAX_EXTENSIONS 4 /* more before a neighbour discovery message are of no honest guest */

struct extension {
	__u8 next;
	__u8 length; /* in 8 octets, without the first 8 (RFC 8200, 4.3) */
};

/* Walk IPv6 extension headers. A fragmented message ends the walk: receivers ignore those of
 * neighbour discovery (RFC 6980). -1: more headers than the bound.
 */
static __always_inline int skip_extensions(struct __sk_buff *skb, struct packet *p)
{
	struct extension header;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (p->protocol != IPPROTO_HOPOPTS && p->protocol != IPPROTO_DSTOPTS &&
		    p->protocol != IPPROTO_ROUTING)
			return 0;
		if (bpf_skb_load_bytes(skb, p->l4, &header, sizeof(header)))
			return -1;
		p->protocol = header.next;
		p->l4 += (header.length + 1) * 8;
	}
	return -1;
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	if (parse_l3(skb, p))
		return -1;
	if (p->kind == KIND_OTHER && p->version)
		return parse_l4(skb, p);
	return 0;
}

/* A whole TCP segment or UDP datagram, before there is an skb: tags are an EtherType of their own. */
static __always_inline int parse_frame(const void *data, const void *end, struct packet *p)
{
	const struct ethhdr *eth = data;
	int failed;

	if ((const void *)(eth + 1) > end)
		return -1;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		failed = read_ipv4(data, end, p);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		failed = read_ipv6(data, end, p);
	else
		return -1;
	if (failed || p->kind == KIND_FRAGMENT)
		return -1;
	if (p->protocol == IPPROTO_TCP)
		return read_tcp(data, end, bounded_l4(p), p);
	return p->protocol == IPPROTO_UDP ? read_other(data, end, bounded_l4(p), p) : -1;
}
