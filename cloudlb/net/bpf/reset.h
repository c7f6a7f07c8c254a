/* SPDX-License-Identifier: Apache-2.0 */
/* Resets in the name of dead members, to clients that go on sending to them (A17). */
#pragma once

#include "answer.h"
#include "maps.h"
#include "parse.h"
#include "too_big.h"

struct reset4 {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct reset6 {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

static __always_inline __u16 tcp_sum(const struct tcphdr *tcp, __s64 sum)
{
	__u32 tail[2] = {bpf_htonl(sizeof(*tcp)), bpf_htonl(IPPROTO_TCP)};

	sum = bpf_csum_diff(0, 0, tail, sizeof(tail), sum);
	return fold(bpf_csum_diff(0, 0, (__be32 *)tcp, sizeof(*tcp), sum));
}

static __noinline int write_reset4(struct __sk_buff *skb, const struct packet *p,
				   const struct tcphdr *tcp)
{
	struct reset4 answer = {
		.ip = {.version = 4,
		       .ihl = 5,
		       .tot_len = bpf_htons(sizeof(answer)),
		       .frag_off = bpf_htons(IPV4_DF),
		       .ttl = 64,
		       .protocol = IPPROTO_TCP,
		       .saddr = p->destination.word[3],
		       .daddr = p->source.word[3]},
	};

	__builtin_memcpy(&answer.tcp, tcp, sizeof(*tcp));
	answer.tcp.check =
		tcp_sum(&answer.tcp, bpf_csum_diff(0, 0, &answer.ip.saddr, 8, 0));
	answer.ip.check =
		fold(bpf_csum_diff(0, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	return shape(skb, sizeof(answer.ip) + HEAD4, HEAD4,
		     (__s32)sizeof(answer.tcp) - HEAD4) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

static __noinline int write_reset6(struct __sk_buff *skb, const struct packet *p,
				   const struct tcphdr *tcp)
{
	struct reset6 answer = {
		.ip = {.version = 6,
		       .payload_len = bpf_htons(sizeof(answer.tcp)),
		       .nexthdr = IPPROTO_TCP,
		       .hop_limit = 64},
	};

	__builtin_memcpy(&answer.ip.saddr, &p->destination, 16);
	__builtin_memcpy(&answer.ip.daddr, &p->source, 16);
	__builtin_memcpy(&answer.tcp, tcp, sizeof(*tcp));
	answer.tcp.check =
		tcp_sum(&answer.tcp, bpf_csum_diff(0, 0, (__be32 *)&answer.ip.saddr, 32, 0));
	return shape(skb, sizeof(answer.ip) + HEAD6, HEAD6,
		     (__s32)sizeof(answer.tcp) - HEAD6) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

/* With the sequence number that the segment acknowledges, which is the one that its sender expects
 * next (RFC 9293, 3.10.7.1 and 3.5.2). A reset is not answered, and what acknowledges nothing is of
 * no connection.
 */
GLOBAL int reset_client(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	struct tcphdr segment, tcp = {.doff = sizeof(tcp) / 4, .rst = 1};

	if (!port || !p || bpf_skb_load_bytes(skb, p->l4, &segment, sizeof(segment)))
		return TC_ACT_SHOT;
	if (segment.rst || !segment.ack)
		return TC_ACT_SHOT;
	tcp.source = segment.dest;
	tcp.dest = segment.source;
	tcp.seq = segment.ack_seq;
	if ((p->version == 4 ? write_reset4(skb, p, &tcp) : write_reset6(skb, p, &tcp)) ||
	    turn_back(skb, port))
		return TC_ACT_SHOT;
	count_event(EVENT_RESET);
	return bpf_redirect(skb->ifindex, 0);
}
