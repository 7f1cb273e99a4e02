/*
 * load_rtt.c - round trips: on connections that stand, as many as go (rtt) or
 * so many a second (paced), or one on each of many that come and go (conn).
 *
 * A message is `size` bytes; its first eight are a stamp that never repeats.
 * The backend replies a whole message with as many bytes and the same stamp;
 * the client checks it and asks again: a closed loop of `conns` connections.
 * paced asks on the next connection each time that its timer says so; where the
 * answer to the last is still due, the new question waits, and its time counts.
 * Sockets are edge triggered and read until a short read.
 *
 * Each mode runs its loop twice: to warm up, and, after the relay has come to
 * rest, to measure. conn closes in order after each answer: the client says
 * FIN, waits for the end from the other side, and only then opens the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "load.h"

#define MAX_EVENTS 256
#define WARM_UP_TRIPS 100	/* on each connection */
#define WATCH (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct end {
	int fd;
	bool client;
	bool closing;		/* client: its FIN is out */
	size_t got;		/* of the message that comes */
	size_t unsent;		/* of the message that goes */
	uint64_t stamp_in, stamp_out;
	int64_t since_ns;
	uint64_t left;		/* client: round trips to go */
	int64_t due_ns;		/* paced: of the first question that waits */
	struct end *next_dead;
};

static struct {
	const struct options *o;
	void (*on_answer)(struct end *e);
	struct measure m;
	bool measuring;
	int epoll_fd, listen_fd;
	char *in, *out;
	uint64_t stamp;
	int busy;		/* clients with work to do */
	struct end **client;	/* rtt, paced */
	uint64_t next, to_ask;	/* paced */
	int timer_fd;
	uint64_t conns_left;	/* conn: still to be opened */
	unsigned opened;
	struct end *dead;	/* freed after the turn: later events may still name them */
} l;

static struct end *
end_open(int fd, bool client)
{
	struct end *e = calloc(1, sizeof(*e));

	if (e == NULL)
		die("calloc");
	e->fd = fd;
	e->client = client;
	if (client ? l.o->tls_client : l.o->tls_backend)
		tls_begin(fd, client);
	net_watch(l.epoll_fd, fd, WATCH, e);
	return e;
}

static void
end_close(struct end *e)
{
	end_gone(e->fd);
	e->fd = -1;
	e->next_dead = l.dead;
	l.dead = e;
}

static void
end_send(struct end *e)
{
	while (e->unsent > 0) {
		size_t at = l.o->size - e->unsent;
		ssize_t n;

		memcpy(l.out, &e->stamp_out, sizeof(e->stamp_out));
		n = end_send_some(e->fd, l.out + at, e->unsent);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			die("send");
		e->unsent -= (size_t)n;
	}
}

static void
client_ask(struct end *e)
{
	e->stamp_out = ++l.stamp;
	e->unsent = l.o->size;
	end_send(e);
}

static void
rtt_on_answer(struct end *e)
{
	if (l.measuring)
		measure_sample(&l.m, now_ns() - e->since_ns);
	if (--e->left == 0) {
		l.busy--;
		return;
	}
	e->since_ns = now_ns();
	client_ask(e);
}

static void
paced_on_answer(struct end *e)
{
	if (l.measuring)
		measure_sample(&l.m, now_ns() - e->since_ns);
	if (--e->left == 0) {
		l.busy--;
		return;
	}
	e->since_ns = e->due_ns;
	client_ask(e);
}

static void
paced_ask_next(void)
{
	struct end *e = l.client[l.next++ % (unsigned)l.o->conns];

	l.to_ask--;
	if (++e->left > 1) {
		if (e->left == 2)
			e->due_ns = now_ns();
		return;
	}
	l.busy++;
	e->since_ns = now_ns();
	client_ask(e);
}

static void
conn_on_answer(struct end *e)
{
	e->left = 0;
	e->closing = true;
	end_fin(e->fd);
}

static void
conn_open_next(void)
{
	struct end *e;

	if (l.conns_left == 0) {
		l.busy--;
		return;
	}
	l.conns_left--;
	e = end_open(net_connect(l.o->relay_port, l.opened++), true);
	e->left = 1;
	e->since_ns = now_ns();
}

static void
end_got_message(struct end *e)
{
	e->got = 0;
	if (!e->client) {
		e->stamp_out = e->stamp_in;
		e->unsent = l.o->size;
		end_send(e);
		return;
	}
	if (e->stamp_in != e->stamp_out)
		fail("an answer does not belong to its question");
	l.on_answer(e);
}

static void
end_got_eof(struct end *e)
{
	if (e->client && !e->closing)
		fail("the relay closed a connection that was in use");
	if (e->client && l.measuring)
		measure_sample(&l.m, now_ns() - e->since_ns);
	end_close(e);
	if (e->client)
		conn_open_next();
}

static void
end_keep_stamp(struct end *e, size_t n)
{
	size_t more = sizeof(e->stamp_in) - e->got;

	memcpy((char *)&e->stamp_in + e->got, l.in, n < more ? n : more);
}

