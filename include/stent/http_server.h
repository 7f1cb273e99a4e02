/*
 * http_server.h - the HTTP server of the program: of the status page and of the
 * demonstration's page. It lives on one thread, on the caller's event_base.
 */
#ifndef STENT_HTTP_SERVER_H
#define STENT_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct evbuffer;
struct http_exchange;
struct http_server;

#define HTTP_TYPE_TEXT "text/plain; charset=utf-8"
#define HTTP_TYPE_HTML "text/html; charset=utf-8"
#define HTTP_TYPE_JSON "application/json"

/* Called for each request that has come whole; it replies once, by one of the http_reply functions. */
typedef void http_handler(void *arg, struct http_exchange *x);

/* Takes fd, a non-blocking socket that listens, and owns it on success. 0 or -errno. */
int http_server_start(struct http_server **ret, struct event_base *base, int fd, http_handler *handle, void *arg);
void http_server_free(struct http_server *s);	/* NULL is fine; drops every connection */

/* --- the request; texts are valid until the handler returns --- */

const char *http_method(const struct http_exchange *x);
const char *http_path(const struct http_exchange *x);	/* decoded, without the query */
bool http_is_1_0(const struct http_exchange *x);
/* The only header of that name; NULL: none. *is_repeated: there are several. */
const char *http_header(const struct http_exchange *x, const char *name, bool *is_repeated);
const char *http_cookie(const struct http_exchange *x, const char *name);	/* NULL: none */
const char *http_parameter(const struct http_exchange *x, const char *name);	/* of the query, decoded; NULL: none */
/* Each parameter of the query ("" for one without a value), until fn returns false: then false. */
bool http_each_parameter(const struct http_exchange *x, bool (*fn)(void *arg, const char *name, const char *value), void *arg);
/* A field of a form in the body, decoded. NULL: none. The caller frees it. */
char *http_field(const struct http_exchange *x, const char *name);

/* --- the reply --- */

/* Before the reply; name and value are copied. */
void http_add_header(struct http_exchange *x, const char *name, const char *value);
void http_reply_text(struct http_exchange *x, int status, const char *text);	/* and a newline */
/* Takes what is in body. */
void http_reply(struct http_exchange *x, int status, const char *type, struct evbuffer *body);
/* data stays as it is as long as the server lives. */
void http_reply_static(struct http_exchange *x, int status, const char *type, const void *data, size_t len);

/* A body that is made while it is sent. */
struct http_source {
	/*
	 * Appends the next piece, some kilobytes. False: that was the last one. For an event stream: what is to be sent
	 * now, which may be nothing; it is called when http_server_push() was, and never before the last piece was sent.
	 */
	bool (*next)(void *state, struct evbuffer *out);
	void (*free)(void *state);
};
/* Both own state from now on, also when they fail. */
void http_reply_pieces(struct http_exchange *x, const char *type, const struct http_source *source, void *state);
/* Server-sent events. 503 if there are too many; a client that does not read for 10 s is dropped. */
void http_reply_events(struct http_exchange *x, const struct http_source *source, void *state);

/* Asks the source of every event stream for more, one a round of the loop. */
void http_server_push(struct http_server *s);
size_t http_server_streams(const struct http_server *s);

#endif
