/*
 * connections.c - accepts connections for the daemon, and bounds them.
 *
 * Idle clients must not lock others out, since a health check without a reply
 * gets stent restarted. So a new client is always accepted, if need be in place
 * of the oldest whose request is incomplete; and of one address there are only so
 * many. One descriptor is reserved for when there are no others.
 *
 * A request has a deadline from its connection (or the end of the previous
 * request) to its last byte, a reply another one. A connection is dropped by
 * shutdown(): the daemon owns the descriptor, and sees the end of the stream.
 *
 * Closing with unread bytes would send a reset, which could discard the end of
 * the reply. So a connection that the daemon closes first is read for a while
 * through a duplicate of its descriptor.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/connection.h"
#include "stent/clock.h"

#define MOST 64
#define MOST_OF_ADDRESS 32
#define ACCEPTS_A_ROUND 16	/* then other events have their turn */
#define REQUEST_MS 2000
#define LINGER_MS 2000
#define LOOK_MS 250

static const struct timeval pause_time = { 1, 0 };
static const struct timeval look_time = { 0, LOOK_MS * US_PER_MS };

static void
hold_reserve(struct http_server *s)
{
	if (s->reserve < 0)
		s->reserve = eventfd(0, EFD_CLOEXEC);
}

static void
release_reserve(struct http_server *s)
{
	if (s->reserve >= 0)
		close(s->reserve);
	s->reserve = -1;
}

static void
connection_free(struct connection *c)
{
	struct http_server *s = c->server;

	assert(s->n_connections > 0);
	TAILQ_REMOVE(&s->connections, c, link);
	s->n_connections--;
	if (c->linger != NULL) {
		event_free(c->linger);
		close(c->fd);
	}
	free(c);
	if (!s->is_stopping)
		hold_reserve(s);
}

void
connection_set_deadline(struct connection *c, int ms)
{
	c->deadline_us = ms > 0 ? clock_us() + (int64_t)ms * US_PER_MS : INT64_MAX;
}

void
connection_drop(struct connection *c)
{
	if (c->linger != NULL) {
		connection_free(c);
		return;
	}
	c->is_dropped = true;
	shutdown(c->fd, SHUT_RDWR);
	if (c->stream != NULL)
		stream_wake(c->stream);
}

/* --- lingering --- */

static void
on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	char waste[4096];
	const ssize_t n = recv(fd, waste, sizeof(waste), 0);

	(void)what;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		connection_free(c);
}

/* True: the connection goes on as one that lingers, on a descriptor of its own. */
static bool
linger(struct connection *c)
{
	char byte;
	const ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (c->is_dropped || c->server->is_stopping || n == 0 || (n < 0 && errno != EAGAIN))
		return false;
	c->fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	c->linger = event_new(c->server->base, c->fd, EV_READ | EV_PERSIST, on_linger, c);
	if (c->linger == NULL || event_add(c->linger, NULL) < 0) {
		if (c->linger != NULL)
			event_free(c->linger);
		c->linger = NULL;
		close(c->fd);
		return false;
	}
	shutdown(c->fd, SHUT_WR);
	c->mhd = NULL;
	c->state = CONNECTION_LINGERING;
	connection_set_deadline(c, LINGER_MS);
	return true;
}

void
connection_notify(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
	struct http_server *s = arg;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		*context = s->pending;
		s->pending->mhd = mhd;
		s->pending = NULL;
	} else if (!linger(*context)) {
		connection_free(*context);
	}
}

/* --- who is dropped --- */

