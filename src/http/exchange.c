/*
 * exchange.c - one request and its reply.
 *
 * The daemon calls once with the head, again with each piece of a body, and once
 * more at its end; the handler is called then. A body is kept up to BODY_MAX,
 * which is enough for a form.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/connection.h"

#define BODY_MAX 1024
#define HEADERS_MAX 8
#define KEEP_MS 10000		/* an idle connection, to the end of its next request */
#define REPLY_MS 30000

struct http_exchange {
	struct MHD_Connection *mhd;
	struct connection *connection;
	const char *method, *path, *version;
	char body[BODY_MAX + 1];
	size_t body_len;
	bool is_too_long;
	char *names[HEADERS_MAX], *values[HEADERS_MAX];
	size_t n_headers;
	enum MHD_Result result;
};

/* --- the request --- */

const char *
http_method(const struct http_exchange *x)
{
	return x->method;
}

const char *
http_path(const struct http_exchange *x)
{
	return x->path;
}

bool
http_is_1_0(const struct http_exchange *x)
{
	return strcmp(x->version, "HTTP/1.0") == 0;
}

struct search {
	const char *name, *value;
	size_t n;
};

static enum MHD_Result
find_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct search *s = arg;

	(void)kind;
	if (strcasecmp(name, s->name) == 0 && s->n++ == 0)
		s->value = value;
	return MHD_YES;
}

const char *
http_header(const struct http_exchange *x, const char *name, bool *is_repeated)
{
	struct search s = { .name = name };

	MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, find_header, &s);
	*is_repeated = s.n > 1;
	return s.value;
}

const char *
http_cookie(const struct http_exchange *x, const char *name)
{
	return MHD_lookup_connection_value(x->mhd, MHD_COOKIE_KIND, name);
}

const char *
http_parameter(const struct http_exchange *x, const char *name)
{
	return MHD_lookup_connection_value(x->mhd, MHD_GET_ARGUMENT_KIND, name);
}

struct each {
	bool (*fn)(void *arg, const char *name, const char *value);
	void *arg;
	bool goes_on;
};

static enum MHD_Result
each_parameter(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct each *e = arg;

	(void)kind;
	e->goes_on = e->fn(e->arg, name, value != NULL ? value : "");
	return e->goes_on ? MHD_YES : MHD_NO;
}

bool
http_each_parameter(const struct http_exchange *x, bool (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	struct each e = { fn, arg, true };

	MHD_get_connection_values(x->mhd, MHD_GET_ARGUMENT_KIND, each_parameter, &e);
	return e.goes_on;
}

char *
http_field(const struct http_exchange *x, const char *name)
{
	const size_t len = strlen(name);

	for (const char *at = x->body; *at != '\0'; at += strcspn(at, "&"), at += *at == '&') {
		char *value;

		if (strncmp(at, name, len) != 0 || at[len] != '=')
			continue;
		value = strndup(at + len + 1, strcspn(at + len + 1, "&"));
		if (value == NULL)
			return NULL;
		for (char *c = value; *c != '\0'; c++)
			if (*c == '+')
				*c = ' ';
		MHD_http_unescape(value);
		return value;
	}
	return NULL;
}

/* --- the reply --- */

struct connection *
exchange_connection(const struct http_exchange *x)
{
	return x->connection;
}

void
http_add_header(struct http_exchange *x, const char *name, const char *value)
{
	assert(x->n_headers < HEADERS_MAX);
	x->names[x->n_headers] = strdup(name);
	x->values[x->n_headers] = strdup(value);
	x->n_headers++;
}

void
exchange_send(struct http_exchange *x, int status, const char *type, struct MHD_Response *response)
{
	static const char *const always[][2] = {
		{ "Cache-Control", "no-store" }, { "X-Content-Type-Options", "nosniff" },
		{ "Cross-Origin-Resource-Policy", "same-origin" }, { "Referrer-Policy", "no-referrer" },
	};

	x->result = MHD_NO;	/* closes the connection */
	if (response == NULL)
		return;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		MHD_add_response_header(response, always[i][0], always[i][1]);
	for (size_t i = 0; i < x->n_headers; i++)
		if (x->names[i] != NULL && x->values[i] != NULL)
			MHD_add_response_header(response, x->names[i], x->values[i]);
	x->result = MHD_queue_response(x->mhd, (unsigned)status, response);
	MHD_destroy_response(response);
}

void
http_reply_static(struct http_exchange *x, int status, const char *type, const void *data, size_t len)
{
	exchange_send(x, status, type, MHD_create_response_from_buffer(len, (void *)(uintptr_t)data,
	    MHD_RESPMEM_PERSISTENT));
}

void
http_reply(struct http_exchange *x, int status, const char *type, struct evbuffer *body)
{
	const size_t len = evbuffer_get_length(body);
	char *data = malloc(len + 1);

	if (data == NULL) {
		exchange_send(x, status, type, NULL);
		return;
	}
	evbuffer_remove(body, data, len);
	exchange_send(x, status, type, MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE));
}

void
http_reply_text(struct http_exchange *x, int status, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL || evbuffer_add_printf(body, "%s\n", text) < 0)
		exchange_send(x, status, HTTP_TYPE_TEXT, NULL);
	else
		http_reply(x, status, HTTP_TYPE_TEXT, body);
	if (body != NULL)
		evbuffer_free(body);
}

/* --- the daemon's calls --- */

static void
handle(struct http_server *s, struct http_exchange *x)
{
	x->connection->state = CONNECTION_WRITING;
	connection_set_deadline(x->connection, REPLY_MS);
	x->result = MHD_NO;
	if (x->is_too_long)
		http_reply_text(x, MHD_HTTP_CONTENT_TOO_LARGE, "the request's body is too long");
	else
		s->handle(s->arg, x);
}

enum MHD_Result
exchange_on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
    const char *data, size_t *len, void **request)
{
	struct http_exchange *x = *request;

	if (x == NULL) {
		x = calloc(1, sizeof(*x));
		if (x == NULL)
			return MHD_NO;
		x->mhd = mhd;
		x->connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
		*request = x;
		return MHD_YES;
	}
	if (*len > 0) {
		const size_t room = BODY_MAX - x->body_len, n = *len < room ? *len : room;

		x->is_too_long |= *len > room;
		memcpy(x->body + x->body_len, data, n);
		x->body_len += n;
		*len = 0;
		return MHD_YES;
	}
	x->method = method;
	x->path = url;
	x->version = version;
	handle(arg, x);
	return x->result;
}

void
exchange_on_completed(void *arg, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode how)
{
	struct http_exchange *x = *request;

	(void)arg;
	(void)mhd;
	(void)how;
	if (x == NULL)
		return;
	x->connection->state = CONNECTION_READING;
	x->connection->stream = NULL;
	connection_set_deadline(x->connection, KEEP_MS);
	for (size_t i = 0; i < x->n_headers; i++) {
		free(x->names[i]);
		free(x->values[i]);
	}
	free(x);
	*request = NULL;
}
