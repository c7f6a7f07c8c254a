/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the maps, which the programs share with the agent: layout.py names the same
 * fields, and the sizes are compared when the object is loaded. Addresses are 16 bytes, IPv4 as
 * ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); ports and words of addresses are in network order, all else
 * in the host's. Another version's records are carried over by the names of their fields (carry.py):
 * one that is to mean something else gets another name.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define MAX_POOLS 16384
#define MAX_SERVICES 65536
#define MAX_MEMBERS 65536 /* the loader sets the configured size */
#define MAX_SLOTS 1048576
#define MAX_PORTS 4096
#define NEAR_PORTS 1024
#define MAX_CLIENTS 262144 /* the loader sets the configured size */
#define LEARNED_PER_PORT 16
#define BUDGETS 256
#define MAX_FLOWS 262144 /* likewise */
#define MAX_SESSIONS 262144 /* likewise */
#define MAX_FRAGMENTED 8192 /* likewise */
#define MAX_HELD 1024
#define NEWS_SIZE 1048576
#define MOST_ADOPTED 22 /* in one run of `adopt` */
#define MOST_CONCLUDED 22 /* in one run of `conclude` */
#define SIGNS_SIZE 262144
#define ROUTERS 256 /* VRID, RFC 9568, section 5.2.3 */
#define HELD_OCTETS 1600 /* the largest frame that is held: MTU 1500, and some more */

struct address {
	__u32 word[4];
};

/* An interface that carries a program; own addresses are learned from the guest behind a tap, the
 * host's are those that this host has on the interface, zero where it has none.
 */
struct port {
	__u32 network;
	__u32 own_ipv4;
	struct address own_link_local;
	__u8 mac[6];
	__u8 attached; /* 0 in elements of near_ports that stand for no interface */
	__u8 pad;
	__u32 mtu;
	__u32 host_ipv4;
	struct address host_ipv6;
};

struct vip_key {
	__u32 network;
	struct address address;
};

