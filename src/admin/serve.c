/*
 * serve.c - the server of the control socket and of HTTP.
 *
 * One request per connection, with limits: of clients, of the bytes of a request,
 * and a deadline each for the whole request and the whole response.
 *
 * Idle clients must not lock others out, since a health check without a response
 * gets stent restarted. So a new client is always accepted, if need be in place
 * of the oldest whose request is incomplete, and its request is read at once.
 * One descriptor is reserved for when there are no others.
 *
 * After the response the socket is shut down for writing and read until the
 * client closes: a close with unread bytes would be a reset, which could discard
 * the end of the response.
 */
#include "admin/serve.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stent/endpoint.h"
#include "stent/socket.h"

#define MAX_CLIENTS 32
#define ACCEPTS_A_ROUND 16	/* then other events have their turn */

static const struct timeval linger = { 2, 0 };
static const struct timeval pause_time = { 1, 0 };

/* In the order in which they are dropped for a new client. */
enum client_state {
	READING,		/* its request is incomplete */
	LINGERING,		/* its response was sent */
	WRITING,
	CLIENT_STATES,
};

struct client {
	TAILQ_ENTRY(client) link;
	struct serve *serve;
	struct event *io, *end;
	struct evbuffer *out;
	int fd;
	enum client_state state;
	size_t got;
	char request[];		/* max_request + 1 */
};

struct serve {
	const struct serve_protocol *protocol;
	void *arg;
	struct event_base *base;
	struct event *accept, *resume;
	TAILQ_HEAD(client_list, client) clients;	/* the oldest first */
	size_t n_clients;
	int reserve;		/* a descriptor; -1: a client has it */
	int fd;
};

static void
hold_reserve(struct serve *s)
{
	if (s->reserve < 0)
		s->reserve = eventfd(0, EFD_CLOEXEC);
}

static void
client_free(struct client *c)
{
	struct serve *s = c->serve;

	assert(s->n_clients > 0);
	TAILQ_REMOVE(&s->clients, c, link);
	s->n_clients--;
	if (c->io != NULL)
		event_free(c->io);
	if (c->end != NULL)
		event_free(c->end);
	if (c->out != NULL)
		evbuffer_free(c->out);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
	hold_reserve(s);
}

/* Makes room for a new client. There must be one. */
static void
drop_one(struct serve *s)
{
	struct client *c;

	assert(s->n_clients > 0);
	for (enum client_state state = READING; state < CLIENT_STATES; state++)
		TAILQ_FOREACH(c, &s->clients, link)
			if (c->state == state) {
				client_free(c);
				return;
			}
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_free(arg);
}

static void on_client(evutil_socket_t fd, short what, void *arg);

/* Waits for one of the two: the response is written after the request was read. */
static int
wait_for(struct client *c, short what)
{
	return event_del(c->io) < 0 ||
	    event_assign(c->io, c->serve->base, c->fd, (short)(what | EV_PERSIST), on_client, c) < 0 ||
	    event_add(c->io, NULL) < 0 ? -ENOMEM : 0;
}

/* False: the client is to be freed. */
static bool
write_response(struct client *c)
{
	while (evbuffer_get_length(c->out) > 0) {
		if (evbuffer_write(c->out, c->fd) >= 0)
			continue;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN && wait_for(c, EV_WRITE) == 0;
	}
	assert(c->state == WRITING);
	c->state = LINGERING;
	shutdown(c->fd, SHUT_WR);
	event_add(c->end, &linger);
	return wait_for(c, EV_READ) == 0;
}

static void
set_deadline(struct client *c, int ms)
{
	event_add(c->end, &(struct timeval){ ms / 1000, ms % 1000 * 1000 });
}

static bool
respond(struct client *c, char *request)
{
	assert(c->state == READING);	/* one request per connection */
	if (request != NULL && c->serve->protocol->take != NULL && c->serve->protocol->take(c->serve->arg, request, c->fd)) {
		c->fd = -1;
		return false;
	}
	c->state = WRITING;
	set_deadline(c, c->serve->protocol->response_ms);
	c->serve->protocol->respond(c->serve->arg, request, c->out);
	return write_response(c);
}

static bool
read_request(struct client *c)
{
	const struct serve_protocol *p = c->serve->protocol;
	ssize_t n = recv(c->fd, c->request + c->got, p->max_request - c->got, 0);
	size_t len;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	c->got += (size_t)n;
	assert(c->got <= p->max_request);
	c->request[c->got] = '\0';
	len = p->measure(c->request, c->got);
	if (len > 0) {
		c->request[len] = '\0';
		return respond(c, c->request);
	}
	return c->got < p->max_request || respond(c, NULL);
}