static bool
is_same_host(const struct address *a, const struct address *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* Makes room for a new connection: drops the oldest, of an address if it is not NULL. */
static void
drop_one(struct http_server *s, const struct address *of)
{
	struct connection *c;

	for (enum connection_state state = CONNECTION_READING; state < CONNECTION_STATES; state++)
		TAILQ_FOREACH(c, &s->connections, link)
			if (c->state == state && !c->is_dropped && (of == NULL || is_same_host(&c->address, of))) {
				connection_drop(c);
				http_server_run(s);	/* now, so that its descriptor is free */
				return;
			}
}

static size_t
count_of(const struct http_server *s, const struct address *a)
{
	const struct connection *c;
	size_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += is_same_host(&c->address, a);
	return n;
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;
	const int64_t now_us = clock_us();
	struct connection *c, *next;

	(void)fd;
	(void)what;
	for (c = TAILQ_FIRST(&s->connections); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->deadline_us <= now_us && !c->is_dropped)
			connection_drop(c);
	}
	http_server_run(s);
	if (s->n_connections > 0)
		event_add(s->look, &look_time);
}

/* --- accepting --- */

static bool
is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS;
}

static bool
has_pending(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Descriptor or -errno. Without descriptors: uses the reserve, or that of a connection that is dropped. */
static int
accept_one(struct http_server *s, struct sockaddr_storage *from, socklen_t *len)
{
	for (;;) {
		int fd;

		*len = sizeof(*from);
		fd = accept4(s->fd, (struct sockaddr *)from, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (!is_shortage(errno))
			return -errno;
		if (!has_pending(s->fd))	/* accept4() reports a shortage before it looks */
			return -EAGAIN;
		if (s->reserve < 0 && s->n_connections == 0)
			return -errno;
		if (s->reserve < 0)
			drop_one(s, NULL);
		if (s->reserve < 0)
			return -EMFILE;
		release_reserve(s);
	}
}

/* Takes fd in any case. */
static void
add(struct http_server *s, int fd, const struct sockaddr_storage *from, socklen_t len)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->address = address_from_sockaddr((const struct sockaddr *)from);
	if (count_of(s, &c->address) >= MOST_OF_ADDRESS)
		drop_one(s, &c->address);
	if (s->n_connections >= MOST)
		drop_one(s, NULL);
	connection_set_deadline(c, REQUEST_MS);
	TAILQ_INSERT_TAIL(&s->connections, c, link);
	if (s->n_connections++ == 0)
		event_add(s->look, &look_time);
	s->pending = c;
	if (MHD_add_connection(s->daemon, fd, (const struct sockaddr *)from, len) != MHD_YES || s->pending != NULL) {
		if (s->pending != NULL)		/* else the notification freed it */
			connection_free(c);
		s->pending = NULL;
	}
}

static void
on_accept(evutil_socket_t listener, short what, void *arg)
{
	struct http_server *s = arg;

	(void)listener;
	(void)what;
	for (int i = 0; i < ACCEPTS_A_ROUND; i++) {
		struct sockaddr_storage from;
		socklen_t len;
		const int fd = accept_one(s, &from, &len);

		if (fd < 0 && is_shortage(-fd)) {	/* level-triggered: it would spin */
			event_del(s->accept);
			event_add(s->resume, &pause_time);
		}
		if (fd < 0)
			break;
		add(s, fd, &from, len);
	}
	http_server_run(s);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;

	(void)fd;
	(void)what;
	hold_reserve(s);
	event_add(s->accept, NULL);
}

int
connections_open(struct http_server *s)
{
	s->accept = event_new(s->base, s->fd, EV_READ | EV_PERSIST, on_accept, s);
	s->resume = event_new(s->base, -1, 0, on_resume, s);
	s->look = event_new(s->base, -1, 0, on_look, s);
	if (s->accept == NULL || s->resume == NULL || s->look == NULL || event_add(s->accept, NULL) < 0)
		return -ENOMEM;
	hold_reserve(s);
	return 0;
}

void
connections_close(struct http_server *s)
{
	while (!TAILQ_EMPTY(&s->connections))
		connection_free(TAILQ_FIRST(&s->connections));
	release_reserve(s);
	if (s->accept != NULL)
		event_free(s->accept);
	if (s->resume != NULL)
		event_free(s->resume);
	if (s->look != NULL)
		event_free(s->look);
}