struct service_key {
	__u32 network;
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

/* Rotations walk their slots, counts compare the members in them, tables index them by a hash. */
enum scheduler {
	ROUND_ROBIN = 0,
	WRR_INTERLEAVED = 1,
	WRR_LVS = 2,
	WRR_SMOOTH = 3,
	LAST_ROTATION = WRR_SMOOTH,
	LC_ACTIVE = 4,
	LC_LVS = 5,
	WLC_ACTIVE = 6,
	WLC_LVS = 7,
	LAST_COUNT = WLC_LVS,
	SOURCE_HASH = 8,
	FLOW_HASH = 9,
	MAGLEV = 10,
};

/* Members of new connections stand in slots[base .. base + length), behind them the host's own ones
 * where packets in the middle of connections that are not known stay here. Clients whose addresses are
 * equal in the first `prefix` bits of 128 keep their member for `persistence` seconds, if not 0.
 */
struct pool {
	__u8 id[16];
	__u32 network;
	struct address address;
	__u32 seed;
	__u32 base;
	__u32 length;
	__u32 order; /* 2^order slots are reserved from base on */
	__u32 scheduler;
	__u32 persistence;
	__u32 prefix;
	__u32 router; /* the virtual router whose master announces it; 0: this host, always */
	__u32 timeout[4]; /* seconds, by flow_state; 0: as in settings */
	__u32 locals;     /* members in slots[base + length ..) that get what nobody knows */
	__u16 alias_part; /* the remainder of this host's aliases when divided by .. */
	__u16 alias_parts; /* .. the number of directors; 0: neither full NAT nor masquerading */
	__u16 disguises;   /* full NAT: new connections get an alias */
	__u16 masquerades; /* what members begin by themselves gets the address and an alias */
	__u16 tells_clients; /* a TCP option says who is behind an alias */
	__u16 pad;
};

/* From MEMBER_DESERTED on connections do not stay. */
enum member_state {
	MEMBER_FREE = 0,
	MEMBER_ACTIVE = 1,
	MEMBER_IDLE = 2,
	MEMBER_DESERTED = 3,
	MEMBER_CUT = 4
};
/* Of one that is watched its directors hear what it ends, or refuses. */
enum member_role { MEMBER_BACKEND = 1, MEMBER_GUEST = 2, MEMBER_WATCHED = 4 };
/* The last one is that of connections that a member has begun by itself. */
enum mode {
	MODE_DR = 0,
	MODE_TUN = 1,
	MODE_EDGE_NAT = 2,
	MODE_NAT = 3,
	MODE_FULL_NAT = 4,
	MODE_MASQUERADE = 5,
};

/* `own` and `port` are the member's own address, unspecified where the mode needs none, and port,
 * 0 where it is the virtual one. `mac` is zero where the kernel knows the way to the own address.
 */
struct member {
	__u8 id[16];
	__u32 pool;
	__u32 weight;
	__u32 rank;
	__u8 mac[6];
	__u8 state;
	__u8 role;
	struct address own;
	__u16 port;
	__u8 mode;
	__u8 former; /* at a guest's tap: a bit for each mode of connections that may be alive */
};

/* A guest behind a tap that serves an address; with edge NAT also by its own address. At an uplink
 * a member that this host directs to, by its own address.
 */
struct delivery_key {
	__u32 ifindex;
	struct address address;
};

/* One of the places that a port has for addresses of its guest. */
struct learned_key {
	__u32 ifindex;
	__u32 place; /* below LEARNED_PER_PORT */
};

struct sighting {
	struct address address;
	__u64 at; /* ns since boot */
};

struct flow_key {
	__u32 network;
	__u16 client_port;
	__u16 port;
	struct address client;
	struct address address;
	__u32 protocol;
};

enum flow_state { FLOW_OPENING = 0, FLOW_ESTABLISHED = 1, FLOW_CLOSING = 2, FLOW_UDP = 3 };

/* A connection keeps the mode that its member had when it began (L2). `since` is the time of its
 * latest SYN, or, if its member has `ended` it, of that; the lower 32 bits of jiffies.
 */
struct flow {
	__u64 seen; /* jiffies: read without a call, which the clock in ns is not */
	__u32 member;
	__u32 alias; /* with full NAT the port that the member sees as the client's; 0: none yet.
		      * Of what a member has begun by itself the port that it has. */
	__u8 state;
	__u8 mode;
	__u8 told; /* by another director, and no packet of it has come here since */
	__u8 ended;
	__u32 since;
};

/* A member's number together with the mode of a connection. */
#define MODE_SHIFT 24
#define NUMBER_OF(choice) ((choice) & ((1 << MODE_SHIFT) - 1))
_Static_assert(MAX_MEMBERS <= 1 << MODE_SHIFT, "numbers leave room for a mode");

/* A connection that directors tell each other of; `idle` in jiffies. */
struct shared {
	struct flow_key key;
	__u32 member;
	__u8 state;
	__u8 mode;
	__u16 alias;
	__u32 idle;
};

/* What a member does with a connection, as told to the agent; `at` in ns since boot. */
enum sign_kind { SIGN_CLOSED = 1, SIGN_RESET = 2, SIGN_REFUSED = 3, SIGN_UNANSWERED = 4 };

struct sign {
	struct flow_key key;
	__u32 member;
	__u64 at;
	__u32 what;
	__u32 pad;
};

/* A client, or all clients of a prefix, and the member that their new connections go to. */
struct client_key {
	__u32 pool;
	struct address prefix;
};

struct client {
	__u64 until; /* jiffies */
	__u32 member;
	__u32 pad;
};

/* A connection through NAT as its member knows it: at a tap with edge NAT, else at the director.
 * With full NAT the member takes the pool's address and an alias for the client.
 */
#define AT_DIRECTOR 0x80000000 /* no interface's index */

struct session_key {
	__u32 place; /* the tap, or AT_DIRECTOR with the network */
	__u32 protocol;
	__u16 client_port;
	__u16 port;
	struct address client;
	struct address guest;
};

/* What the client calls the other end of a session: the pool's address and port; and with full NAT
 * who the client is.
 */
struct session {
	__u64 seen; /* jiffies */
	struct address address;
	__u32 member;
	__u32 state; /* as a flow's */
	__u16 port;
	__u16 client_port;
	__u8 mode;
	__u8 pad[3];
	struct address client;
};

/* A datagram in fragments, as it comes to an interface. */
struct fragmented_key {
	__u32 ifindex;
	__u32 id;
	__u32 protocol;
	struct address source;
	struct address destination;
};

/* What its first part decides for all others. */
enum fate { PARTS_WAIT = 0, PARTS_GO = 1, PARTS_PASS = 2, PARTS_DROP = 3 };

/* Parts that go are a member's, and get `address` where they are translated; those of a member's
 * answer go to `client` if it is known. `held` of them came before the first.
 */
struct fragmented {
	__u64 seen; /* jiffies */
	struct address address;
	struct address client;
	__u32 member;
	__u32 fate;
	__u32 held;
	__u32 pad;
};

/* A part that came before its datagram's first one, as a whole frame. */
struct held_key {
	struct fragmented_key datagram;
	__u32 place;
};

struct held {
	__u32 length;
	__u8 frame[HELD_OCTETS];
};

struct traffic {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
};

/* Changed atomically by all CPUs; a cache line each. `doubted`: when the agent was last told that the
 * member refuses or does not answer, in ns since boot.
 */
struct connections {
	__u64 total;
	__u64 active;
	__u64 inactive;
	__u64 doubted;
	__u64 pad[4];
};

struct ticket {
	__u64 next;
	__u64 pad[7];
};

#define MOST_MATES 7 /* a pool has at most eight directors that are named */

/* Another director of a virtual router: it gets what is not known here until a time, and was heard
 * at another; both in ns since boot. `all` others may have sent what they do not know to this one.
 */
struct mate {
	__u64 until;
	__u64 heard;
	__u8 mac[6];
	__u8 all[MOST_MATES][6];
};

/* Answers that clients were given since a moment, in jiffies. */
struct budget {
	__u64 since;
	__u64 spent;
};

/* Why a packet to a pool's address went nowhere, or was not remembered. */
enum event {
	EVENT_NO_MEMBER = 0,
	EVENT_NO_SERVICE,
	EVENT_FRAGMENT,
	EVENT_TABLE_FULL,
	EVENT_GUARD_DROP,
	EVENT_GUARD_REWRITE,
	EVENT_ANSWERED,
	EVENT_SESSION_CLASH,
	EVENT_NO_TUNNEL,
	EVENT_TOO_BIG,
	EVENT_TOO_BIG_DROP,
	EVENT_HELD,
	EVENT_PASSED_ON,
	EVENT_NO_ALIAS,
	EVENT_CLIENT_UNTOLD,
	EVENT_CARRYING,
	EVENT_RESET,
	EVENT_COUNT,
};

struct settings {
	__u64 timeout[4]; /* jiffies, by flow_state */
	__u64 second;     /* in jiffies */
	__u32 first_alias; /* the ports that full NAT gives to clients */
	__u32 aliases;
	__u64 carrying; /* until when, in ns since boot, connections may be known to former programs */
};

static __always_inline int choice_of(__u32 number, __u32 mode)
{
	return number | mode << MODE_SHIFT;
}

/* Whether a guest's connections may have this mode. */
static __always_inline int serves_by(const struct member *member, __u32 mode)
{
	return member->mode == mode || member->former & 1 << mode;
}

#define HELD_BY_GUESTS (1 << MODE_DR | 1 << MODE_TUN)

/* Whether a guest may have connections in which it goes by the pool's address. */
static __always_inline int holds_address(const struct member *member)
{
	return !!((1 << member->mode | member->former) & HELD_BY_GUESTS);
}

/* Whether the director translates the packets of a connection, there and back. */
static __always_inline int is_translated(__u32 mode)
{
	return mode >= MODE_NAT;
}
