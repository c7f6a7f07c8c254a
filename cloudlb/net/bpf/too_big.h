/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that a tunnel's header makes too large for the link: the client is told, by ICMP from
 * the pool's address, how large they may be (RFC 1191, RFC 8201). One that may be fragmented is
 * answered as well: here nobody can fragment it, and a silent loss would last.
 */
#pragma once

#include "answer.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"
#include "tunnel.h"

#define ANSWERS_PER_SECOND 10 /* to the clients of one budget */
#define SMALLEST_IPV6_MTU 1280 /* RFC 8200, section 5 */

/* How much of the packet is quoted: an error has at most 576 octets (RFC 1812, 4.3.2.3), or 1280
 * (RFC 4443, 2.4 c).
 */
#define QUOTE4 (576 - 20 - 8)
#define QUOTE6 (1280 - 40 - 8)

/* The head of the quotation is taken out and put back. Only so a packet whose checksum the sender
 * has left to the device forgets where that checksum was to be written, which is in this part;
 * the device would write it into the quotation.
 */
#define HEAD4 76
#define HEAD6 56

struct too_big_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 mtu;
};

struct too_big4 {
	struct iphdr ip;
	struct too_big_message icmp;
	__u8 head[HEAD4];
};

struct too_big6 {
	struct ipv6hdr ip;
	struct too_big_message icmp;
	__u8 head[HEAD6];
};

/* Whether a packet is too large for the link when wrapped, or what a GSO packet is cut into is.
 * TCP's segments are made to fit when room is made for the header.
 */
static __noinline int too_big(struct __sk_buff *skb, const struct port *port,
			      const struct member *member, const struct packet *p)
{
	struct inner inner = {};
	__u32 length;

	if (load_inner(skb, ETH_HLEN, p->version, &inner))
		return 0;
	length = inner.length;
	if (skb->gso_size)
		length = p->protocol == IPPROTO_UDP ?
				 p->l4 - ETH_HLEN + sizeof(struct udphdr) + skb->gso_size :
				 0;
	return length + tunnel_overhead(member) > port->mtu;
}

/* Clients share budgets by a hash, so that one with a flood of large packets silences few others. */
static __always_inline int within_budget(const struct packet *p, __u32 seed)
{
	__u32 number = hash_client(p, seed) % BUDGETS, zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);
	struct budget *budget = bpf_map_lookup_elem(&budgets, &number);
	__u64 now = bpf_jiffies64();

	if (!config || !budget)
		return 0;
	if (now - budget->since >= config->second) {
		budget->since = now;
		budget->spent = 0;
	}
	return __sync_fetch_and_add(&budget->spent, 1) < ANSWERS_PER_SECOND;
}

/* The sum over the quotation, 512 octets at a time: Linux 6.1 takes no more at once. */
static __always_inline __s64 sum_quote(struct __sk_buff *skb, __u32 length, __s64 sum)
{
	void *data, *end;

	if (bpf_skb_pull_data(skb, ETH_HLEN + length))
		return -1;
	data = (void *)(long)skb->data + ETH_HLEN;
	end = (void *)(long)skb->data_end;
	if (data + length > end)
		return -1;
	for (__u32 done = 0; done < length; done += 512) {
		__u32 part = length - done < 512 ? length - done : 512;

		sum = bpf_csum_diff(0, 0, data + done, part, sum);
	}
	return (__u32)sum;
}

/* Cut the frame down to the quotation, and make room in front of it. */
static __always_inline int shape(struct __sk_buff *skb, __u32 quote, __s32 head, __s32 headers)
{
	return bpf_skb_change_tail(skb, ETH_HLEN + quote, 0) ||
	       bpf_skb_adjust_room(skb, -head, BPF_ADJ_ROOM_MAC, 0) ||
	       bpf_skb_adjust_room(skb, head + headers, BPF_ADJ_ROOM_MAC, 0);
}

