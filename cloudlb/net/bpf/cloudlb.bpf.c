/* SPDX-License-Identifier: Apache-2.0 */
/* The programs: `director` on the interface that receives pools' traffic, `express` before it where
 * that is a physical one, `from_guest` and `to_guest` on the taps of guests, `sweep`, `adopt` and
 * `conclude` run by the agent, to forget old connections, to take over those of another director,
 * and to end what members have ended.
 */
#include "adopt.h"
#include "answer.h"
#include "connect.h"
#include "director_nat.h"
#include "errors.h"
#include "express.h"
#include "flow.h"
#include "forward.h"
#include "guard.h"
#include "maps.h"
#include "mss.h"
#include "nat.h"
#include "parse.h"
#include "parts.h"
#include "persist.h"
#include "reset.h"
#include "signs.h"
#include "tunnel.h"

/* linux/if_packet.h: addressed to this interface, or to another */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

/* The member of a packet with the mode of its connection, else STRAY or REFUSED. */
static __always_inline int destined(struct __sk_buff *skb, const struct port *port,
				    struct packet *p)
{
	int choice = UNDECIDED;

	if (p->kind != KIND_TRANSPORT) {
		if (!answers(port->network, &p->destination))
			return STRAY;
		if (p->kind == KIND_ICMP)
			return member_of_quoted(skb, port, p);
		if (p->kind != KIND_FRAGMENT)
			return refuse_for(EVENT_NO_SERVICE);
		choice = member_of_part(skb, p);
	}
	return choice == UNDECIDED ? member_of(skb, port, p) : choice;
}

SEC("tc")
int director(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};
	int choice, waiting = 0;

	if (!port || skb->vlan_present || skb->pkt_type == PACKET_OTHERHOST || parse(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return answer_arp(skb, port);
	if (p.kind == KIND_ND)
		return answer_nd(skb, port, &p);
	if (skb->pkt_type != PACKET_HOST || !p.version)
		return NOT_OURS;
	if (p.kind == KIND_ECHO && answers(port->network, &p.destination))
		return answer_echo(skb, port, &p);
	choice = destined(skb, port, &p);
	if (choice == STRAY)
		return from_member(skb, port, &p);
	if (p.kind == KIND_FIRST_PART)
		waiting = settle(skb, &p, &p.destination, 0, choice);
	if (waiting)
		return release_parts(skb, &p, waiting, BPF_F_INGRESS);
	if (choice == PASSED_ON)
		return bpf_redirect(skb->ifindex, 0);
	if (choice == RESET)
		return reset_client(skb, port, &p);
	if (choice < 0)
		return TC_ACT_SHOT;
	if (is_translated(choice >> MODE_SHIFT))
		return forward_translated(skb, port, &p, choice);
	return forward(skb, port, &p, choice);
}

/* What it passes comes to `director`. */
SEC("xdp")
int express(struct xdp_md *frame)
{
	struct port *port = port_of(frame->ingress_ifindex);

	if (!port)
		return XDP_PASS;
	return take_express((void *)(long)frame->data, (void *)(long)frame->data_end, port);
}

SEC("tc")
int from_guest(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};
	struct member *member;
	__u32 *number;

	if (!port)
		return NOT_OURS;
	if (hides_behind_tags(skb))
		return guard_drop();
	if (parse_l3(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return guard_arp_from_guest(skb, port);
	if (p.version == 6 && skip_extensions(skb, &p))
		return guard_drop();
	if (p.version == 6 && p.protocol == IPPROTO_ICMPV6 && !parse_icmpv6(skb, &p) &&
	    p.kind == KIND_ND)
		return guard_nd_from_guest(skb, port, &p);
	number = p.version ? delivered(ifindex, &p.source) : 0;
	member = number ? bpf_map_lookup_elem(&members, number) : 0;
	if (!member)
		return NOT_OURS;
	if (serves_by(member, MODE_EDGE_NAT) && same_address(&p.source, &member->own))
		return nat_from_guest(skb, port, &p);
	if (!holds_address(member))
		return NOT_OURS;
	count_answer(skb, &p, *number);
	if (member->role & MEMBER_WATCHED && p.protocol == IPPROTO_TCP &&
	    p.kind != KIND_FRAGMENT)
		watch_answer(skb, port, &p, *number);
	if (serves_by(member, MODE_TUN) && p.protocol == IPPROTO_TCP && p.kind != KIND_FRAGMENT)
		clamp_mss(skb, port, member, &p);
	return NOT_OURS;
}

SEC("tc")
int to_guest(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};
	struct member *member;
	__u32 *number;

	if (!port || parse_l3(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return guard_arp_to_guest(skb, port);
	if (is_tunnel(&p))
		return unwrap(skb, &p);
	if (p.version == 6 && skip_extensions(skb, &p))
		return NOT_OURS;
	if (p.version == 6 && p.protocol == IPPROTO_ICMPV6 && !parse_icmpv6(skb, &p) &&
	    p.kind == KIND_ND)
		return guard_nd_to_guest(skb, port, &p);
	number = p.version ? delivered(ifindex, &p.destination) : 0;
	member = number ? bpf_map_lookup_elem(&members, number) : 0;
	if (member && serves_by(member, MODE_EDGE_NAT))
		return nat_to_guest(skb, &p, *number, member);
	return NOT_OURS;
}

/* Run by BPF_PROG_TEST_RUN: between the check of age and the removal lie instructions here, a system
 * call for a reader in user space. A packet that comes between them has its connection forgotten.
 * Returns the time by which it judged, in the lower 32 bits of jiffies.
 */
SEC("tc")
int sweep(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);
	struct sweep state = {.now = bpf_jiffies64()};

	if (!config)
		return 0;
	state.second = config->second;
	__builtin_memcpy(state.timeout, config->timeout, sizeof(state.timeout));
	bpf_for_each_map_elem(&flows, sweep_flow, &state, 0);
	bpf_for_each_map_elem(&clients, sweep_client, &state.now, 0);
	bpf_for_each_map_elem(&sessions, sweep_session, &state, 0);
	return state.now;
}

/* Run by BPF_PROG_TEST_RUN on a frame of connections behind an Ethernet header, so that looking
 * at what is there and replacing it are one step.
 */
SEC("tc")
int adopt(struct __sk_buff *skb)
{
	__u32 i;

	for (i = 0; i < MOST_ADOPTED; i++)
		if (adopt_at(skb, ETH_HLEN + i * sizeof(struct shared)))
			break;
	return i;
}

/* Run by BPF_PROG_TEST_RUN on a frame of signs behind an Ethernet header: connections that members
 * have ended at other hosts.
 */
SEC("tc")
int conclude(struct __sk_buff *skb)
{
	__u32 i;

	for (i = 0; i < MOST_CONCLUDED; i++)
		if (conclude_at(skb, ETH_HLEN + i * sizeof(struct sign)))
			break;
	return i;
}

const char program_license[] SEC("license") = "Apache-2.0";
