/* connection.h - what the files of src/http share. */
#ifndef STENT_HTTP_CONNECTION_H
#define STENT_HTTP_CONNECTION_H

#include <event2/event.h>
#include <event2/buffer.h>
#include <microhttpd.h>
#include <stdint.h>
#include <sys/queue.h>

#include "stent/endpoint.h"
#include "stent/http_server.h"

/* In the order in which they are dropped for a new connection. */
enum connection_state {
	CONNECTION_READING,	/* its request is not complete, or it waits for the next one */
	CONNECTION_LINGERING,	/* closed by us: what the client still sends is read and discarded */
	CONNECTION_WRITING,
	CONNECTION_STREAMING,
	CONNECTION_STATES,
};

struct connection {
	TAILQ_ENTRY(connection) link;
	struct http_server *server;
	struct MHD_Connection *mhd;
	struct event *linger;	/* of fd, which is ours then */
	int fd;
	struct address address;	/* of the client */
	enum connection_state state;
	int64_t deadline_us;
	bool is_dropped;
	struct stream *stream;
};

struct http_server {
	struct event_base *base;
	struct MHD_Daemon *daemon;
	struct event *ready, *again;	/* the daemon's epoll; the daemon has more to do */
	struct event *accept, *resume, *look, *push;
	http_handler *handle;
	void *arg;
	TAILQ_HEAD(connection_list, connection) connections;	/* the oldest first */
	size_t n_connections;
	struct connection *pending;	/* being added to the daemon */
	TAILQ_HEAD(stream_list, stream) streams;
	size_t n_events, n_pieces;	/* streams of both kinds */
	int reserve;			/* a descriptor; -1: a client has it */
	int fd;
	bool is_stopping;
};

/* connections.c: the table, and its bounds. */
int connections_open(struct http_server *s);
void connections_close(struct http_server *s);
void connection_set_deadline(struct connection *c, int ms);
/* Has it closed; its entry goes when the daemon has noticed. */
void connection_drop(struct connection *c);
/* For MHD_OPTION_NOTIFY_CONNECTION. */
void connection_notify(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what);

/* exchange.c: for MHD_start_daemon() and MHD_OPTION_NOTIFY_COMPLETED. */
enum MHD_Result exchange_on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
    const char *version, const char *data, size_t *len, void **request);
void exchange_on_completed(void *arg, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode how);
struct connection *exchange_connection(const struct http_exchange *x);
/* Sends it, with the headers of all replies, and releases it. NULL: out of memory. */
void exchange_send(struct http_exchange *x, int status, const char *type, struct MHD_Response *response);

/* stream.c */
void streams_open(struct http_server *s);
void streams_close(struct http_server *s);
void stream_wake(struct stream *st);	/* so that the daemon looks at its connection */

/* http_server.c: lets the daemon work. Not from within one of its calls. */
void http_server_run(struct http_server *s);

#endif
