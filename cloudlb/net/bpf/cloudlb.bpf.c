/* SPDX-License-Identifier: Apache-2.0 */
/* The programs: `director` on the interface that receives pools' traffic, `from_guest` and
 * `to_guest` on the taps of guests, `sweep` run by the agent to forget old connections.
 */
#include "answer.h"
#include "flow.h"
#include "guard.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"

/* linux/if_packet.h: addressed to this interface, or to another */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

static __always_inline int forward(struct __sk_buff *skb, const struct port *port, __u32 number,
				   const struct member *member)
{
	struct traffic *traffic_of = bpf_map_lookup_elem(&traffic, &number);
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	if (traffic_of) {
		traffic_of->packets_in += skb->gso_segs > 1 ? skb->gso_segs : 1;
		traffic_of->bytes_in += skb->len;
	}
	/* Both addresses: behind a learning bridge the source must be the forwarder's own. */
	__builtin_memcpy(eth->h_dest, member->mac, 6);
	__builtin_memcpy(eth->h_source, port->mac, 6);
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline int drop_for(__u32 event)
{
	count_event(event);
	return TC_ACT_SHOT;
}

/* A packet to no service. One to a pool's address must not reach the host's stack, and neither
 * may a member's answer to a probe, which the agent has read from its packet socket before.
 */
static __always_inline int stray(const struct port *port, const struct packet *p)
{
	if (answers(port->network, &p->destination))
		return drop_for(EVENT_NO_SERVICE);
	if (answers(port->network, &p->source))
		return TC_ACT_SHOT;
	return NOT_OURS;
}

static __always_inline __u32 *member_at(const struct pool *pool, __u32 index)
{
	__u32 slot = pool->base + index;

	return bpf_map_lookup_elem(&slots, &slot);
}

/* `old` is the connection that had the same ports before, if it still counts; it stays when there
 * is no member for the new one. Its record may be given to another connection once replaced.
 */
static __always_inline int new_connection(struct __sk_buff *skb, const struct port *port,
					  const struct packet *p, struct flow_key *key,
					  const struct flow *old)
{
	struct service_key service = {.network = port->network,
				      .address = p->destination,
				      .port = p->port,
				      .protocol = p->protocol};
	__u32 *pool_number = bpf_map_lookup_elem(&services, &service);
	struct pool *pool;
	struct member *member;
	struct flow flow = {}, replaced = {};
	__u32 *choice, number;
	int fresh = opens(p) || p->protocol == IPPROTO_UDP;

	if (!pool_number)
		return stray(port, p);
	pool = bpf_map_lookup_elem(&pools, pool_number);
	if (!pool || !pool->length)
		return drop_for(EVENT_NO_MEMBER);
	choice = member_at(pool, fresh ? pick_new(pool, *pool_number, p) : pick_stateless(pool, p));
	if (!choice)
		return drop_for(EVENT_NO_MEMBER);
	flow.member = *choice;
	flow.state = first_state(p);
	flow.seen = bpf_jiffies64();
	if (old)
		replaced = *old;
	if (!bpf_map_update_elem(&flows, key, &flow, BPF_ANY)) {
		if (old)
			count_flow(replaced.member, replaced.state, -1);
		count_flow(flow.member, flow.state, 1);
	} else {
		count_event(EVENT_TABLE_FULL);
		choice = member_at(pool, pick_stateless(pool, p));
		if (!choice)
			return drop_for(EVENT_NO_MEMBER);
		flow.member = *choice;
	}
	if (fresh)
		count_connection(flow.member);
	number = flow.member;
	member = bpf_map_lookup_elem(&members, &number);
	if (!member)
		return drop_for(EVENT_NO_MEMBER);
	return forward(skb, port, number, member);
}

static __always_inline int direct(struct __sk_buff *skb, const struct port *port,
				  const struct packet *p)
{
	struct flow_key key;
	struct member *member;
	struct flow *flow;
	__u32 number;

	flow_key_of(&key, port->network, p);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return new_connection(skb, port, p, &key, 0);
	number = flow->member;
	member = bpf_map_lookup_elem(&members, &number);
	if (!member || member->state == MEMBER_FREE)
		return new_connection(skb, port, p, &key, 0);
	/* The same SYN again stays where it was; a SYN on anything further on, or towards a
	 * member that takes no new connections, is a new connection with a re-used port.
	 */
	if (opens(p) && !(flow->state == FLOW_OPENING && member->state == MEMBER_ACTIVE))
		return new_connection(skb, port, p, &key, flow);
	follow(flow, p);
	return forward(skb, port, number, member);
}

SEC("tc")
int director(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};

	if (!port || skb->vlan_present || skb->pkt_type == PACKET_OTHERHOST || parse(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return answer_arp(skb, port);
	if (p.kind == KIND_ND)
		return answer_nd(skb, port, &p);
	if (skb->pkt_type != PACKET_HOST)
		return NOT_OURS;
	if (p.kind == KIND_TRANSPORT)
		return direct(skb, port, &p);
	if (!p.version)
		return NOT_OURS;
	if (!answers(port->network, &p.destination))
		return stray(port, &p);
	if (p.kind == KIND_ECHO)
		return answer_echo(skb, port, &p);
	return drop_for(p.kind == KIND_FRAGMENT ? EVENT_FRAGMENT : EVENT_NO_SERVICE);
}

SEC("tc")
int from_guest(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};
	__u32 *member;

	if (!port || parse_l3(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return guard_arp_from_guest(skb, port);
	if (p.version == 6 && skip_extensions(skb, &p))
		return guard_drop();
	if (p.version == 6 && p.protocol == IPPROTO_ICMPV6 && !parse_icmpv6(skb, &p) &&
	    p.kind == KIND_ND)
		return guard_nd_from_guest(skb, port, &p);
	member = p.version ? delivered(ifindex, &p.source) : 0;
	if (member) {
		struct traffic *traffic_of = bpf_map_lookup_elem(&traffic, member);

		if (traffic_of) {
			traffic_of->packets_out += skb->gso_segs > 1 ? skb->gso_segs : 1;
			traffic_of->bytes_out += skb->len;
		}
	}
	return NOT_OURS;
}

SEC("tc")
int to_guest(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *port = port_of(ifindex);
	struct packet p = {};

	if (!port || parse_l3(skb, &p))
		return NOT_OURS;
	if (p.kind == KIND_ARP)
		return guard_arp_to_guest(skb, port);
	if (p.version == 6 && skip_extensions(skb, &p))
		return NOT_OURS;
	if (p.version == 6 && p.protocol == IPPROTO_ICMPV6 && !parse_icmpv6(skb, &p) &&
	    p.kind == KIND_ND)
		return guard_nd_to_guest(skb, port, &p);
	return NOT_OURS;
}

/* Run by BPF_PROG_TEST_RUN: the check of age and the removal are one step in the kernel, so that
 * no connection is forgotten between a reader's look and its deletion.
 */
SEC("tc")
int sweep(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct settings *config = bpf_map_lookup_elem(&settings, &zero);
	struct sweep state = {.now = bpf_jiffies64()};

	if (!config)
		return 0;
	__builtin_memcpy(state.timeout, config->timeout, sizeof(state.timeout));
	bpf_for_each_map_elem(&flows, sweep_flow, &state, 0);
	return 0;
}

const char program_license[] SEC("license") = "Apache-2.0";
