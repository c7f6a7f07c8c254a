/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams in parts: only the first one has ports, so what is decided of it goes for all others.
 * Those that come before it are held, and come once more when it is there (L12).
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define PART_SECONDS 2 /* without a part, until a datagram is forgotten; its identification returns */
#define PARTS_HELD 48  /* of one datagram: 64 KiB at an MTU of 1500 */

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__u16 offset;
	__u32 id;
};

static __always_inline void divide(struct packet *p, __u32 id, __u16 offset, __u16 more)
{
	p->id = id;
	if (offset)
		p->kind = KIND_LATER_PART;
	else
		p->kind = more ? KIND_FIRST_PART : KIND_OTHER;
}

/* For IPv6 the fragment header is stepped over. -1: cut off. */
static __always_inline int part_of(struct __sk_buff *skb, struct packet *p)
{
	if (p->version == 4 && p->kind == KIND_FRAGMENT) {
		__u16 head[2]; /* identification, flags and offset (RFC 791) */

		if (bpf_skb_load_bytes(skb, ETH_HLEN + 4, head, sizeof(head)))
			return -1;
		divide(p, head[0], head[1] & bpf_htons(0x1fff), head[1] & bpf_htons(0x2000));
	} else if (p->version == 6 && p->protocol == IPPROTO_FRAGMENT) {
		struct ipv6_fragment head; /* RFC 8200, 4.5 */

		if (bpf_skb_load_bytes(skb, p->l4, &head, sizeof(head)))
			return -1;
		divide(p, head.id, head.offset & bpf_htons(0xfff8), head.offset & bpf_htons(1));
		p->protocol = head.next;
		p->l4 += sizeof(head);
	}
	return 0;
}

static __always_inline void fragmented_key_of(struct fragmented_key *key, struct __sk_buff *skb,
					      const struct packet *p)
{
	key->ifindex = skb->ifindex;
	key->id = p->id;
	key->protocol = p->protocol;
	key->source = p->source;
	key->destination = p->destination;
}

static __always_inline int is_recent(const struct fragmented *known)
{
	__u32 zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);

	return config && bpf_jiffies64() - known->seen < PART_SECONDS * config->second;
}

/* What the first part has decided; 0 while it has not come. */
static __always_inline struct fragmented *fate_of(const struct fragmented_key *key)
{
	struct fragmented *known = bpf_map_lookup_elem(&fragmented, key);

	if (!known || known->fate == PARTS_WAIT || !is_recent(known))
		return 0;
	known->seen = bpf_jiffies64();
	return known;
}

/* The place of a part that came before the first one. */
static __always_inline __u32 take_place(const struct fragmented_key *key)
{
	struct fragmented *known = bpf_map_lookup_elem(&fragmented, key);
	struct fragmented fresh = {};

	if (!known || !is_recent(known)) {
		fresh.seen = bpf_jiffies64();
		bpf_map_update_elem(&fragmented, key, &fresh, BPF_ANY);
		known = bpf_map_lookup_elem(&fragmented, key);
	}
	return known ? __sync_fetch_and_add(&known->held, 1) : PARTS_HELD;
}

GLOBAL int hold(struct __sk_buff *skb, const struct fragmented_key *datagram)
{
	struct held_key key = {};
	__u32 zero = 0, length = skb->len;
	struct held *draft = bpf_map_lookup_elem(&drafts, &zero);

	if (!datagram || !draft)
		return TC_ACT_SHOT;
	key.datagram = *datagram;
	key.place = take_place(&key.datagram); /* Linux 6.1 wants keys on the stack */
	if (key.place >= PARTS_HELD || length < ETH_HLEN || length > HELD_OCTETS)
		return drop_for(EVENT_FRAGMENT);
	draft->length = length;
	if (bpf_skb_load_bytes(skb, 0, draft->frame, length) ||
	    bpf_map_update_elem(&held, &key, draft, BPF_ANY))
		return drop_for(EVENT_FRAGMENT);
	return drop_for(EVENT_HELD);
}

/* What the first part has decided. A part that comes before is held, and 0 said of it; but the
 * first one may have come in the same moment, and found nothing to release.
 */
static __always_inline struct fragmented *fate_or_hold(struct __sk_buff *skb,
							const struct packet *p)
{
	struct fragmented_key key;
	struct fragmented *known;

	fragmented_key_of(&key, skb, p);
	known = fate_of(&key);
	if (known)
		return known;
	hold(skb, &key);
	return fate_of(&key);
}

struct release {
	struct __sk_buff *skb;
	__u64 flags;
	struct held_key key;
};

/* For bpf_loop: make a held part of the frame at hand, and send that once more. */
static long release_part(__u32 place, struct release *release)
{
	struct held *part;
	__u32 length;

	release->key.place = place;
	part = bpf_map_lookup_elem(&held, &release->key);
	if (!part)
		return 0;
	length = part->length;
	if (length < ETH_HLEN || length > HELD_OCTETS)
		return 0;
	if (!bpf_skb_change_tail(release->skb, length, 0) &&
	    !bpf_skb_store_bytes(release->skb, 0, part->frame, length,
				 BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH))
		bpf_clone_redirect(release->skb, release->skb->ifindex, release->flags);
	bpf_map_delete_elem(&held, &release->key);
	return 0;
}

static __always_inline __u32 fate_by(int number)
{
	if (number == PASSED)
		return PARTS_PASS;
	return number < 0 ? PARTS_DROP : PARTS_GO;
}

/* Decide for all parts of a datagram by its first one: they go to a member and get an address,
 * or there is none (PASSED, REFUSED); `client` is 0 where they keep their destination. Returns how
 * many parts are to be released with this one.
 */
GLOBAL int settle(struct __sk_buff *skb, const struct packet *p, const struct address *address,
		  const struct address *client, int number)
{
	struct fragmented value = {.member = number, .fate = fate_by(number)};
	struct fragmented_key key;
	struct fragmented *known;
	__u32 waiting = 0;

	if (!p || !address)
		return 0;
	value.address = *address;
	if (client)
		value.client = *client;
	fragmented_key_of(&key, skb, p);
	known = bpf_map_lookup_elem(&fragmented, &key);
	if (known && known->fate == PARTS_WAIT && is_recent(known))
		waiting = known->held;
	value.seen = bpf_jiffies64();
	/* What is not remembered must not come back: it would do so for ever. */
	if (bpf_map_update_elem(&fragmented, &key, &value, BPF_ANY) || value.fate == PARTS_DROP)
		return 0;
	return waiting;
}

/* The first part and those that waited for it pass their interface once more, where they are known
 * now: `flags` say which way, BPF_F_INGRESS or 0. The frame at hand has served.
 */
GLOBAL int release_parts(struct __sk_buff *skb, const struct packet *p, int count, __u64 flags)
{
	struct release release = {.skb = skb, .flags = flags};

	if (!p)
		return TC_ACT_SHOT;
	fragmented_key_of(&release.key.datagram, skb, p);
	bpf_clone_redirect(skb, skb->ifindex, flags);
	bpf_loop(count < PARTS_HELD ? count : PARTS_HELD, release_part, &release, 0);
	return TC_ACT_SHOT;
}
