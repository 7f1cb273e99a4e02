/*
 * dns_query.c - sends one question to the name servers.
 *
 * The servers are tried in order, twice each: the next one WAIT_MS after the one
 * before, or at once if that one failed. Sockets stay open, so that a late reply
 * counts. A server that replies where one before it was silent comes first, but
 * only for DETOUR_MS: with split DNS their order matters.
 *
 * Against forged replies each query has a connected socket of its own (with a
 * port chosen by the kernel), a random id, and letters in random case, which
 * most servers repeat. Some do not, or know a name in one spelling only
 * (Docker's), so a query that got no addresses is repeated as written.
 * A truncated reply is repeated over TCP. If that fails or takes longer than
 * WAIT_MS, the addresses that fitted into the reply are used.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "stent/clock.h"
#include "stent/dns_query.h"

#define ROUNDS 2			/* queries per server */
#define WAIT_MS 1000			/* before the next server is queried as well */
#define LAST_WAIT_MS 3000		/* for replies when all servers were queried */
#define DETOUR_MS 30000			/* how long silent servers before one that replied come last */
#define UDP_MAX 4096			/* bytes of a reply; without EDNS the limit is the 512 of RFC 1035 */
#define TCP_HEAD 2			/* the length before each message */

struct dns_servers {
	struct event_base *base;
	unsigned refs;
	struct resolv_conf conf;
	size_t first;			/* queried first during the detour */
	int64_t detour_until_us;
	bool as_written[RESOLV_SERVERS_MAX];	/* this server does not support letters in random case */
};

/* One server of a question. */
struct server_query {
	struct dns_query *query;
	enum { UNASKED, BY_UDP, BY_TCP, FAILED } state;
	bool was_dead;			/* silent for WAIT_MS, or nobody listens there */
	bool again;			/* the query was repeated as it is written */
	bool as_written;
	int fd;				/* -1: none */
	struct event *ev;
	size_t len;
	uint8_t question[TCP_HEAD + DNS_QUESTION_MAX];	/* after the length, for TCP */
	size_t done;			/* bytes written and read, over TCP */
	uint8_t *reply;			/* over TCP: with the length; NULL: the question is not sent yet */
};

struct dns_query {
	struct dns_servers *servers;
	enum dns_type type;
	dns_done *done;
	void *arg;
	struct event *timer;
	size_t first, sent;		/* the server queried first; number of queries sent */
	struct dns_addresses fitted;	/* of a truncated reply */
	struct server_query per_server[RESOLV_SERVERS_MAX];
	char name[DNS_NAME_MAX + 1];
};

static void send_next(struct dns_query *q);

struct dns_servers *
dns_servers_new(struct event_base *base, const struct resolv_conf *conf)
{
	struct dns_servers *s = calloc(1, sizeof(*s));

	if (s != NULL) {
		s->base = base;
		s->refs = 1;
		memcpy(&s->conf, conf, sizeof(*conf));	/* the padding as well: it is compared */
	}
	return s;
}

struct dns_servers *
dns_servers_ref(struct dns_servers *s)
{
	s->refs++;
	return s;
}

void
dns_servers_unref(struct dns_servers *s)
{
	if (s != NULL && --s->refs == 0)
		free(s);
}

const struct resolv_conf *
dns_servers_conf(const struct dns_servers *s)
{
	return &s->conf;
}

static void
close_socket(struct server_query *a)
{
	if (a->ev != NULL)
		event_free(a->ev);
	if (a->fd >= 0)
		close(a->fd);
	free(a->reply);
	a->ev = NULL;
	a->fd = -1;
	a->reply = NULL;
	a->done = 0;
}

void
dns_query_cancel(struct dns_query *q)
{
	if (q == NULL)
		return;
	for (size_t i = 0; i < RESOLV_SERVERS_MAX; i++)
		close_socket(&q->per_server[i]);
	if (q->timer != NULL)
		event_free(q->timer);
	dns_servers_unref(q->servers);
	free(q);
}

static void
finish(struct dns_query *q, enum dns_verdict verdict, const struct dns_addresses *found)
{
	if (verdict == DNS_FAILED && q->fitted.n > 0) {
		verdict = DNS_FOUND;
		found = &q->fitted;
	}
	q->done(q->arg, q->type, verdict, found);
	dns_query_cancel(q);
}

static void
wait_for(struct dns_query *q, int64_t ms)
{
	const struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * US_PER_MS };

	(void)event_add(q->timer, &tv);
}