static bool
discard(struct client *c)
{
	char waste[4096];
	ssize_t n = recv(c->fd, waste, sizeof(waste), 0);

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void
on_client(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	bool goes_on;

	(void)fd;
	if (what & EV_WRITE)
		goes_on = write_response(c);
	else
		goes_on = c->state == READING ? read_request(c) : discard(c);
	if (!goes_on)
		client_free(c);
}

/* Takes fd in any case. NULL: out of memory. */
static struct client *
client_add(struct serve *s, int fd)
{
	struct client *c = calloc(1, sizeof(*c) + s->protocol->max_request + 1);

	if (c == NULL) {
		close(fd);
		return NULL;
	}
	c->serve = s;
	c->fd = fd;
	c->state = READING;
	TAILQ_INSERT_TAIL(&s->clients, c, link);
	s->n_clients++;
	c->out = evbuffer_new();
	c->io = event_new(s->base, fd, EV_READ | EV_PERSIST, on_client, c);
	c->end = event_new(s->base, -1, 0, on_deadline, c);
	if (c->out == NULL || c->io == NULL || c->end == NULL || event_add(c->io, NULL) < 0) {
		client_free(c);
		return NULL;
	}
	set_deadline(c, s->protocol->request_ms);
	return c;
}

static bool
is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS;
}

/* Descriptor or -errno. Without descriptors: uses the reserve, or that of a client that is dropped. */
static int
accept_one(struct serve *s)
{
	for (;;) {
		const int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			return fd;
		if (!is_shortage(errno))
			return -errno;
		if (s->reserve >= 0) {
			close(s->reserve);
			s->reserve = -1;
		} else if (s->n_clients > 0) {
			drop_one(s);
			if (s->reserve >= 0)
				close(s->reserve);	/* the client's descriptor is for the next */
			s->reserve = -1;
		} else {
			return -errno;
		}
	}
}

static void
on_accept(evutil_socket_t listener, short what, void *arg)
{
	struct serve *s = arg;

	(void)listener;
	(void)what;
	for (int i = 0; i < ACCEPTS_A_ROUND; i++) {
		const int fd = accept_one(s);
		struct client *c;

		if (fd < 0 && is_shortage(-fd)) {	/* level-triggered: it would spin */
			event_del(s->accept);
			event_add(s->resume, &pause_time);
		}
		if (fd < 0)
			return;
		if (s->n_clients == MAX_CLIENTS)
			drop_one(s);
		assert(s->n_clients < MAX_CLIENTS);
		c = client_add(s, fd);
		if (c != NULL && !read_request(c))
			client_free(c);
	}
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct serve *s = arg;

	(void)fd;
	(void)what;
	hold_reserve(s);
	event_add(s->accept, NULL);
}

int
serve_listen(const struct endpoint *ep, const char **why)
{
	static const struct keepalive no_options;
	static const struct unix_access owner_only = { .mode = 0600 };
	const int fd = socket_listen(ep, &no_options, &owner_only, why);

	if (fd >= 0 && ep->kind != ENDPOINT_UNIX)
		socket_defer_accept(fd, 1);	/* a client that sends nothing takes no place */
	return fd;
}

int
serve_start(struct serve **ret, struct event_base *base, int fd, const struct serve_protocol *p, void *arg)
{
	struct serve *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->protocol = p;
	s->arg = arg;
	s->base = base;
	s->fd = -1;		/* the caller's, until nothing can fail */
	s->reserve = -1;
	TAILQ_INIT(&s->clients);
	s->accept = event_new(base, fd, EV_READ | EV_PERSIST, on_accept, s);
	s->resume = event_new(base, -1, 0, on_resume, s);
	if (s->accept == NULL || s->resume == NULL || event_add(s->accept, NULL) < 0) {
		serve_free(s);
		return -ENOMEM;
	}
	s->fd = fd;
	hold_reserve(s);
	*ret = s;
	return 0;
}

void
serve_free(struct serve *s)
{
	if (s == NULL)
		return;
	while (!TAILQ_EMPTY(&s->clients))
		client_free(TAILQ_FIRST(&s->clients));
	if (s->reserve >= 0)
		close(s->reserve);
	if (s->accept != NULL)
		event_free(s->accept);
	if (s->resume != NULL)
		event_free(s->resume);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
