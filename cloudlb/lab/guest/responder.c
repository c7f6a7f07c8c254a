// SPDX-License-Identifier: Apache-2.0
// Answers HTTP on port 80 and TCP and UDP on port 7, and says which guest it is.
//
// One thread, one epoll loop, no allocation after a connection is accepted. Every socket is
// dual stack: an IPv4 peer appears as a v4-mapped address, in UDP's packet information too.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	HTTP_PORT = 80,
	ECHO_PORT = 7,
	BACKLOG = 4096,
	MAX_FILES = 65536,
	MAX_EVENTS = 64,
	INPUT_SIZE = 8192,
	REPLY_SIZE = 1024,
	DATAGRAM_SIZE = 65536,
	PATTERN_PERIOD = 251, // prime, so that a lost or doubled segment shifts what follows
	PATTERN_SIZE = PATTERN_PERIOD * 256,
};

enum kind { LISTEN_HTTP, LISTEN_ECHO, DATAGRAM, HTTP, ECHO };

struct endpoint {
	int fd;
	enum kind kind;
	bool closing;       // close once everything in `reply` and `stream` is sent
	bool in_body;       // a POST's body is being read
	size_t input_used;
	size_t reply_used, reply_sent;
	uint64_t stream_left, stream_at; // pattern bytes that follow the reply
	uint64_t body_left, body_size;
	uint32_t body_crc;
	char input[INPUT_SIZE];
	char reply[REPLY_SIZE];
};

static const char *server_name;
static int poller;
static uint32_t crc_table[256];
static unsigned char pattern[PATTERN_SIZE];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t value = i;
		for (int bit = 0; bit < 8; bit++)
			value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
		crc_table[i] = value;
	}
	for (int i = 0; i < PATTERN_SIZE; i++)
		pattern[i] = i % PATTERN_PERIOD;
}

static uint32_t crc32_of(uint32_t crc, const char *data, size_t size)
{
	crc = ~crc;
	for (size_t i = 0; i < size; i++)
		crc = crc_table[(crc ^ (unsigned char)data[i]) & 0xff] ^ crc >> 8;
	return ~crc;
}

static void watch(struct endpoint *e, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = e};

	if (epoll_ctl(poller, operation, e->fd, &event) < 0)
		die("epoll_ctl");
}