static bool
is_newest(const struct server_query *a)
{
	const struct dns_query *q = a->query;

	return q->sent > 0 && a == &q->per_server[(q->first + q->sent - 1) % q->servers->conf.n_servers];
}

/* This server will not answer. dead: it is not reachable; else it does not know. */
static void
fail(struct server_query *a, bool dead)
{
	close_socket(a);
	a->state = FAILED;
	a->was_dead |= dead;
	if (is_newest(a))
		send_next(a->query);	/* else the next one has been queried already */
}

/* This server has replied: it comes first for a while if the ones before it were dead. */
static void
note_alive(const struct server_query *a)
{
	const struct dns_query *q = a->query;
	struct dns_servers *s = q->servers;
	const size_t i = (size_t)(a - q->per_server);
	bool passed_by = false;

	for (size_t k = q->first; k != i; k = (k + 1) % s->conf.n_servers)
		passed_by |= q->per_server[k].was_dead;
	if (!passed_by)
		return;
	s->first = i;
	s->detour_until_us = clock_us() + DETOUR_MS * US_PER_MS;
}

static int
start_socket(struct server_query *a, int type, short what, event_callback_fn on_event)
{
	const struct dns_servers *s = a->query->servers;
	const struct sockaddr_storage *to = &s->conf.server[a - a->query->per_server];
	const socklen_t len = to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

	a->fd = socket(to->ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0 || (connect(a->fd, (const struct sockaddr *)to, len) != 0 && errno != EINPROGRESS))
		return -errno;
	a->ev = event_new(s->base, a->fd, (short)(what | EV_PERSIST), on_event, a);
	return a->ev != NULL && event_add(a->ev, NULL) == 0 ? 0 : -ENOMEM;
}

static int
write_question(struct server_query *a)
{
	const struct dns_query *q = a->query;
	struct { uint16_t id; uint8_t spelling[DNS_SPELLING_BYTES]; } random;
	int len;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	a->as_written = a->again || q->servers->as_written[a - q->per_server];
	len = dns_write_question(a->question + TCP_HEAD, random.id, q->name, q->type, a->as_written ? NULL : random.spelling);
	if (len < 0)
		return len;
	a->question[0] = (uint8_t)(len >> 8);
	a->question[1] = (uint8_t)len;
	a->len = (size_t)len;
	return 0;
}

static void on_udp(evutil_socket_t fd, short what, void *arg);
static void on_tcp(evutil_socket_t fd, short what, void *arg);

