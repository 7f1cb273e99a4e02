/*
 * fuzz_dns_query.c - name servers that reply what they like, when they like, over UDP and TCP, to one question.
 *
 * The first byte says how many servers there are. Then records of a byte (whose low bits choose the server, then what happens;
 * see steps[]) and what belongs to it. Whatever comes: the question is answered once at most, and never within the call that
 * asks; what is found has addresses; no descriptor stays open. There is no event loop: handlers are called here.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fuzz_input.h"

/* Its handlers are called here, not by an event loop. */
#include "../../src/net/dns_query.c"

#define FD_FIRST 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len);
int __wrap_close(int fd);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);
int __wrap_event_add(struct event *ev, const struct timeval *tv);
int __wrap_event_del(struct event *ev);

static struct dns_query *query;		/* NULL: it is answered */
static bool is_starting;
static int n_open;
static const uint8_t *arrived;		/* what recv() returns next */
static ssize_t n_arrived;		/* < 0: its errno */
static int connect_result;

/* --- the kernel --- */

int
__wrap_socket(int domain, int type, int protocol)
{
	(void)domain;
	(void)type;
	(void)protocol;
	return FD_FIRST + n_open++;
}

int
__wrap_connect(int fd, const struct sockaddr *to, socklen_t len)
{
	assert(fd >= FD_FIRST && to->sa_family == AF_INET && len == sizeof(struct sockaddr_in));
	errno = connect_result;
	return connect_result == 0 ? 0 : -1;
}

int
__wrap_close(int fd)
{
	assert(fd >= FD_FIRST && n_open > 0);
	n_open--;
	return 0;
}

ssize_t
__wrap_send(int fd, const void *buf, size_t len, int flags)
{
	static const int results[] = { 0, 0, 0, 0, EAGAIN, EPIPE, ENOBUFS, EINTR };
	const uint8_t choice = is_starting ? 0 : next_byte();

	(void)flags;
	assert(fd >= FD_FIRST && buf != NULL && len > 0);
	errno = results[choice % 8];
	return errno != 0 ? -1 : choice % 8 == 1 ? 1 : (ssize_t)len;
}

ssize_t
__wrap_recv(int fd, void *buf, size_t len, int flags)
{
	(void)flags;
	assert(fd >= FD_FIRST && len > 0);
	if (n_arrived < 0) {
		errno = (int)-n_arrived;
		return -1;
	}
	if (len > (size_t)n_arrived)
		len = (size_t)n_arrived;
	if (len == 0)
		return 0;
	memcpy(buf, arrived, len);
	arrived += len;
	n_arrived -= (ssize_t)len;
	return (ssize_t)len;
}

ssize_t
__wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	(void)flags;
	memset(buf, 0x35, len);
	return (ssize_t)len;
}

int
__wrap_event_add(struct event *ev, const struct timeval *tv)
{
	(void)tv;
	assert(ev != NULL);
	return 0;
}

int
__wrap_event_del(struct event *ev)
{
	assert(ev != NULL);
	return 0;
}

/* --- what happens --- */

static void
on_done(void *arg, enum dns_type type, enum dns_verdict verdict, const struct dns_addresses *found)
{
	assert(arg == &query && query != NULL && !is_starting && (type == DNS_A || type == DNS_AAAA));
	assert(verdict == DNS_FOUND || verdict == DNS_NONE || verdict == DNS_FAILED);
	assert(verdict != DNS_FOUND || (found->n > 0 && found->n <= DNS_ADDRESSES_MAX));
	query = NULL;
}

/* A reply to the question of this server: flags and a count of the input's, the question, and records of the input's. */
static size_t
make_reply(const struct server_query *a, uint8_t *to, size_t room)
{
	size_t n = next_byte();

	memcpy(to, a->question + TCP_HEAD, a->len);
	to[2] = (uint8_t)(next_byte() | 0x80);
	to[3] = next_byte();
	to[7] = next_byte();
	if (n > left)
		n = left;
	assert(a->len + n <= room);
	memcpy(to + a->len, input, n);
	input += n;
	left -= n;
	return a->len + n;
}

/* The handler of the descriptor is called until it has read what arrived. */
static void
arrive(struct server_query *a, const uint8_t *bytes, ssize_t n)
{
	const int state = a->state;

	arrived = bytes;
	n_arrived = n;
	do {
		if (a->state == BY_UDP)
			on_udp(a->fd, EV_READ, a);
		else
			on_tcp(a->fd, EV_READ, a);
	} while (state == BY_TCP && query != NULL && n_arrived > 0 && a->state == BY_TCP && a->reply != NULL);
}

static void
say_anything(struct server_query *a)
{
	const uint8_t *bytes;
	const size_t n = take_piece(&bytes);

	arrive(a, bytes, (ssize_t)n);
}

static void
say_reply(struct server_query *a)
{
	uint8_t reply[TCP_HEAD + DNS_QUESTION_MAX + 256];
	const size_t n = make_reply(a, reply + TCP_HEAD, sizeof(reply) - TCP_HEAD), head = a->state == BY_TCP ? TCP_HEAD : 0;

	reply[0] = (uint8_t)(n >> 8);
	reply[1] = (uint8_t)n;
	arrive(a, reply + TCP_HEAD - head, (ssize_t)(n + head));
}

static void
fail_to_read(struct server_query *a)
{
	static const int results[] = { ECONNREFUSED, EAGAIN, EINTR, ECONNRESET };

	arrive(a, NULL, -results[next_byte() % 4]);
}

static void
end_of_file(struct server_query *a)
{
	arrive(a, NULL, 0);
}

static void (*const steps[])(struct server_query *a) = { say_anything, say_reply, fail_to_read, end_of_file };

static void
step(void)
{
	static const int connects[] = { 0, EINPROGRESS, 0, ENETUNREACH };
	const uint8_t what = next_byte();
	struct server_query *a = &query->per_server[what % 4 % query->servers->conf.n_servers];

	connect_result = connects[what >> 6];
	if ((what >> 2 & 7) == 7)
		on_timer(-1, EV_TIMEOUT, query);
	else if (a->fd >= 0 && a->state == BY_TCP && a->reply == NULL)
		on_tcp(a->fd, EV_WRITE, a);
	else if (a->fd >= 0)
		steps[what >> 2 & 3](a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	struct resolv_conf conf = { 0 };
	struct dns_servers *servers;

	if (base == NULL)
		base = event_base_new();
	input = data;
	left = size;
	conf.n_servers = 1 + next_byte() % RESOLV_SERVERS_MAX;
	for (size_t i = 0; i < conf.n_servers; i++)
		conf.server[i].ss_family = AF_INET;
	servers = dns_servers_new(base, &conf);
	connect_result = 0;
	is_starting = true;
	if (servers == NULL || dns_query_start(&query, servers, "www.test", size % 2 == 0 ? DNS_A : DNS_AAAA, on_done, &query) != 0)
		abort();
	is_starting = false;
	while (left > 0 && query != NULL)
		step();
	dns_query_cancel(query);
	query = NULL;
	assert(n_open == 0);
	dns_servers_unref(servers);
	return 0;
}