static __noinline int write_too_big4(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	__u32 headers = sizeof(struct iphdr) + sizeof(struct too_big_message);
	struct too_big4 answer = {
		.ip = {.version = 4,
		       .ihl = 5,
		       .tot_len = bpf_htons(headers + QUOTE4),
		       .frag_off = bpf_htons(IPV4_DF),
		       .ttl = 64,
		       .protocol = IPPROTO_ICMP,
		       .saddr = p->destination.word[3],
		       .daddr = p->source.word[3]},
		.icmp = {.type = 3, .code = 4, .mtu = bpf_htonl(mtu & 0xffff)},
	};
	__s64 sum = bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), 0);

	sum = sum_quote(skb, QUOTE4, sum);
	if (sum < 0 || bpf_skb_load_bytes(skb, ETH_HLEN, answer.head, HEAD4))
		return -1;
	answer.icmp.checksum = fold(sum);
	answer.ip.check =
		fold(bpf_csum_diff(0, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	return shape(skb, QUOTE4, HEAD4, headers) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

static __noinline int write_too_big6(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	__u32 length = sizeof(struct too_big_message) + QUOTE6;
	__u32 pseudo[2] = {bpf_htonl(length), bpf_htonl(IPPROTO_ICMPV6)};
	struct too_big6 answer = {
		.ip = {.version = 6,
		       .payload_len = bpf_htons(length),
		       .nexthdr = IPPROTO_ICMPV6,
		       .hop_limit = 64},
		.icmp = {.type = 2, .mtu = bpf_htonl(mtu)},
	};
	__s64 sum;

	__builtin_memcpy(&answer.ip.saddr, &p->destination, 16);
	__builtin_memcpy(&answer.ip.daddr, &p->source, 16);
	sum = bpf_csum_diff(0, 0, (__be32 *)&answer.ip.saddr, 32, 0);
	sum = bpf_csum_diff(0, 0, pseudo, sizeof(pseudo), sum);
	sum = bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), sum);
	sum = sum_quote(skb, QUOTE6, sum);
	if (sum < 0 || bpf_skb_load_bytes(skb, ETH_HLEN, answer.head, HEAD6))
		return -1;
	answer.icmp.checksum = fold(sum);
	return shape(skb, QUOTE6, HEAD6, sizeof(answer.ip) + sizeof(answer.icmp)) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

/* To where the packet came from, as every answer of a pool's address. */
static __always_inline int turn_back(struct __sk_buff *skb, const struct port *port)
{
	struct ethhdr eth;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return -1;
	__builtin_memcpy(eth.h_dest, eth.h_source, 6);
	__builtin_memcpy(eth.h_source, port->mac, 6);
	return bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0);
}

/* Of errors, and of later parts of a datagram, nobody is told (RFC 1122, 3.2.2; RFC 4443, 2.4 e):
 * errors would beget errors, and the first part says enough.
 */
static __always_inline int may_be_answered(const struct packet *p, __u32 mtu)
{
	if (p->kind == KIND_ICMP || p->kind == KIND_LATER_PART)
		return 0;
	return p->version == 4 || mtu >= SMALLEST_IPV6_MTU;
}

static __noinline int tell_too_big(struct __sk_buff *skb, const struct port *port,
				   const struct member *member, const struct packet *p)
{
	struct pool *pool = bpf_map_lookup_elem(&pools, &member->pool);
	__u32 mtu = port->mtu - tunnel_overhead(member);

	if (!may_be_answered(p, mtu) || !pool || !within_budget(p, pool->seed) ||
	    (p->version == 4 ? write_too_big4(skb, p, mtu) : write_too_big6(skb, p, mtu)) ||
	    turn_back(skb, port)) {
		count_event(EVENT_TOO_BIG_DROP);
		return TC_ACT_SHOT;
	}
	count_event(EVENT_TOO_BIG);
	return bpf_redirect(skb->ifindex, 0);
}