/* Sends the query, or repeats it unchanged from the same port: a reply to either is accepted. */
static int
send_udp(struct server_query *a)
{
	int r = 0;

	if (a->fd < 0) {
		r = write_question(a);
		if (r == 0)
			r = start_socket(a, SOCK_DGRAM, EV_READ, on_udp);
	}
	a->state = BY_UDP;
	if (r == 0 && send(a->fd, a->question + TCP_HEAD, a->len, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != ENOBUFS)
		r = -errno;
	return r;
}

/* Repeats the query to the same server, from another port, with the name as it is written. */
static void
repeat_as_written(struct server_query *a)
{
	close_socket(a);
	a->again = true;
	if (send_udp(a) != 0)
		fail(a, true);
}

static void
on_reply(struct server_query *a, const uint8_t *reply, size_t len)
{
	struct dns_query *q = a->query;
	bool *as_written = &q->servers->as_written[a - q->per_server];
	struct dns_addresses found;
	const enum dns_verdict verdict = dns_read_reply(a->question + TCP_HEAD, a->len, reply, len, a->as_written, &found);

	if (verdict == DNS_IGNORED)
		return;
	note_alive(a);
	switch (verdict) {
	case DNS_FOUND:
		*as_written |= a->again;
		finish(q, verdict, &found);
		break;
	case DNS_TRUNCATED:
		if (found.n > q->fitted.n)
			q->fitted = found;
		close_socket(a);
		a->state = BY_TCP;
		wait_for(q, WAIT_MS);
		if (start_socket(a, SOCK_STREAM, EV_WRITE, on_tcp) != 0)
			fail(a, false);
		break;
	case DNS_RESPELLED:
		*as_written = true;
		repeat_as_written(a);
		break;
	default:
		if (!a->as_written)
			repeat_as_written(a);
		else if (verdict == DNS_NONE)
			finish(q, verdict, &found);
		else
			fail(a, false);
	}
}

static void
on_udp(evutil_socket_t fd, short what, void *arg)
{
	struct server_query *a = arg;
	uint8_t reply[UDP_MAX];
	const ssize_t n = recv(fd, reply, sizeof(reply), 0);

	(void)what;
	if (n >= 0)
		on_reply(a, reply, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		fail(a, true);		/* ICMP: port unreachable */
}

/* The question is sent: from now on the reply is read. */
static int
start_reading(struct server_query *a)
{
	a->done = 0;
	a->reply = malloc(TCP_HEAD + UINT16_MAX);
	if (a->reply == NULL || event_del(a->ev) != 0 ||
	    event_assign(a->ev, a->query->servers->base, a->fd, EV_READ | EV_PERSIST, on_tcp, a) != 0)
		return -ENOMEM;
	return event_add(a->ev, NULL);
}

static void
write_tcp(struct server_query *a)
{
	const ssize_t n = send(a->fd, a->question + a->done, TCP_HEAD + a->len - a->done, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n >= 0)
		a->done += (size_t)n;
	if (n < 0 || (a->done == TCP_HEAD + a->len && start_reading(a) != 0))
		fail(a, false);
}

/* Bytes of the message with its length, as far as is known by now. */
static size_t
tcp_length(const struct server_query *a)
{
	return a->done < TCP_HEAD ? TCP_HEAD : TCP_HEAD + (size_t)(a->reply[0] << 8 | a->reply[1]);
}

/* The whole reply after a truncated one. It cannot be forged off the path. */
static void
read_tcp(struct server_query *a)
{
	const ssize_t n = recv(a->fd, a->reply + a->done, tcp_length(a) - a->done, 0);
	enum dns_verdict verdict;
	struct dns_addresses found;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fail(a, false);
		return;
	}
	a->done += (size_t)n;
	if (a->done < tcp_length(a))
		return;
	verdict = dns_read_reply(a->question + TCP_HEAD, a->len, a->reply + TCP_HEAD, a->done - TCP_HEAD, true, &found);
	if (verdict == DNS_FOUND || verdict == DNS_NONE)
		finish(a->query, verdict, &found);
	else
		fail(a, false);
}

static void
on_tcp(evutil_socket_t fd, short what, void *arg)
{
	struct server_query *a = arg;

	(void)fd;
	(void)what;
	if (a->reply == NULL)
		write_tcp(a);
	else
		read_tcp(a);
}

/* Queries the next server that may know. If there is none, waits for those that were queried, if any. */
static void
send_next(struct dns_query *q)
{
	const size_t n = q->servers->conf.n_servers;
	bool waiting = false;

	while (q->sent < ROUNDS * n) {
		struct server_query *a = &q->per_server[(q->first + q->sent++) % n];

		if (a->state == FAILED || a->state == BY_TCP)
			continue;
		if (send_udp(a) == 0) {
			wait_for(q, q->sent < ROUNDS * n ? WAIT_MS : LAST_WAIT_MS);
			return;
		}
		close_socket(a);
		a->state = FAILED;
		a->was_dead = true;
	}
	for (size_t i = 0; i < n; i++)
		waiting |= q->per_server[i].state == BY_UDP || q->per_server[i].state == BY_TCP;
	wait_for(q, waiting ? LAST_WAIT_MS : 0);	/* 0: done() must not be called from here */
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dns_query *q = arg;
	const size_t n = q->servers->conf.n_servers;
	struct server_query *a = &q->per_server[(q->first + q->sent - 1) % n];

	(void)fd;
	(void)what;
	a->was_dead |= a->state == BY_UDP;
	if (q->sent < ROUNDS * n && q->fitted.n == 0)
		send_next(q);
	else
		finish(q, DNS_FAILED, NULL);
}

int
dns_query_start(struct dns_query **ret, struct dns_servers *s, const char *name, enum dns_type type,
    dns_done *done, void *arg)
{
	uint8_t question[DNS_QUESTION_MAX];
	struct dns_query *q;

	if (dns_write_question(question, 0, name, type, NULL) < 0)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (q == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < RESOLV_SERVERS_MAX; i++) {
		q->per_server[i].query = q;
		q->per_server[i].fd = -1;
	}
	q->servers = dns_servers_ref(s);
	q->timer = evtimer_new(s->base, on_timer, q);
	if (q->timer == NULL) {
		dns_query_cancel(q);
		return -ENOMEM;
	}
	q->type = type;
	q->done = done;
	q->arg = arg;
	memcpy(q->name, name, strlen(name) + 1);
	q->first = clock_us() < s->detour_until_us ? s->first : 0;
	send_next(q);
	*ret = q;
	return 0;
}
