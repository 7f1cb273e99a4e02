/*
 * floor.c - the least a relay can do: the floor that the others are held to.
 *
 * One thread, one epoll, one buffer for all. Every socket is added once, edge
 * triggered, for reading and writing, so epoll_ctl is never called again. A
 * readable socket is read once and what came is sent to the other side at
 * once; only what that did not take is kept. No timers, no logs, no settings,
 * no counters. A short read means that the socket is empty: the next bytes are
 * a new edge.
 *
 * With `--heartbeat RATE` it is the floor of heartbeats as well: once no new flow has
 * come for a second, it walks over all its sockets and sends 8 bytes to one after
 * another, RATE a second in all: every millisecond as many as the clock says
 * are due (in a batch: fewer wake-ups on both sides); 8 bytes that come are the
 * answer and end here. No timer, no frame, no look at the bytes.
 *
 * usage: floor LISTEN_PORT BACKEND_PORT [--heartbeat RATE]		(all on 127.0.0.1)
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEARTBEAT_BYTES 8
#define HEARTBEAT_TICK_S 1e-3
#define MAX_LEGS 40000

struct leg {
	struct leg *peer;
	int fd;
	bool eof;		/* it has said its last */
	char *kept;		/* bytes for this leg that it did not take yet */
	size_t kept_bytes;
	int at;			/* index in legs[]; -1: not there */
};

static char buf[65536];
static int epoll_fd, listen_fd;
static struct sockaddr_in backend;
static struct leg *legs[MAX_LEGS];	/* for the heartbeats' walk */
static int n_legs;
static struct leg *freed[2 * (512 + 64)];	/* of this turn: later events may still name them */
static int n_freed;
static double heartbeat_rate, last_accept;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct leg *
leg_new(int fd)
{
	struct leg *l = calloc(1, sizeof(*l));

	if (l == NULL)
		die("calloc");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	l->fd = fd;
	l->at = -1;
	if (heartbeat_rate > 0 && n_legs < MAX_LEGS) {
		l->at = n_legs;
		legs[n_legs++] = l;
	}
	return l;
}

static void
leg_watch(struct leg *l)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = l };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, l->fd, &e) < 0)
		die("epoll_ctl");
}

static void
leg_close(struct leg *l)
{
	close(l->fd);
	l->fd = -1;
	free(l->kept);
	l->kept = NULL;
	if (l->at >= 0) {
		legs[l->at] = legs[--n_legs];
		legs[l->at]->at = l->at;
	}
	freed[n_freed++] = l;
}

static void
flow_close(struct leg *l)
{
	struct leg *peer = l->peer;

	leg_close(l);
	leg_close(peer);
}

/* Sends to l. False: the flow is lost. */
static bool
leg_send(struct leg *l, const char *data, size_t n)
{
	ssize_t sent = send(l->fd, data, n, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != ENOTCONN)
		return false;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent == n)
		return true;
	l->kept_bytes = n - (size_t)sent;
	l->kept = malloc(l->kept_bytes);
	if (l->kept == NULL)
		die("malloc");
	memcpy(l->kept, data + sent, l->kept_bytes);
	return true;
}

/* What waited for l goes out as far as it goes. False: the flow is lost. */
static bool
leg_flush(struct leg *l)
{
	char *kept = l->kept;
	bool ok;

	l->kept = NULL;
	ok = leg_send(l, kept, l->kept_bytes);
	free(kept);
	return ok;
}

/* Reads from one leg and sends to the other until there is no more, or no room. False: the flow is lost. */
static bool
pump(struct leg *from, bool to_the_end)
{
	while (from->peer->kept == NULL && !from->eof) {
		ssize_t n = recv(from->fd, buf, sizeof(buf), 0);

		if (n < 0)
			return errno == EAGAIN;
		if (n == 0) {
			from->eof = true;
			shutdown(from->peer->fd, SHUT_WR);
		} else if (heartbeat_rate > 0 && n % HEARTBEAT_BYTES == 0) {
			continue;
		} else if (!leg_send(from->peer, buf, (size_t)n)) {
			return false;
		}
		if (n < (ssize_t)sizeof(buf) && !to_the_end)
			break;
	}
	return true;
}

static void
on_leg(struct leg *l, uint32_t events)
{
	bool end = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	bool ok = true;

	if (l->fd < 0)
		return;
	if ((events & EPOLLOUT) && l->kept != NULL) {
		ok = leg_flush(l);
		if (ok && l->kept == NULL)
			ok = pump(l->peer, true);
	}
	if (ok && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		ok = pump(l, end);
	if (!ok || (l->eof && l->peer->eof && l->kept == NULL && l->peer->kept == NULL))
		flow_close(l);
}

static void
on_listener(void)
{
	for (int i = 0; i < 64; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct leg *client, *server;

		if (fd < 0)
			return;
		last_accept = heartbeat_rate > 0 ? now_s() : 0;
		client = leg_new(fd);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0)
			die("socket");
		server = leg_new(fd);
		client->peer = server;
		server->peer = client;
		if (connect(fd, (struct sockaddr *)&backend, sizeof(backend)) < 0 && errno != EINPROGRESS) {
			flow_close(client);
			continue;
		}
		leg_watch(server);
		leg_watch(client);
	}
}

/* Sends the heartbeats that are due by now. */
static void
send_heartbeats(void)
{
	static double last, owed;
	static int next;
	double now = now_s();

	if (now - last_accept < 1 || now - last < HEARTBEAT_TICK_S)
		return;
	owed += last > 0 ? (now - last) * heartbeat_rate : 0;
	last = now;
	if (owed > heartbeat_rate / 10)	/* never a burst of more than 0.1 s */
		owed = heartbeat_rate / 10;
	for (; owed >= 1 && n_legs > 0; owed--) {
		next = next < n_legs ? next : 0;
		send(legs[next++]->fd, "12345678", HEARTBEAT_BYTES, MSG_NOSIGNAL);
	}
}

static void
run(void)
{
	struct epoll_event events[512];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, 512, heartbeat_rate > 0 ? 1 : -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr != NULL)
				on_leg(events[i].data.ptr, events[i].events);
		}
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				on_listener();
		}
		if (heartbeat_rate > 0)
			send_heartbeats();
		while (n_freed > 0)
			free(freed[--n_freed]);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL };

	if (argc != 3 && !(argc == 5 && strcmp(argv[3], "--heartbeat") == 0)) {
		fprintf(stderr, "usage: floor LISTEN_PORT BACKEND_PORT [--heartbeat RATE]\n");
		return 2;
	}
	heartbeat_rate = argc == 5 ? atof(argv[4]) : 0;
	backend = at;
	backend.sin_port = htons((uint16_t)atoi(argv[2]));
	at.sin_port = htons((uint16_t)atoi(argv[1]));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(listen_fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listen_fd, 4096) < 0)
		die("listen");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e) < 0)
		die("epoll_ctl");
	run();
}
