/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the options of a TCP header (RFC 9293, section 3.1) and changes what is to be changed. */
#pragma once

#include "maps.h"
#include "parse.h"

#define MAX_OPTIONS 40 /* octets of TCP options, so at most that many options */
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define OPTION_CLIENT 254 /* see tell.h */

/* With a `limit` larger segment sizes become that; without one claims about the client are
 * overwritten, and the checksum is left to the caller.
 */
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

#define ROOM_FOR_OPTIONS 64

/* The same number, from 1 to ROOM_FOR_OPTIONS, for Linux 6.1 to see: it learns nothing of a number
 * that was compared with 0. The compiler must not know it either, or it takes this away.
 */
static __always_inline __u32 some_octets(__u32 length)
{
	asm volatile("" : "+r"(length));
	return ((length - 1) & (ROOM_FOR_OPTIONS - 1)) + 1;
}

static __always_inline void overwrite(const struct options *options, __u32 length)
{
	__u8 nothing[ROOM_FOR_OPTIONS];

	__builtin_memset(nothing, OPTION_NOP, sizeof(nothing));
	if (length && length <= MAX_OPTIONS)
		bpf_skb_store_bytes(options->skb, options->at, nothing, some_octets(length), 0);
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
	if (options->limit && option[0] == OPTION_MSS && option[1] == 4)
		lower_mss(options);
	if (!options->limit && option[0] == OPTION_CLIENT)
		overwrite(options, option[1]);
	options->at += option[1];
	return 0;
}
