/*
 * stream.c - replies whose body is made while it is sent: in pieces, one after
 * the other as the client reads, so that a long one takes little memory and
 * little time of the loop at once; and event streams, without an end.
 *
 * An event stream's connection is suspended until there is something to send.
 * Its source is asked for more only when all before was taken by the socket: a
 * client that reads slowly gets fewer events, and none is queued for it. The
 * daemon does not watch a suspended connection; that its client has gone shows
 * with the next event.
 */
#include <stdlib.h>

#include "http/connection.h"
#include "stent/clock.h"
#include "stent/socket.h"

#define BLOCK (16 * 1024)
#define MOST_EVENTS 16		/* event streams; a page has two */
#define MOST_PIECES 8
#define SEND_BUFFER (64 * 1024)		/* of an event stream: what is under way would be old when it is read */
#define STALLED_US (INT64_C(10) * US_PER_S)

struct stream {
	TAILQ_ENTRY(stream) link;
	struct http_server *server;
	struct connection *connection;
	const struct http_source *source;
	void *state;
	struct evbuffer *out;
	bool is_events;
	bool is_suspended;
	bool is_due;		/* http_server_push() was called */
	bool is_over;		/* out has the last bytes */
	int64_t taken_us;	/* when the daemon last took bytes, or all were taken */
};

void
streams_open(struct http_server *s)
{
	TAILQ_INIT(&s->streams);
}

void
stream_wake(struct stream *st)
{
	if (st->is_suspended)
		MHD_resume_connection(st->connection->mhd);
	st->is_suspended = false;
}

static size_t *
count_of_kind(struct http_server *s, bool is_events)
{
	return is_events ? &s->n_events : &s->n_pieces;
}

static void
stream_free(void *arg)
{
	struct stream *st = arg;

	TAILQ_REMOVE(&st->server->streams, st, link);
	*count_of_kind(st->server, st->is_events) -= 1;
	st->source->free(st->state);
	evbuffer_free(st->out);
	free(st);
}

/* The daemon wants up to `room` bytes. */
static ssize_t
stream_read(void *arg, uint64_t at, char *data, size_t room)
{
	struct stream *st = arg;

	(void)at;
	st->taken_us = clock_us();
	if (st->connection->is_dropped || st->server->is_stopping)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (evbuffer_get_length(st->out) == 0 && !st->is_over && (!st->is_events || st->is_due)) {
		st->is_due = false;
		st->is_over = !st->source->next(st->state, st->out);
	}
	if (evbuffer_get_length(st->out) > 0)
		return evbuffer_remove(st->out, data, room);
	if (st->is_over)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (st->is_events) {
		MHD_suspend_connection(st->connection->mhd);
		st->is_suspended = true;
	}
	return 0;
}

/* NULL: x has the reply that says why, and the state was freed. */
static struct stream *
stream_new(struct http_exchange *x, const struct http_source *source, void *state, bool is_events)
{
	struct connection *c = exchange_connection(x);
	struct stream *st = NULL;

	if (*count_of_kind(c->server, is_events) < (is_events ? MOST_EVENTS : MOST_PIECES))
		st = calloc(1, sizeof(*st));
	if (st != NULL)
		st->out = evbuffer_new();
	if (st == NULL || st->out == NULL) {
		free(st);
		source->free(state);
		http_add_header(x, "Retry-After", "10");
		http_reply_text(x, MHD_HTTP_SERVICE_UNAVAILABLE, "too many of these are being read");
		return NULL;
	}
	st->connection = c;
	st->server = c->server;
	st->source = source;
	st->state = state;
	st->is_events = is_events;
	st->is_due = is_events;		/* the first event comes at once */
	st->taken_us = clock_us();
	TAILQ_INSERT_TAIL(&st->server->streams, st, link);
	*count_of_kind(c->server, is_events) += 1;
	return st;
}

static void
send_stream(struct http_exchange *x, const char *type, struct stream *st)
{
	struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, stream_read, st, stream_free);

	if (r == NULL)
		stream_free(st);
	exchange_send(x, MHD_HTTP_OK, type, r);
}

void
http_reply_pieces(struct http_exchange *x, const char *type, const struct http_source *source, void *state)
{
	struct stream *st = stream_new(x, source, state, false);

	if (st != NULL)
		send_stream(x, type, st);
}

/* --- event streams --- */

static void on_push(evutil_socket_t fd, short what, void *arg);

static void
push_soon(struct http_server *s)
{
	if (s->push == NULL)
		s->push = event_new(s->base, -1, 0, on_push, s);
	if (s->push != NULL)
		event_active(s->push, EV_TIMEOUT, 0);
}

void
http_reply_events(struct http_exchange *x, const struct http_source *source, void *state)
{
	struct connection *c = exchange_connection(x);
	struct stream *st = stream_new(x, source, state, true);

	if (st == NULL)
		return;
	c->stream = st;
	c->state = CONNECTION_STREAMING;
	connection_set_deadline(c, 0);
	socket_set_send_buffer(c->fd, SEND_BUFFER);
	send_stream(x, "text/event-stream", st);
}

/* One at a time: a source may take a while. */
static void
on_push(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;
	struct stream *st;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(st, &s->streams, link)
		if (st->is_due && st->is_suspended) {
			stream_wake(st);
			http_server_run(s);
			push_soon(s);
			return;
		}
}

void
http_server_push(struct http_server *s)
{
	const int64_t now_us = clock_us();
	struct stream *st;

	if (s->n_events == 0)
		return;
	TAILQ_FOREACH(st, &s->streams, link) {
		st->is_due = st->is_events;
		if (st->is_events && !st->is_suspended && now_us - st->taken_us > STALLED_US && !st->connection->is_dropped)
			connection_drop(st->connection);
	}
	push_soon(s);
}

size_t
http_server_streams(const struct http_server *s)
{
	return s->n_events;
}

void
streams_close(struct http_server *s)
{
	struct stream *st;

	if (s->push != NULL)
		event_free(s->push);
	s->push = NULL;
	TAILQ_FOREACH(st, &s->streams, link)
		stream_wake(st);
}
