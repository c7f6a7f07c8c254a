/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors that come to a pool's address: they are about what a member has sent from it, and
 * go to the member whose packet they quote (L12).
 */
#pragma once

#include "connect.h"
#include "maps.h"
#include "parse.h"
#include "quoted.h"

/* Anybody can send an error, so it neither begins a connection nor prolongs one. */
GLOBAL int member_of_quoted(struct __sk_buff *skb, const struct port *port, const struct packet *p)
{
	struct packet quoted = {};

	if (!port || !p || parse_quoted(skb, p, &quoted, p->l4 + 8) ||
	    !same_address(&quoted.source, &p->destination))
		return STRAY;
	turn_round(&quoted);
	return member_without_trace(port, &quoted);
}
