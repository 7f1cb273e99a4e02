/*
 * http_server.c - HTTP for a browser, a scraper and a health check: GET and HEAD,
 * one request per connection, read-only.
 *
 * libevent's evhttp has no limit on connections and no deadline for a whole
 * request; serve.c has both.
 *
 * A page of another site may make a browser send requests here, but cannot read
 * the responses, as there is no CORS. With DNS rebinding it could: hosts.c
 * decides which Host headers are accepted.
 */
#include "admin/http_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "admin/hosts.h"
#include "admin/metrics.h"
#include "admin/page.h"
#include "admin/serve.h"
#include "admin/view.h"
#include "stent/endpoint.h"
#include "stent/server.h"

struct http {
	struct server *server;
	struct serve *serve;
};

struct request {
	char *method, *path, *query;	/* query: after the ?, or empty */
	const char *host;		/* NULL: none */
	bool needs_host;		/* HTTP/1.1 */
};

struct response {
	int status;
	const char *type;
	const char *extra;		/* header lines of its own, or empty */
	struct evbuffer *body;
};

#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_JSON "application/json"

static void
respond_text(struct response *r, int status, const char *text)
{
	r->status = status;
	r->type = TYPE_TEXT;
	evbuffer_drain(r->body, evbuffer_get_length(r->body));
	evbuffer_add_printf(r->body, "%s\n", text);
}

static void
respond_json(struct response *r, json_t *j)
{
	r->type = TYPE_JSON;
	if (view_write(r->body, j) < 0)
		respond_text(r, 503, "out of memory");
}

/* --- the pages --- */

static void
get_page(struct http *h, char *query, struct response *r)
{
	(void)h;
	(void)query;
	r->type = "text/html; charset=utf-8";
	r->extra = page_headers;
	evbuffer_add_reference(r->body, page_html, page_html_len, NULL, NULL);
}

static void
get_status(struct http *h, char *query, struct response *r)
{
	(void)query;
	respond_json(r, view_status(h->server));
}

static void
get_flows(struct http *h, char *query, struct response *r)
{
	struct flow_query q = FLOW_QUERY_DEFAULT;
	char *save = NULL;

	for (char *word = strtok_r(query, "&", &save); word != NULL; word = strtok_r(NULL, "&", &save))
		if (flow_query_read(&q, word) < 0) {
			respond_text(r, 400, "/flows takes limit=N and sort=age|new|bytes|idle|rtt");
			return;
		}
	respond_json(r, view_flows(h->server, &q));
}

static void
get_metrics(struct http *h, char *query, struct response *r)
{
	(void)query;
	r->type = "text/plain; version=0.0.4; charset=utf-8";
	metrics_write(r->body, h->server);
}

static void
get_health(struct http *h, char *query, struct response *r)
{
	(void)query;
	if (server_is_draining(h->server))
		respond_text(r, 503, "draining");
	else
		respond_text(r, 200, "ok");
}

static const struct {
	const char *path;
	void (*get)(struct http *h, char *query, struct response *r);
} pages[] = {
	{ "/", get_page },
	{ "/status", get_status },
	{ "/flows", get_flows },
	{ "/metrics", get_metrics },
	{ "/healthz", get_health },
};

/* --- requests --- */

/* For an unknown host name: says what to do, and quotes it only if it is a name. */
static void
respond_untrusted(struct response *r, const char *name)
{
	char text[2 * HOSTS_NAME_MAX + 256];

	if (endpoint_is_name(name))
		snprintf(text, sizeof(text), "unknown host \"%s\"; write admin_hosts = %s in [stent], or use an address, localhost, or a name "
		    "without a dot", name, name);
	else
		snprintf(text, sizeof(text), "the Host header is not a host; use an address, localhost, a name of this machine, or one of "
		    "admin_hosts in [stent]");
	respond_text(r, 403, text);
}

/* False: the response says why. */
static bool
check_host(const struct http *h, const char *header, struct response *r)
{
	char name[HOSTS_NAME_MAX] = "";
	bool is_address;

	if (hosts_read(header, name, &is_address) && (is_address || hosts_trust(name, server_config(h->server)->admin_hosts)))
		return true;
	respond_untrusted(r, name);
	return false;
}

/* Reads a header line "Host: value" in place; NULL when it is another. */
static char *
host_value(char *line)
{
	if (strncasecmp(line, "host:", 5) != 0)
		return NULL;
	line += 5;
	line += strspn(line, " \t");
	line[strcspn(line, " \t")] = '\0';
	return line;
}