/* Returns false when there is nothing more to read. */
static bool
end_read(struct end *e)
{
	size_t room = l.o->size - e->got;
	ssize_t n = end_recv(e->fd, l.in, room);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		die("recv");
	if (n == 0) {
		end_got_eof(e);
		return false;
	}
	if (e->got < sizeof(e->stamp_in))
		end_keep_stamp(e, (size_t)n);
	e->got += (size_t)n;
	if (e->got == l.o->size)
		end_got_message(e);
	/* more of a message may be decrypted already: no event will tell of it */
	return (size_t)n == room || l.o->tls != NULL;
}

static void
on_end(struct end *e, uint32_t events)
{
	if (e->fd < 0)
		return;
	if (events & EPOLLOUT) {
		if (e->client && e->left > 0 && e->stamp_out == 0)
			client_ask(e);	/* just connected */
		end_send(e);
	}
	/* a whole message read exactly leaves nothing behind it but an end */
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		while (end_read(e))
			;
	} else if (events & EPOLLIN) {
		while (end_read(e) && l.o->tls != NULL)
			;
	}
	/* the handshake may have been waited for */
	if (l.o->tls != NULL && e->fd >= 0)
		end_send(e);
}

static void
free_dead(void)
{
	while (l.dead != NULL) {
		struct end *e = l.dead;

		l.dead = e->next_dead;
		free(e);
	}
}

/* As many questions as the timer has become due; one that has not been looked at for long asks several. */
static void
on_timer(void)
{
	uint64_t n;

	if (read(l.timer_fd, &n, sizeof(n)) != sizeof(n))
		return;
	while (n-- > 0 && l.to_ask > 0)
		paced_ask_next();
}

/* One loop, until all clients have done their work. */
static void
run(void)
{
	struct epoll_event events[MAX_EVENTS];

	while (l.busy > 0 || l.to_ask > 0) {
		int n = epoll_wait(l.epoll_fd, events, MAX_EVENTS, -1);

		for (int i = 0; i < n; i++) {
			int fd;

			if (events[i].data.ptr != NULL) {
				on_end(events[i].data.ptr, events[i].events);
				continue;
			}
			if (l.timer_fd > 0)
				on_timer();
			while ((fd = net_accept(l.listen_fd)) >= 0)
				end_open(fd, false);
		}
		free_dead();
	}
}

static void
setup(const struct options *o, uint64_t samples)
{
	l.o = o;
	if (o->size < sizeof(l.stamp))
		fail("--size must be at least 8");
	l.in = calloc(1, o->size);
	l.out = calloc(1, o->size);
	if (l.in == NULL || l.out == NULL)
		die("calloc");
	measure_init(&l.m, samples);
	l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l.listen_fd = net_listen(o->backend_port);
	net_watch(l.epoll_fd, l.listen_fd, EPOLLIN, NULL);
}

/* Opens the connections that stand, and warms them up. */
static void
open_clients(const struct options *o, uint64_t samples)
{
	l.client = calloc((size_t)o->conns, sizeof(*l.client));
	if (l.client == NULL)
		die("calloc");
	setup(o, samples);
	l.on_answer = rtt_on_answer;
	l.busy = o->conns;
	for (int i = 0; i < o->conns; i++) {
		l.client[i] = end_open(net_connect(o->relay_port, (unsigned)i), true);
		l.client[i]->left = WARM_UP_TRIPS;
	}
	run();
}

void
mode_rtt(const struct options *o)
{
	uint64_t each = o->count / (uint64_t)o->conns;

	open_clients(o, each * (uint64_t)o->conns);
	l.busy = o->conns;
	l.measuring = true;
	measure_start(&l.m, o);
	for (int i = 0; i < o->conns; i++) {
		l.client[i]->left = each;
		l.client[i]->since_ns = now_ns();
		client_ask(l.client[i]);
	}
	run();
	measure_end(&l.m, o);
	measure_print(&l.m, (double)(each * (uint64_t)o->conns));
}

void
mode_paced(const struct options *o)
{
	const uint64_t count = (uint64_t)(o->rate * o->seconds);
	const struct itimerspec every = { .it_interval.tv_nsec = (long)(1e9 / o->rate), .it_value.tv_nsec = 1 };

	if (o->rate <= 1)
		fail("--rate must be more than 1");
	open_clients(o, count);
	l.on_answer = paced_on_answer;
	l.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (l.timer_fd < 0)
		die("timerfd_create");
	net_watch(l.epoll_fd, l.timer_fd, EPOLLIN, NULL);
	l.measuring = true;
	l.to_ask = count;
	measure_start(&l.m, o);
	if (timerfd_settime(l.timer_fd, 0, &every, NULL) < 0)
		die("timerfd_settime");
	run();
	measure_end(&l.m, o);
	measure_print(&l.m, (double)count);
}

static void
conn_loop(uint64_t count)
{
	l.busy = l.o->conns;
	l.conns_left = count;
	for (int i = 0; i < l.o->conns; i++)
		conn_open_next();
	run();
}

void
mode_conn(const struct options *o)
{
	uint64_t before;

	setup(o, o->count);
	l.on_answer = conn_on_answer;
	conn_loop(o->count / 10);
	before = tls_resumed();

	l.measuring = true;
	measure_start(&l.m, o);
	conn_loop(o->count);
	measure_end(&l.m, o);
	if (o->resume && tls_resumed() - before < o->count)
		fail("not all connections resumed a session");
	measure_print(&l.m, (double)o->count);
}
