/*
 * stream.c - takes the events of the workers and hands them on.
 *
 * A reader of `stent events` has a buffer of limited size. While it is full the
 * reader loses events, and is told how many with the next one that fits, or
 * when it has read all: {"event":"lost","count":N}. What the workers' queue
 * lost, every reader has lost.
 */
#include "admin/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stent/config.h"
#include "stent/events.h"
#include "stent/log.h"
#include "stent/server.h"
#include "stent/worker.h"

#define READERS_MAX 32
#define BUFFER_MAX (256 * 1024)		/* bytes that wait for one reader */

struct reader {
	TAILQ_ENTRY(reader) link;
	struct stream *stream;
	struct event *in, *out;
	struct evbuffer *buffer;
	char *route;			/* NULL: all */
	unsigned kinds;
	uint64_t lost;			/* and not told yet */
	int fd;
	bool writing;			/* waits until the socket takes more */
};

struct stream {
	struct server *server;
	struct event_base *base;
	struct event *queue;		/* the workers' */
	struct hook *hook;
	TAILQ_HEAD(, reader) readers;
	uint64_t n_readers, lost;
	int queue_fd;
};

/* --- what is wanted --- */

static void
update_wanted(struct stream *t)
{
	const struct config *c = server_config(t->server);
	unsigned kinds = c->on_event != NULL ? c->events : 0;
	const struct reader *r;

	TAILQ_FOREACH(r, &t->readers, link)
		kinds |= r->kinds;
	events_set_wanted(kinds);
	for (size_t i = 0; i < server_workers(t->server); i++)
		worker_watch(server_worker(t->server, i));
}

/* --- readers --- */

static void
reader_free(struct reader *r)
{
	struct stream *t = r->stream;

	TAILQ_REMOVE(&t->readers, r, link);
	t->n_readers--;
	if (r->in != NULL)
		event_free(r->in);
	if (r->out != NULL)
		event_free(r->out);
	if (r->buffer != NULL)
		evbuffer_free(r->buffer);
	if (r->fd >= 0)
		close(r->fd);
	free(r->route);
	free(r);
}

static void
tell_lost(struct reader *r)
{
	if (r->lost > 0 && evbuffer_add_printf(r->buffer, "{\"event\":\"lost\",\"count\":%" PRIu64 "}\n", r->lost) > 0)
		r->lost = 0;
}

/* False: the reader is gone, and to be freed. */
static bool
write_some(struct reader *r)
{
	while (evbuffer_get_length(r->buffer) > 0 || r->lost > 0) {
		if (evbuffer_get_length(r->buffer) == 0)
			tell_lost(r);
		if (evbuffer_write(r->buffer, r->fd) >= 0 || errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return false;
		r->writing = true;
		return event_add(r->out, NULL) == 0;
	}
	return true;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct reader *r = arg;
	struct stream *t = r->stream;

	(void)fd;
	(void)what;
	r->writing = false;
	if (write_some(r))
		return;
	reader_free(r);
	update_wanted(t);
}

/* A reader says nothing: what can be read is its end. */
static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct reader *r = arg;
	struct stream *t = r->stream;
	char waste[256];
	const ssize_t n = recv(fd, waste, sizeof(waste), 0);

	(void)what;
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	reader_free(r);
	update_wanted(t);
}

static bool
is_for(const struct reader *r, const struct event_line *e)
{
	return (r->kinds & EVENT_BIT(e->kind)) != 0 && (r->route == NULL || (e->route != NULL && strcmp(r->route, e->route) == 0));
}

static void
add_to_reader(struct reader *r, const struct event_line *e)
{
	if (evbuffer_get_length(r->buffer) + e->len <= BUFFER_MAX) {
		tell_lost(r);
		if (evbuffer_add(r->buffer, e->data, e->len) == 0)
			return;
	}
	r->lost++;
	r->stream->lost++;
}

static int
add_reader(struct stream *t, int fd, unsigned kinds, const char *route)
{
	struct reader *r;

	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -ENOMEM;
	r->stream = t;
	r->fd = -1;
	r->kinds = kinds;
	TAILQ_INSERT_TAIL(&t->readers, r, link);
	t->n_readers++;
	r->route = route != NULL ? strdup(route) : NULL;
	r->buffer = evbuffer_new();
	r->in = event_new(t->base, fd, EV_READ | EV_PERSIST, on_readable, r);
	r->out = event_new(t->base, fd, EV_WRITE, on_writable, r);
	if (r->buffer == NULL || r->in == NULL || r->out == NULL || (route != NULL && r->route == NULL) || event_add(r->in, NULL) != 0) {
		reader_free(r);
		return -ENOMEM;
	}
	r->fd = fd;
	update_wanted(t);
	return 0;
}

