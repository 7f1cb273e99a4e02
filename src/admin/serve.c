/*
 * serve.c - the one way in which the administration talks.
 *
 * A client sends a request, gets an answer and is done; it never has a second
 * request on its connection. That keeps every bound simple: so many clients,
 * so many bytes of a request, and one deadline for the whole of it, which
 * drops a stuck reader and a writer of one byte a second alike. When there are
 * as many clients as may be, or no descriptors are left, the others wait in
 * the kernel's queue: listening pauses.
 *
 * After the answer our direction is closed and what still comes is thrown away
 * until the client closes too: a close with unread bytes would be a reset, and
 * could take the answer's last bytes along.
 */
#include "admin/serve.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 32

static const struct timeval linger = { 2, 0 };
static const struct timeval pause_time = { 1, 0 };

struct client {
	LIST_ENTRY(client) link;
	struct serve *serve;
	struct event *io, *end;
	struct evbuffer *out;
	int fd;
	bool answered;
	size_t got;
	char request[];		/* max_request + 1 */
};

struct serve {
	const struct serve_protocol *protocol;
	void *arg;
	struct event_base *base;
	struct event *accept, *resume;
	LIST_HEAD(client_list, client) clients;
	size_t n_clients;
	int fd;
};

static void
client_free(struct client *c)
{
	struct serve *s = c->serve;

	LIST_REMOVE(c, link);
	if (s->n_clients-- == MAX_CLIENTS)
		event_add(s->accept, NULL);
	if (c->io != NULL)
		event_free(c->io);
	if (c->end != NULL)
		event_free(c->end);
	if (c->out != NULL)
		evbuffer_free(c->out);
	close(c->fd);
	free(c);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_free(arg);
}

static void on_client(evutil_socket_t fd, short what, void *arg);

/* Waits for one of both: the answer is written after the request has been read. */
static int
wait_for(struct client *c, short what)
{
	return event_del(c->io) < 0 ||
	    event_assign(c->io, c->serve->base, c->fd, (short)(what | EV_PERSIST), on_client, c) < 0 ||
	    event_add(c->io, NULL) < 0 ? -ENOMEM : 0;
}

/* False: the client is gone or done, and to be freed. */
static bool
write_answer(struct client *c)
{
	while (evbuffer_get_length(c->out) > 0) {
		if (evbuffer_write(c->out, c->fd) >= 0)
			continue;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN && wait_for(c, EV_WRITE) == 0;
	}
	shutdown(c->fd, SHUT_WR);
	event_add(c->end, &linger);
	return wait_for(c, EV_READ) == 0;
}

static bool
answer(struct client *c, char *request)
{
	c->answered = true;
	c->serve->protocol->answer(c->serve->arg, request, c->out);
	return write_answer(c);
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
	c->request[c->got] = '\0';
	len = p->measure(c->request, c->got);
	if (len > 0) {
		c->request[len] = '\0';
		return answer(c, c->request);
	}
	return c->got < p->max_request || answer(c, NULL);
}

static bool
throw_away(struct client *c)
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
		goes_on = write_answer(c);
	else
		goes_on = c->answered ? throw_away(c) : read_request(c);
	if (!goes_on)
		client_free(c);
}

/* Takes fd in any case. */
static void
client_add(struct serve *s, int fd)
{
	struct client *c = calloc(1, sizeof(*c) + s->protocol->max_request + 1);
	int ms = s->protocol->deadline_ms;

	if (c == NULL) {
		close(fd);
		return;
	}
	c->serve = s;
	c->fd = fd;
	LIST_INSERT_HEAD(&s->clients, c, link);
	if (++s->n_clients == MAX_CLIENTS)
		event_del(s->accept);
	c->out = evbuffer_new();
	c->io = event_new(s->base, fd, EV_READ | EV_PERSIST, on_client, c);
	c->end = event_new(s->base, -1, 0, on_deadline, c);
	if (c->out == NULL || c->io == NULL || c->end == NULL || event_add(c->io, NULL) < 0 ||
	    event_add(c->end, &(struct timeval){ ms / 1000, ms % 1000 * 1000 }) < 0)
		client_free(c);
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct serve *s = arg;
	int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (client >= 0) {
		client_add(s, client);
		return;
	}
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
		return;
	/* Level-triggered: to go on listening would spin. */
	event_del(s->accept);
	event_add(s->resume, &pause_time);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct serve *s = arg;

	(void)fd;
	(void)what;
	if (s->n_clients < MAX_CLIENTS)
		event_add(s->accept, NULL);
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
	s->fd = -1;
	LIST_INIT(&s->clients);
	s->accept = event_new(base, fd, EV_READ | EV_PERSIST, on_accept, s);
	s->resume = event_new(base, -1, 0, on_resume, s);
	if (s->accept == NULL || s->resume == NULL || event_add(s->accept, NULL) < 0) {
		serve_free(s);
		return -ENOMEM;
	}
	s->fd = fd;
	*ret = s;
	return 0;
}

void
serve_free(struct serve *s)
{
	if (s == NULL)
		return;
	while (!LIST_EMPTY(&s->clients))
		client_free(LIST_FIRST(&s->clients));
	if (s->accept != NULL)
		event_free(s->accept);
	if (s->resume != NULL)
		event_free(s->resume);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
