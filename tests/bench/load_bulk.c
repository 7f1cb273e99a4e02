/*
 * load_bulk.c - bulk: bytes as fast as they go, over `conns` connections.
 *
 * Plain: each client writes `size` bytes a call, the backend reads (--reverse: the other way). With --ws
 * each connection is upgraded first, then both sides write frames of `size` payload
 * bytes at once, masked toward the backend, unmasked toward the client.
 *
 * Each sender has a quota; the run is over when every receiver has counted its
 * own. What is received is counted and dropped inside the kernel (MSG_TRUNC):
 * the copy that a real reader makes is not the relay's, and without it the load
 * has room to outrun the relay. Level triggered, one call an event, so
 * that no connection starves another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define MAX_EVENTS 256
#define WARM_UP_BYTES (64 << 20)	/* in all */
#define READ_MAX (1 << 20)

struct end {
	int fd;
	bool client, sends, receives;
	bool watches_out;
	uint64_t to_send, to_receive;
	size_t frame_at;		/* how far the frame under way has gone */
};

static struct {
	const struct options *o;
	struct measure m;
	int epoll_fd, listen_fd;
	struct end *ends;
	int n_ends;
	uint8_t *frame[2];		/* [client]: what it sends, again and again */
	size_t frame_len[2];
	int busy;			/* receivers that wait for their quota */
} l;

static void
end_watch(struct end *e, bool out)
{
	struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = e };

	if (e->watches_out == out)
		return;
	e->watches_out = out;
	if (epoll_ctl(l.epoll_fd, EPOLL_CTL_MOD, e->fd, &ev) < 0)
		die("epoll_ctl");
}

static void
end_send(struct end *e)
{
	size_t len = l.frame_len[e->client] - e->frame_at;
	ssize_t n;

	if (len > e->to_send)
		len = (size_t)e->to_send;
	n = end_send_some(e->fd, l.frame[e->client] + e->frame_at, len);
	if (n < 0 && errno != EAGAIN)
		die("send");
	if (n > 0) {
		e->to_send -= (uint64_t)n;
		e->frame_at = (e->frame_at + (size_t)n) % l.frame_len[e->client];
	}
	if (e->to_send == 0)
		end_watch(e, false);
}

/* True: more may be decrypted already, of which no event tells. */
static bool
end_receive(struct end *e)
{
	static uint8_t buf[READ_MAX];
	const bool tls = e->client ? l.o->tls_client : l.o->tls_backend;
	ssize_t n = tls ? end_recv(e->fd, buf, READ_MAX) : recv(e->fd, NULL, READ_MAX, MSG_TRUNC);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0)
		fail("a connection ended in the middle");
	if ((uint64_t)n > e->to_receive)
		fail("more came than was sent");
	e->to_receive -= (uint64_t)n;
	if (e->to_receive == 0)
		l.busy--;
	return tls && e->to_receive > 0;
}

static void
run(void)
{
	struct epoll_event events[MAX_EVENTS];

	while (l.busy > 0) {
		int n = epoll_wait(l.epoll_fd, events, MAX_EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct end *e = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				end_send(e);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				while (end_receive(e))
					;
		}
	}
}

/* Gives every sender and receiver its part of `bytes`, in whole frames, and lets them run. Returns what went. */
static uint64_t
transfer(uint64_t bytes)
{
	uint64_t streams = (uint64_t)l.o->conns * (l.o->ws ? 2 : 1);
	uint64_t frames = bytes / streams / l.frame_len[true], sum = 0;

	for (int i = 0; i < l.n_ends; i++) {
		struct end *e = &l.ends[i];
		bool sends = e->client != l.o->reverse || l.o->ws, receives = e->client == l.o->reverse || l.o->ws;

		e->to_send = sends ? frames * l.frame_len[e->client] : 0;
		e->to_receive = receives ? frames * l.frame_len[!e->client] : 0;
		sum += e->to_send;
		l.busy += receives;
		end_watch(e, sends);
	}
	run();
	return sum;
}

/* Waits for a small message that came right through the relay. */
static void
expect(int fd, const char *text)
{
	size_t len = strlen(text), got = 0;
	char buf[512];

	while (got < len) {
		ssize_t n = end_recv(fd, buf + got, len - got);

		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			fail("a connection ended at its start");
		got += (size_t)n;
	}
	if (memcmp(buf, text, len) != 0)
		fail("the relay changed the first message");
}

static void
end_add(int fd, bool client)
{
	struct end *e = &l.ends[l.n_ends++];

	e->fd = fd;
	e->client = client;
	net_watch(l.epoll_fd, fd, EPOLLIN, e);
}

/* One after another: a backend that speaks is the one whose client has just asked. */
static void
open_pairs(void)
{
	for (int i = 0; i < l.o->conns; i++) {
		int client = net_connect(l.o->relay_port, (unsigned)i), backend;

		if (l.o->tls_client)
			tls_begin(client, true);
		while (end_send_some(client, ws_request, strlen(ws_request)) < 0)
			if (errno != EAGAIN)
				die("send");
		while ((backend = net_accept(l.listen_fd)) < 0)
			usleep(200);
		if (l.o->tls_backend)
			tls_begin(backend, false);
		expect(backend, ws_request);
		net_send_all(backend, ws_response, strlen(ws_response));
		expect(client, ws_response);
		end_add(client, true);
		end_add(backend, false);
	}
}

static void
make_frames(void)
{
	for (int client = 0; client < 2; client++) {
		l.frame[client] = malloc(l.o->size + 14);
		if (l.frame[client] == NULL)
			die("malloc");
		l.frame_len[client] = ws_frame(l.frame[client], l.o->size, client);
	}
}

void
mode_bulk(const struct options *o)
{
	uint64_t bytes;

	l.o = o;
	l.ends = calloc((size_t)o->conns * 2, sizeof(*l.ends));
	if (l.ends == NULL)
		die("calloc");
	make_frames();
	measure_init(&l.m, 0);
	l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l.listen_fd = net_listen(o->backend_port);
	open_pairs();
	transfer(WARM_UP_BYTES);

	measure_start(&l.m, o);
	bytes = transfer(o->count);
	measure_end(&l.m, o);
	measure_print(&l.m, (double)bytes / 1e9);
}
