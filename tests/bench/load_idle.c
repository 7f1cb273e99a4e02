/*
 * load_idle.c - many flows that do nothing, and many that are only kept alive.
 *
 * Flows are opened a few at a time; each carries one small message each way
 * (with --ws: the upgrade, then one frame each way) and then stands.
 *
 * idle says `{"open": N}` when all stand and holds them until its standard
 * input ends: the caller looks at the relay's memory before and after. Pings
 * that come meanwhile are answered; a byte of input starts their count again,
 * and the end tells it.
 * heartbeats answers the pings that come to either end (with --raw-heartbeats: any 8
 * bytes, by 8 bytes) and measures the relay's CPU for each.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define MAX_EVENTS 256
#define AT_ONCE 200		/* flows that are being opened at one time */
#define RAW_HEARTBEAT_BYTES 8

enum step { UPGRADING, TALKING, STANDING };

struct end {
	int fd;
	bool client;
	bool begun;		/* client: it has said its first */
	bool unsaid;		/* TLS: its handshake is under way */
	enum step step;
	size_t got;
};

static struct {
	const struct options *o;
	struct measure m;
	int epoll_fd, listen_fd;
	struct end *ends;
	int n_ends;
	int opened, standing;	/* clients */
	uint8_t frame[2][64];	/* [client]: the one message it sends */
	size_t frame_len[2];
	uint64_t answered;
} l;

static struct end *
end_add(int fd, bool client)
{
	struct end *e = &l.ends[l.n_ends++];

	e->fd = fd;
	e->client = client;
	e->step = l.o->ws ? UPGRADING : TALKING;
	if (client ? l.o->tls_client : l.o->tls_backend)
		tls_begin(fd, client);
	net_watch(l.epoll_fd, fd, EPOLLIN | (client ? EPOLLOUT : 0) | EPOLLRDHUP | EPOLLET, e);
	return e;
}

static void
client_open_next(void)
{
	if (l.opened == l.o->conns)
		return;
	end_add(net_connect(l.o->relay_port, (unsigned)l.opened), true);
	l.opened++;
}

static void
end_say(struct end *e)
{
	const char *upgrade = e->client ? ws_request : ws_response;
	const bool talks = e->step == TALKING;
	const size_t len = talks ? l.frame_len[e->client] : strlen(upgrade);
	const ssize_t n = end_send_some(e->fd, talks ? (const char *)l.frame[e->client] : upgrade, len);

	e->unsaid = n < 0 && errno == EAGAIN && l.o->tls != NULL;
	if (!e->unsaid && n != (ssize_t)len)
		fail("a small message was not taken whole");
}

/* What the end waits for has come whole. */
static void
end_step(struct end *e)
{
	e->got = 0;
	if (!e->client)
		end_say(e);
	e->step++;
	if (e->client && e->step == TALKING)
		end_say(e);
	if (e->client && e->step == STANDING) {
		l.standing++;
		client_open_next();
	}
}

static size_t
end_expects(const struct end *e)
{
	if (e->step == TALKING)
		return l.frame_len[!e->client];
	return strlen(e->client ? ws_response : ws_request);
}

static void
end_answer(struct end *e, const uint8_t *data, size_t n)
{
	uint8_t out[4096 * 3];

	if (!l.o->raw_heartbeats) {
		n = ws_answer_pings(data, n, !e->client, out, &l.answered);
		net_send_all(e->fd, out, n);
		return;
	}
	if (n % RAW_HEARTBEAT_BYTES != 0)
		fail("a heartbeat came cut");
	l.answered += n / RAW_HEARTBEAT_BYTES;
	net_send_all(e->fd, data, n);
}

static void
on_end(struct end *e, uint32_t events)
{
	uint8_t buf[4096];
	size_t room;
	ssize_t n;

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		fail("the relay closed a flow that should stand");
	if ((events & EPOLLOUT) && e->client && !e->begun) {	/* just connected */
		e->begun = true;
		e->unsaid = true;
	}
	if (e->unsaid)
		end_say(e);
	while (events & EPOLLIN) {
		room = e->step == STANDING ? sizeof(buf) : end_expects(e) - e->got;
		n = end_recv(e->fd, buf, room);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			die("recv");
		if (e->step == STANDING) {
			end_answer(e, buf, (size_t)n);
			if ((size_t)n < room && l.o->tls == NULL)
				return;
			continue;
		}
		e->got += (size_t)n;
		if (e->got == end_expects(e))
			end_step(e);
	}
}

static void
turn(int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int n = epoll_wait(l.epoll_fd, events, MAX_EVENTS, timeout_ms), fd;

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr != NULL) {
			on_end(events[i].data.ptr, events[i].events);
			continue;
		}
		while ((fd = net_accept(l.listen_fd)) >= 0)
			end_add(fd, false);
	}
}

static void
open_all(const struct options *o)
{
	l.o = o;
	l.ends = calloc((size_t)o->conns * 2, sizeof(*l.ends));
	if (l.ends == NULL)
		die("calloc");
	l.frame_len[true] = ws_frame(l.frame[true], 16, true);
	l.frame_len[false] = ws_frame(l.frame[false], 16, false);
	l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l.listen_fd = net_listen(o->backend_port);
	net_watch(l.epoll_fd, l.listen_fd, EPOLLIN, NULL);
	for (int i = 0; i < AT_ONCE; i++)
		client_open_next();
	while (l.standing < o->conns)
		turn(-1);
}

void
mode_idle(const struct options *o)
{
	struct pollfd waits[2];
	int64_t since_ns;
	char c;

	open_all(o);
	waits[0] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	waits[1] = (struct pollfd){ .fd = l.epoll_fd, .events = POLLIN };
	since_ns = now_ns();
	printf("{\"open\": %d}\n", l.standing);
	fflush(stdout);
	for (;;) {
		if (poll(waits, 2, -1) < 0)
			die("poll");
		if (waits[1].revents != 0)
			turn(0);
		if (waits[0].revents == 0)
			continue;
		if (read(STDIN_FILENO, &c, 1) <= 0)
			break;
		l.answered = 0;
		since_ns = now_ns();
	}
	printf("{\"answered\": %llu, \"seconds\": %.6f}\n", (unsigned long long)l.answered,
	    (double)(now_ns() - since_ns) / 1e9);
	turn(0);	/* fails if one did not stand to the end */
}

static void
answer_until(int64_t end_ns)
{
	while (now_ns() < end_ns)
		turn(10);
}

void
mode_heartbeats(const struct options *o)
{
	open_all(o);
	answer_until(now_ns() + (int64_t)(o->settle * 1e9));

	measure_init(&l.m, 0);
	l.m.never_at_rest = true;
	l.answered = 0;
	measure_start(&l.m, o);
	answer_until(now_ns() + (int64_t)(o->seconds * 1e9));
	measure_end(&l.m, o);
	if (l.answered == 0)
		fail("not one heartbeat came");
	measure_print(&l.m, (double)l.answered);
}