static void listen_on(int type, int port, enum kind kind)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct endpoint *e = calloc(1, sizeof(*e));
	int yes = 1, no = 0;

	if (!e)
		die("calloc");
	e->kind = kind;
	e->fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (e->fd < 0)
		die("socket");
	setsockopt(e->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(e->fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (kind == DATAGRAM)
		setsockopt(e->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof(yes));
	if (bind(e->fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		die("bind");
	if (kind != DATAGRAM && listen(e->fd, BACKLOG) < 0)
		die("listen");
	watch(e, EPOLL_CTL_ADD, EPOLLIN);
}

static void format_address(const struct sockaddr_in6 *address, char text[INET6_ADDRSTRLEN])
{
	const struct in6_addr *in6 = &address->sin6_addr;

	if (IN6_IS_ADDR_V4MAPPED(in6))
		inet_ntop(AF_INET, in6->s6_addr + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, in6, text, INET6_ADDRSTRLEN);
}

__attribute__((format(printf, 4, 5)))
static void reply_with(struct endpoint *e, const char *status, uint64_t stream,
		       const char *format, ...)
{
	char body[REPLY_SIZE / 2];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(body, sizeof(body), format, arguments);
	va_end(arguments);
	e->reply_sent = 0;
	e->reply_used = snprintf(e->reply, sizeof(e->reply),
				 "HTTP/1.1 %s\r\nX-Server: %s\r\nContent-Type: %s\r\n"
				 "Content-Length: %llu\r\n%s\r\n%s",
				 status, server_name,
				 stream ? "application/octet-stream" : "application/json",
				 (unsigned long long)(stream + size),
				 e->closing ? "Connection: close\r\n" : "", body);
	e->stream_left = stream;
	e->stream_at = 0;
}

static void reply_identity(struct endpoint *e)
{
	struct sockaddr_in6 local, peer;
	socklen_t local_size = sizeof(local), peer_size = sizeof(peer);
	char local_text[INET6_ADDRSTRLEN] = "", peer_text[INET6_ADDRSTRLEN] = "";

	if (!getsockname(e->fd, (struct sockaddr *)&local, &local_size))
		format_address(&local, local_text);
	if (!getpeername(e->fd, (struct sockaddr *)&peer, &peer_size))
		format_address(&peer, peer_text);
	reply_with(e, "200 OK", 0,
		   "{\"server\": \"%s\", \"address\": \"%s\", \"client\": \"%s\"}\n",
		   server_name, local_text, peer_text);
}

static void reply_checksum(struct endpoint *e)
{
	e->in_body = false;
	reply_with(e, "200 OK", 0,
		   "{\"server\": \"%s\", \"length\": %llu, \"crc32\": %u}\n", server_name,
		   (unsigned long long)e->body_size, e->body_crc);
}

static const char *header_value(const char *head, const char *name)
{
	size_t size = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (!strncasecmp(line, name, size) && line[size] == ':')
			return line + size + 1 + strspn(line + size + 1, " ");
	}
	return NULL;
}

static void begin_body(struct endpoint *e, const char *head)
{
	const char *length = header_value(head, "Content-Length");
	const char *expect = header_value(head, "Expect");

	if (!length) {
		e->closing = true;
		reply_with(e, "411 Length Required", 0, "{\"error\": \"no Content-Length\"}\n");
		return;
	}
	e->body_left = e->body_size = strtoull(length, NULL, 10);
	e->body_crc = 0;
	e->in_body = e->body_size > 0;
	if (!e->in_body) {
		reply_checksum(e);
	} else if (expect && !strncasecmp(expect, "100-continue", 12)) {
		e->reply_sent = 0;
		e->reply_used = snprintf(e->reply, sizeof(e->reply),
					 "HTTP/1.1 100 Continue\r\n\r\n");
	}
}

static void answer(struct endpoint *e, const char *head)
{
	const char *connection = header_value(head, "Connection");

	e->closing = strstr(head, " HTTP/1.0\r\n") ||
		     (connection && !strncasecmp(connection, "close", 5));
	if (!strncmp(head, "GET /bytes/", 11))
		reply_with(e, "200 OK", strtoull(head + 11, NULL, 10), "%s", "");
	else if (!strncmp(head, "GET ", 4))
		reply_identity(e);
	else if (!strncmp(head, "POST ", 5))
		begin_body(e, head);
	else
		reply_with(e, "405 Method Not Allowed", 0, "{\"error\": \"GET or POST\"}\n");
}

static void consume(struct endpoint *e, size_t size)
{
	e->input_used -= size;
	memmove(e->input, e->input + size, e->input_used);
}

// Takes one step on the input; false when more bytes are needed first.
static bool http_step(struct endpoint *e)
{
	char head[INPUT_SIZE + 1];
	size_t size;
	char *end;

	if (e->in_body) {
		size = e->input_used < e->body_left ? e->input_used : e->body_left;
		e->body_crc = crc32_of(e->body_crc, e->input, size);
		e->body_left -= size;
		consume(e, size);
		if (!e->body_left)
			reply_checksum(e);
		return !e->in_body;
	}
	end = memmem(e->input, e->input_used, "\r\n\r\n", 4);
	if (!end) {
		e->closing = e->input_used == INPUT_SIZE;
		return false;
	}
	size = end + 4 - e->input;
	memcpy(head, e->input, size);
	head[size] = '\0';
	consume(e, size);
	answer(e, head);
	return true;
}

static bool pending(const struct endpoint *e)
{
	return e->reply_sent < e->reply_used || e->stream_left ||
	       (e->kind == ECHO && e->input_used);
}

static ssize_t send_some(struct endpoint *e, const void *data, size_t size)
{
	int more = e->stream_left ? MSG_MORE : 0;

	return send(e->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT | more);
}

static bool finished(const struct endpoint *e)
{
	return e->closing && !e->in_body;
}

// Sends what is pending; false when the connection is lost.
static bool flush(struct endpoint *e)
{
	while (pending(e)) {
		ssize_t sent;

		if (e->reply_sent < e->reply_used) {
			sent = send_some(e, e->reply + e->reply_sent, e->reply_used - e->reply_sent);
			if (sent > 0)
				e->reply_sent += sent;
		} else if (e->stream_left) {
			size_t from = e->stream_at % PATTERN_SIZE, size = PATTERN_SIZE - from;

			size = size < e->stream_left ? size : e->stream_left;
			e->stream_left -= size;
			sent = send_some(e, pattern + from, size);
			e->stream_left += size - (sent > 0 ? sent : 0);
			e->stream_at += sent > 0 ? sent : 0;
		} else {
			sent = send_some(e, e->input, e->input_used);
			if (sent > 0)
				consume(e, sent);
		}
		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
	}
	return true;
}

// Reads, answers and sends until the socket would block; false when the connection is over.
static bool serve(struct endpoint *e)
{
	for (;;) {
		ssize_t size;

		if (!flush(e))
			return false;
		if (pending(e))
			return true;
		if (finished(e))
			return false;
		if (e->kind == HTTP && e->input_used && http_step(e))
			continue;
		if (finished(e))
			return false;
		size = recv(e->fd, e->input + e->input_used, INPUT_SIZE - e->input_used, 0);
		if (size < 0)
			return errno == EAGAIN || errno == EINTR;
		if (size == 0)
			return false;
		e->input_used += size;
	}
}

static void serve_connection(struct endpoint *e)
{
	if (serve(e)) {
		watch(e, EPOLL_CTL_MOD, pending(e) ? EPOLLOUT : EPOLLIN);
		return;
	}
	close(e->fd);
	free(e);
}

static void accept_all(struct endpoint *listener)
{
	int yes = 1, fd;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct endpoint *e = malloc(sizeof(*e));

		if (!e) {
			close(fd);
			return;
		}
		memset(e, 0, offsetof(struct endpoint, input));
		e->fd = fd;
		e->kind = listener->kind == LISTEN_HTTP ? HTTP : ECHO;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
		if (e->kind == ECHO)
			e->reply_used = snprintf(e->reply, sizeof(e->reply), "%s\n", server_name);
		watch(e, EPOLL_CTL_ADD, EPOLLIN);
		serve_connection(e);
	}
}

// Answers every waiting datagram from the address it was sent to: that may be a VIP.
static void answer_datagrams(struct endpoint *e)
{
	static char data[DATAGRAM_SIZE + 64];
	char control[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	struct sockaddr_in6 peer;
	int name_size = snprintf(data, 64, "%s ", server_name);

	for (;;) {
		struct iovec part = {.iov_base = data + name_size, .iov_len = DATAGRAM_SIZE};
		struct msghdr message = {
			.msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = &part,
			.msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
		};
		ssize_t size = recvmsg(e->fd, &message, MSG_DONTWAIT);
		struct cmsghdr *header;

		if (size < 0)
			return;
		header = CMSG_FIRSTHDR(&message);
		if (!header || header->cmsg_type != IPV6_PKTINFO)
			continue;
		// The route decides the way out; the packet may have come in by another device.
		((struct in6_pktinfo *)CMSG_DATA(header))->ipi6_ifindex = 0;
		part = (struct iovec){.iov_base = data, .iov_len = name_size + size};
		sendmsg(e->fd, &message, MSG_DONTWAIT);
	}
}

static void handle(struct endpoint *e)
{
	if (e->kind == LISTEN_HTTP || e->kind == LISTEN_ECHO)
		accept_all(e);
	else if (e->kind == DATAGRAM)
		answer_datagrams(e);
	else
		serve_connection(e);
}

int main(int argc, char **argv)
{
	struct rlimit files = {.rlim_cur = MAX_FILES, .rlim_max = MAX_FILES};
	struct epoll_event events[MAX_EVENTS];

	if (argc != 2) {
		fprintf(stderr, "usage: responder NAME\n");
		return 2;
	}
	server_name = argv[1];
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	fill_tables();
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		die("epoll_create1");
	listen_on(SOCK_STREAM, HTTP_PORT, LISTEN_HTTP);
	listen_on(SOCK_STREAM, ECHO_PORT, LISTEN_ECHO);
	listen_on(SOCK_DGRAM, ECHO_PORT, DATAGRAM);
	for (;;) {
		int count = epoll_wait(poller, events, MAX_EVENTS, -1);

		for (int i = 0; i < count; i++)
			handle(events[i].data.ptr);
	}
}
