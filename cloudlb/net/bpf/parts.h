/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams in parts at the director. */
#pragma once

#include "connect.h"
#include "fragment.h"
#include "maps.h"
#include "parse.h"

/* A later part goes where the first one went; one of a member's answer is no client's packet. A first
 * part, and one that is the whole, becomes what it would be without a fragment header: its member
 * is still to be found.
 */
GLOBAL int member_of_part(struct __sk_buff *skb, struct packet *p)
{
	struct fragmented *known;

	if (!p || part_of(skb, p))
		return refuse_for(EVENT_FRAGMENT);
	if (p->kind != KIND_LATER_PART)
		return load_ports(skb, p) ? refuse_for(EVENT_FRAGMENT) : UNDECIDED;
	known = fate_or_hold(skb, p);
	if (!known)
		return REFUSED;
	if (known->fate != PARTS_GO)
		return refuse_for(EVENT_FRAGMENT);
	return is_unspecified(&known->client) ? (int)known->member : STRAY;
}
