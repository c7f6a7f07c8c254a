/* SPDX-License-Identifier: Apache-2.0 */
/* Floors for the director's programs: one that does nothing, and two that only parse. */
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

/* Depends on every field, so that the compiler leaves none out. */
static __always_inline __u32 all_of(const struct packet *p)
{
	return digest(&p->source) ^ digest(&p->destination) ^ p->kind ^ p->l4 ^ p->protocol ^
	       p->source_port ^ p->port ^ p->tcp_flags ^ p->icmp_type ^ p->version ^ p->hop_limit;
}

SEC("tc")
int parser(struct __sk_buff *skb)
{
	struct packet p = {};

	if (parse(skb, &p))
		return NOT_OURS;
	return all_of(&p);
}

SEC("xdp")
int frame_parser(struct xdp_md *frame)
{
	struct packet p = {};

	if (parse_frame((void *)(long)frame->data, (void *)(long)frame->data_end, &p))
		return XDP_PASS;
	return all_of(&p);
}

const char program_license[] SEC("license") = "Apache-2.0";