/* "KIND,KIND": a set; 0: one of them is unknown. */
static unsigned
read_kinds(char *list, char why[STREAM_WHY_MAX])
{
	unsigned kinds = 0;
	char *one;

	while ((one = strsep(&list, ",")) != NULL) {
		const enum event_kind kind = event_kind_find(one);

		if (kind == EVENT_KINDS) {
			snprintf(why, STREAM_WHY_MAX, "\"%.40s\" is not a kind of event; `stent help events` lists them", one);
			return 0;
		}
		kinds |= EVENT_BIT(kind);
	}
	return kinds;
}

int
stream_add_reader(struct stream *t, const char *request, int fd, char why[STREAM_WHY_MAX])
{
	char copy[512], *save, *word, *route = NULL;
	unsigned kinds = EVENT_BIT(EVENT_KINDS) - 1;
	int r;

	snprintf(copy, sizeof(copy), "%s", request);
	(void)strtok_r(copy, " \t\r\n", &save);
	while ((word = strtok_r(NULL, " \t\r\n", &save)) != NULL) {
		if (strncmp(word, "route=", 6) == 0) {
			route = word + 6;
		} else if (strncmp(word, "kind=", 5) == 0) {
			kinds = read_kinds(word + 5, why);
			if (kinds == 0)
				return -EINVAL;
		} else {
			snprintf(why, STREAM_WHY_MAX, "events takes route=NAME and kind=KIND,...");
			return -EINVAL;
		}
	}
	if (route != NULL && config_route(server_config(t->server), route) == NULL) {
		snprintf(why, STREAM_WHY_MAX, "no route \"%.60s\" in the settings", route);
		return -EINVAL;
	}
	if (t->n_readers == READERS_MAX) {
		snprintf(why, STREAM_WHY_MAX, "%d readers of events are the limit", READERS_MAX);
		return -EBUSY;
	}
	r = fd >= 0 ? add_reader(t, fd, kinds, route) : 0;
	if (r < 0)
		snprintf(why, STREAM_WHY_MAX, "%s", strerror(-r));
	return r;
}

/* --- from the queue --- */

static void
count_lost(struct stream *t, uint64_t lost)
{
	struct reader *r;

	TAILQ_FOREACH(r, &t->readers, link)
		r->lost += lost;
	t->lost += lost * t->n_readers;
	hook_lost(t->hook, lost);
}

static void
hand_on(struct stream *t, const struct event_line *e)
{
	const struct config *c = server_config(t->server);
	struct reader *r;

	if (c->on_event != NULL && (c->events & EVENT_BIT(e->kind)) != 0)
		hook_run(t->hook, e);
	TAILQ_FOREACH(r, &t->readers, link)
		if (is_for(r, e))
			add_to_reader(r, e);
}

static void
write_all(struct stream *t)
{
	bool some_gone = false;

	for (struct reader *next, *r = TAILQ_FIRST(&t->readers); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->writing || write_some(r))
			continue;
		reader_free(r);
		some_gone = true;
	}
	if (some_gone)
		update_wanted(t);
}

static void
on_queue(evutil_socket_t fd, short what, void *arg)
{
	struct stream *t = arg;
	struct event_lines lines;
	const uint64_t lost = events_take(&lines);
	struct event_line *e;

	(void)fd;
	(void)what;
	while ((e = STAILQ_FIRST(&lines)) != NULL) {
		STAILQ_REMOVE_HEAD(&lines, link);
		hand_on(t, e);
		free(e);
	}
	if (lost > 0)		/* the newest were */
		count_lost(t, lost);
	write_all(t);
}

/* --- start, end --- */

void
stream_configure(struct stream *t)
{
	const struct config *c = server_config(t->server);

	hook_configure(t->hook, c->on_event, c->event_timeout_ms);
	update_wanted(t);
}

int
stream_use_helper(struct stream *t, struct helper *h)
{
	return hook_use_helper(t->hook, t->base, h);
}

bool
stream_may_run(const struct stream *t, const char *program)
{
	return hook_may_run(t->hook, program);
}

int
stream_start(struct stream **ret, struct server *s, struct event_base *base)
{
	struct stream *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return -ENOMEM;
	t->server = s;
	t->base = base;
	TAILQ_INIT(&t->readers);
	t->queue_fd = r = events_open();
	if (r >= 0)
		r = hook_new(&t->hook, base);
	if (r == 0) {
		t->queue = event_new(base, t->queue_fd, EV_READ | EV_PERSIST, on_queue, t);
		r = t->queue != NULL && event_add(t->queue, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (r < 0) {
		stream_free(t);
		return r;
	}
	stream_configure(t);
	*ret = t;
	return 0;
}

void
stream_free(struct stream *t)
{
	if (t == NULL)
		return;
	events_set_wanted(0);
	while (!TAILQ_EMPTY(&t->readers))
		reader_free(TAILQ_FIRST(&t->readers));
	if (t->queue != NULL)
		event_free(t->queue);
	if (t->queue_fd >= 0)
		events_close();
	hook_free(t->hook);
	free(t);
}

void
stream_read_figures(const struct stream *t, struct stream_figures *ret)
{
	ret->readers = t->n_readers;
	ret->lost = t->lost;
	hook_read_figures(t->hook, ret->hooks);
}
