/*
 * http_server.c - libmicrohttpd on libevent: the library parses, this module
 * bounds.
 *
 * The daemon has neither a thread nor a listening socket of its own. Its epoll
 * descriptor is an event of the caller's loop, and connections.c accepts for it:
 * the library has only an idle timeout, which a byte every second defeats, and
 * at its limit it stops accepting, so that idle clients would lock out a health
 * check.
 *
 *   connections.c  accepting; the table of connections; deadlines; who is dropped
 *   exchange.c     one request and its reply
 *   stream.c       replies in pieces, and event streams
 */
#include "stent/http_server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "http/connection.h"

#define MEMORY (16 * 1024)	/* per connection: its request's head, and that of the reply */
#define DAEMON_LIMIT 256	/* the table is smaller: this limit is never met */

/* The daemon's timer: what it did not finish continues after other events had their turn. */
static void
schedule(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
		event_del(s->again);
	else
		event_add(s->again, &(struct timeval){ (time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000) });
}

void
http_server_run(struct http_server *s)
{
	MHD_run(s->daemon);
	schedule(s);
}

static void
on_daemon(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	http_server_run(arg);
}

static int
open_daemon(struct http_server *s)
{
	const union MHD_DaemonInfo *info;

	s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
	    exchange_on_request, s,
	    MHD_OPTION_NOTIFY_CONNECTION, connection_notify, s,
	    MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, s,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)DAEMON_LIMIT,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY,
	    MHD_OPTION_CONNECTION_TIMEOUT, 0U,
	    MHD_OPTION_STRICT_FOR_CLIENT, 1,
	    MHD_OPTION_END);
	info = s->daemon != NULL ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (info == NULL)
		return -ENOMEM;
	s->ready = event_new(s->base, info->epoll_fd, EV_READ | EV_PERSIST, on_daemon, s);
	s->again = event_new(s->base, -1, 0, on_daemon, s);
	return s->ready != NULL && s->again != NULL && event_add(s->ready, NULL) == 0 ? 0 : -ENOMEM;
}

int
http_server_start(struct http_server **ret, struct event_base *base, int fd, http_handler *handle, void *arg)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->base = base;
	s->handle = handle;
	s->arg = arg;
	s->fd = fd;
	s->reserve = -1;
	TAILQ_INIT(&s->connections);
	streams_open(s);
	r = open_daemon(s);
	if (r == 0)
		r = connections_open(s);
	if (r < 0) {
		s->fd = -1;	/* the caller's */
		http_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void
http_server_free(struct http_server *s)
{
	if (s == NULL)
		return;
	s->is_stopping = true;
	streams_close(s);
	if (s->daemon != NULL) {
		MHD_run(s->daemon);	/* connections that streams_close() resumed must not be suspended when it stops */
		MHD_stop_daemon(s->daemon);
	}
	connections_close(s);
	if (s->ready != NULL)
		event_free(s->ready);
	if (s->again != NULL)
		event_free(s->again);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