/* Parses the text in place. 0, or the status of the error. */
static int
read_request(struct request *q, char *text)
{
	char *save = NULL, *line = strtok_r(text, "\r\n", &save), *version;

	*q = (struct request){ .query = "" };
	if (line == NULL)
		return 400;
	q->method = strsep(&line, " ");
	q->path = strsep(&line, " ");
	version = line;
	if (q->path == NULL || version == NULL || strncmp(version, "HTTP/1.", 7) != 0 || q->path[0] != '/')
		return 400;
	q->needs_host = strcmp(version, "HTTP/1.0") != 0;
	while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
		char *host = host_value(line);

		if (host != NULL && q->host != NULL)
			return 400;
		if (host != NULL)
			q->host = host;
	}
	if (strchr(q->path, '?') != NULL) {
		q->query = strchr(q->path, '?');
		*q->query++ = '\0';
	}
	return 0;
}

static void
handle_request(struct http *h, struct request *q, struct response *r)
{
	if (q->host == NULL && q->needs_host) {
		respond_text(r, 400, "the Host header is missing");
		return;
	}
	if (q->host != NULL && !check_host(h, q->host, r))
		return;
	if (strcmp(q->method, "GET") != 0 && strcmp(q->method, "HEAD") != 0) {
		r->extra = "Allow: GET, HEAD\r\n";
		respond_text(r, 405, "only GET and HEAD are allowed");
		return;
	}
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (strcmp(q->path, pages[i].path) == 0) {
			pages[i].get(h, q->query, r);
			return;
		}
	respond_text(r, 404, "not found; use one of /, /status, /flows, /metrics and /healthz");
}

static const char *
status_text(int status)
{
	static const struct { int status; const char *text; } texts[] = {
		{ 200, "OK" }, { 400, "Bad Request" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 431, "Request Header Fields Too Large" },
		{ 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "Error";
}

static void
on_request(void *arg, char *text, struct evbuffer *out)
{
	struct response r = { .status = 200, .type = TYPE_TEXT, .extra = "", .body = evbuffer_new() };
	struct request q = { 0 };
	int wrong;

	if (r.body == NULL)
		return;
	wrong = text == NULL ? 431 : read_request(&q, text);
	if (wrong != 0)
		respond_text(&r, wrong, wrong == 431 ? "the request is too long" : "not an HTTP/1 request");
	else
		handle_request(arg, &q, &r);
	evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
	    "Cross-Origin-Resource-Policy: same-origin\r\n%s\r\n",
	    r.status, status_text(r.status), r.type, evbuffer_get_length(r.body), r.extra);
	if (q.method == NULL || strcmp(q.method, "HEAD") != 0)
		evbuffer_add_buffer(out, r.body);
	evbuffer_free(r.body);
}

/* The request ends at the first empty line; GET has no body. */
static size_t
measure(const char *data, size_t len)
{
	const char *crlf = memmem(data, len, "\r\n\r\n", 4), *lf = memmem(data, len, "\n\n", 2);

	if (crlf != NULL && (lf == NULL || crlf < lf))
		return (size_t)(crlf - data) + 4;
	return lf == NULL ? 0 : (size_t)(lf - data) + 2;
}

static const struct serve_protocol protocol = {
	.max_request = 16 * 1024, .request_ms = 2000, .response_ms = 10000, .measure = measure, .respond = on_request,
};

/* Returns a descriptor, or -errno and why. */
static int
open_socket(const char *where, const char **why)
{
	struct endpoint ep;
	int fd = -EINVAL;

	if (endpoint_parse(&ep, where, ENDPOINT_LISTEN, why) < 0)
		return -EINVAL;
	*why = "not a HOST:PORT";
	if (ep.kind == ENDPOINT_ADDRESS || ep.kind == ENDPOINT_ANY)
		fd = serve_listen(&ep, why);
	endpoint_clear(&ep);
	return fd;
}

int
http_start(struct http **ret, struct server *s, struct event_base *base, const char *where, const char **why)
{
	struct http *h = calloc(1, sizeof(*h));
	int r, fd;

	*why = NULL;
	if (h == NULL)
		return -ENOMEM;
	h->server = s;
	fd = open_socket(where, why);
	if (fd < 0) {
		free(h);
		return fd;
	}
	r = serve_start(&h->serve, base, fd, &protocol, h);
	if (r < 0) {
		close(fd);
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void
http_free(struct http *h)
{
	if (h == NULL)
		return;
	serve_free(h->serve);
	free(h);
}
