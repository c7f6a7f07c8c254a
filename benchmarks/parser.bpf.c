/* SPDX-License-Identifier: Apache-2.0 */
/* Floors for the director's program: one that does nothing, and one that only parses. */
#include "parse.h"

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return NOT_OURS;
}

static __always_inline __u32 digest(const struct address *a)
{
	return a->word[0] ^ a->word[1] ^ a->word[2] ^ a->word[3];
}

/* The result depends on every field, so that the compiler leaves none out. */
SEC("tc")
int parser(struct __sk_buff *skb)
{
	struct packet p = {};

	if (parse(skb, &p))
		return NOT_OURS;
	return digest(&p.source) ^ digest(&p.destination) ^ p.kind ^ p.l4 ^ p.protocol ^
	       p.source_port ^ p.port ^ p.tcp_flags ^ p.icmp_type ^ p.version ^ p.hop_limit;
}

const char program_license[] SEC("license") = "Apache-2.0";
