/*
 * web.c - HTTP for a browser, a scraper and a health check: what is at which
 * path. All of it only reads, but for the form that logs a browser in, and
 * /quitquitquit, which the settings have to allow.
 *
 * /healthz and /readyz need no token: they are for probes, and say nothing of
 * the flows.
 */
#include "admin/web.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/access.h"
#include "admin/census.h"
#include "admin/feed.h"
#include "admin/history.h"
#include "admin/listing.h"
#include "admin/metrics.h"
#include "admin/page.h"
#include "admin/ready.h"
#include "admin/serve.h"
#include "admin/status.h"
#include "admin/view.h"
#include "stent/endpoint.h"
#include "stent/http_server.h"
#include "stent/log.h"
#include "stent/server.h"

#define PIECE 8192	/* bytes of a listing made at once */

struct web {
	struct server *server;
	struct event_base *base;
	const struct stream *events;
	struct http_server *http;
	struct access access;
	struct history *history;
	struct census *census;
	struct event *quit;	/* runs when the reply has been sent */
};

static const struct timeval quit_after = { .tv_usec = 50000 };

/* Takes body. */
static void
reply_body(struct http_exchange *x, const char *type, struct evbuffer *body, bool is_whole)
{
	if (body != NULL && is_whole)
		http_reply(x, 200, type, body);
	else
		http_reply_text(x, 503, "out of memory");
	if (body != NULL)
		evbuffer_free(body);
}

static void
reply_json(struct http_exchange *x, json_t *j)
{
	struct evbuffer *body = evbuffer_new();
	const bool is_whole = body != NULL && view_write(body, j) == 0;

	reply_body(x, HTTP_TYPE_JSON, body, is_whole);
}

/* --- the paths --- */

static void
get_page(struct web *w, struct http_exchange *x)
{
	(void)w;
	http_add_header(x, "Content-Security-Policy", page_policy);
	http_reply_static(x, 200, HTTP_TYPE_HTML, page_html, page_html_len);
}

static void
get_status(struct web *w, struct http_exchange *x)
{
	reply_json(x, status_json(w->server, w->census));
}

struct flows_reply {
	struct listing *listing;
	bool is_begun;
};

static bool
flows_next(void *state, struct evbuffer *out)
{
	struct flows_reply *f = state;

	while (listing_has_more(f->listing) && evbuffer_get_length(out) < PIECE) {
		evbuffer_add_printf(out, f->is_begun ? "," : "[");
		f->is_begun = true;
		if (view_write(out, listing_next(f->listing)) < 0)
			return false;
	}
	if (listing_has_more(f->listing))
		return true;
	evbuffer_add_printf(out, f->is_begun ? "]\n" : "[]\n");
	return false;
}

static void
flows_free(void *state)
{
	struct flows_reply *f = state;

	listing_free(f->listing);
	free(f);
}

static bool
read_flow_query(void *arg, const char *name, const char *value)
{
	return flow_query_read(arg, name, value) == 0;
}

static void
get_flows(struct web *w, struct http_exchange *x)
{
	static const struct http_source source = { flows_next, flows_free };
	struct flow_query q = FLOW_QUERY_DEFAULT;
	struct flows_reply *f;

	if (!http_each_parameter(x, read_flow_query, &q)) {
		http_reply_text(x, 400, "/flows takes limit=N, sort=age|new|bytes|idle|rtt|heartbeats|protection|route, " FILTER_NAMES);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f != NULL)
		f->listing = listing_open(w->server, &q);
	if (f != NULL && f->listing != NULL) {
		http_reply_pieces(x, HTTP_TYPE_JSON, &source, f);
		return;
	}
	free(f);
	http_reply_text(x, 503, "out of memory");
}

static void
get_metrics(struct web *w, struct http_exchange *x)
{
	struct evbuffer *body = evbuffer_new();

	if (body != NULL)
		metrics_write(body, w->server, w->events, w->census);
	reply_body(x, "text/plain; version=0.0.4; charset=utf-8", body, true);
}

static void
get_health(struct web *w, struct http_exchange *x)
{
	if (server_is_draining(w->server))
		http_reply_text(x, 503, "draining");
	else
		http_reply_text(x, 200, "ok");
}

static void
get_ready(struct web *w, struct http_exchange *x)
{
	char why[READY_WHY_MAX];

	if (ready_is(w->server, why))
		http_reply_text(x, 200, "ok");
	else
		http_reply_text(x, 503, why);
}

static void
get_events(struct web *w, struct http_exchange *x)
{
	feed_overview(x, w->server, w->history, w->census);
}

static void
get_flow_events(struct web *w, struct http_exchange *x)
{
	feed_flows(x, w->server);
}

static void
on_quit(evutil_socket_t fd, short what, void *arg)
{
	struct web *w = arg;

	(void)fd;
	(void)what;
	if (!server_is_draining(w->server))
		server_drain(w->server);
}

/*
 * The name and the method are those of other sidecars. A page of another site could have a browser send it, without
 * being able to read the reply: browsers add an Origin to a POST, programs do not.
 */
static void
post_quit(struct web *w, struct http_exchange *x)
{
	const struct config *c = server_config(w->server);
	bool is_repeated;

	if (strcmp(http_method(x), "POST") != 0) {
		http_add_header(x, "Allow", "POST");
		http_reply_text(x, 405, "only POST is allowed");
	} else if (!c->admin_quit) {
		http_reply_text(x, 403, "POST /quitquitquit is off; write admin_quit = on in [stent] to let it stop stent");
	} else if (!access_is_granted(&w->access, c, x)) {
		access_refuse(x);
	} else if (http_header(x, "Origin", &is_repeated) != NULL || http_header(x, "Sec-Fetch-Site", &is_repeated) != NULL) {
		http_reply_text(x, 403, "POST /quitquitquit is not for pages in a browser");
	} else {
		log_say(LEVEL_INFO, "POST /quitquitquit");
		http_reply_text(x, 200, "draining");
		event_add(w->quit, &quit_after);
	}
}

static const struct page {
	const char *path;
	bool is_open;		/* needs no token */
	void (*get)(struct web *w, struct http_exchange *x);
} pages[] = {
	{ "/", false, get_page },
	{ "/status", false, get_status },
	{ "/flows", false, get_flows },
	{ "/events", false, get_events },
	{ "/events/flows", false, get_flow_events },
	{ "/metrics", false, get_metrics },
	{ "/healthz", true, get_health },
	{ "/readyz", true, get_ready },
};

/* --- requests --- */

static const struct page *
find_page(const char *path)
{
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (strcmp(path, pages[i].path) == 0)
			return &pages[i];
	return NULL;
}

static void
on_request(void *arg, struct http_exchange *x)
{
	struct web *w = arg;
	const struct config *c = server_config(w->server);
	const char *method = http_method(x), *path = http_path(x);
	const struct page *page = find_page(path);

	if (!access_check_host(c, x))
		return;
	if (strcmp(method, "POST") == 0 && strcmp(path, "/login") == 0) {
		access_log_in(&w->access, c, x);
		return;
	}
	if (strcmp(path, "/quitquitquit") == 0) {
		post_quit(w, x);
		return;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		http_add_header(x, "Allow", "GET, HEAD");
		http_reply_text(x, 405, "only GET and HEAD are allowed");
	} else if (page != NULL && page->is_open) {
		page->get(w, x);
	} else if (strcmp(path, "/") == 0 && http_parameter(x, "token") != NULL) {
		access_log_in_by_link(&w->access, c, x);
	} else if (!access_is_granted(&w->access, c, x)) {
		access_refuse(x);
	} else if (page != NULL) {
		page->get(w, x);
	} else {
		http_reply_text(x, 404, "not found; use one of /, /status, /flows, /events, /events/flows, /metrics, /healthz and /readyz");
	}
}

static void
on_sample(void *arg)
{
	const struct web *w = arg;

	http_server_push(w->http);
}

/* --- the listener --- */

/* Returns a descriptor, or -errno and why. */
static int
open_socket(const char *where, uint16_t *port, const char **why)
{
	struct endpoint ep;
	int fd = -EINVAL;

	if (endpoint_parse(&ep, where, ENDPOINT_LISTEN, why) < 0)
		return -EINVAL;
	*why = "not a HOST:PORT";
	if (ep.kind == ENDPOINT_ADDRESS || ep.kind == ENDPOINT_ANY)
		fd = serve_listen(&ep, why);
	*port = ep.port;
	endpoint_clear(&ep);
	return fd;
}

/* Opens a listener. 0, or -errno and why. */
static int
listen_on(struct web *w, const char *where, struct http_server **ret, const char **why)
{
	uint16_t port;
	int r, fd;

	*why = NULL;
	fd = open_socket(where, &port, why);
	if (fd < 0)
		return fd;
	r = http_server_start(ret, w->base, fd, on_request, w);
	if (r < 0) {
		close(fd);
		return r;
	}
	access_name(&w->access, port);
	return 0;
}

int
web_start(struct web **ret, struct server *s, const struct stream *events, struct event_base *base, const char *where,
    const char **why)
{
	struct web *w = calloc(1, sizeof(*w));
	int r = -ENOMEM;

	*why = NULL;
	if (w == NULL)
		return -ENOMEM;
	w->server = s;
	w->base = base;
	w->events = events;
	w->census = census_new();
	w->quit = evtimer_new(base, on_quit, w);
	if (w->census != NULL && w->quit != NULL)
		r = history_start(&w->history, s, base, on_sample, w);
	if (r == 0)
		r = listen_on(w, where, &w->http, why);
	if (r < 0) {
		web_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void
web_inherit(struct web *w, struct web *from)
{
	struct history *const history = w->history;

	w->history = from->history;
	from->history = history;
	history_attach(w->history, on_sample, w);
	history_attach(from->history, on_sample, from);
}

void
web_free(struct web *w)
{
	if (w == NULL)
		return;
	http_server_free(w->http);
	history_free(w->history);
	census_free(w->census);
	if (w->quit != NULL)
		event_free(w->quit);
	free(w);
}
