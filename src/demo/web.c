/*
 * web.c - the demonstration in a browser: one page, which polls the state four
 * times a second. On loopback only.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demo/demo.h"
#include "demo/loopback.h"
#include "demo/page.h"
#include "stent/http_server.h"

struct web {
	struct stage *stage;
	struct http_server *http;
	char address[64];
};

static json_t *
lane_json(const struct lane *l)
{
	json_t *marks = json_array();

	for (size_t i = 0; i < MARKS; i++)
		json_array_append_new(marks, json_integer(l->marks[i]));
	return json_pack("{ss sb sb sb si si ss sI sI sI so}", "name", l->name, "stent", l->has_stent, "heartbeats_on", l->must_survive,
	    "alive", l->alive, "requests", demo_client_requests(l->client), "responses", demo_client_responses(l->client),
	    "last", demo_client_last_response(l->client), "waiting_ms", (json_int_t)l->waiting_ms,
	    "heartbeats", (json_int_t)l->heartbeats, "replies", (json_int_t)l->replies, "marks", marks);
}

static json_t *
state_json(const struct stage *s)
{
	json_t *lanes = json_array();

	for (size_t i = 0; i < LANES; i++)
		json_array_append_new(lanes, lane_json(&s->lane[i]));
	return json_pack("{si si sb sb sI so}", "tick", (int)s->tick, "ticks", MARKS, "over", s->over,
	    "as_expected", stage_went_as_expected(s), "idle_limit_ms", (json_int_t)IDLE_LIMIT_MS, "lanes", lanes);
}

static void
reply_state(struct http_exchange *x, const struct stage *s)
{
	json_t *state = state_json(s);
	char *text = json_dumps(state, JSON_COMPACT);
	struct evbuffer *body = evbuffer_new();

	json_decref(state);
	if (text != NULL && body != NULL && evbuffer_add(body, text, strlen(text)) == 0)
		http_reply(x, 200, HTTP_TYPE_JSON, body);
	else
		http_reply_text(x, 503, "out of memory");
	free(text);
	if (body != NULL)
		evbuffer_free(body);
}

static void
on_request(void *arg, struct http_exchange *x)
{
	const struct web *w = arg;
	const bool reads = strcmp(http_method(x), "GET") == 0 || strcmp(http_method(x), "HEAD") == 0;

	if (!reads) {
		http_add_header(x, "Allow", "GET, HEAD");
		http_reply_text(x, 405, "only GET and HEAD are allowed");
	} else if (strcmp(http_path(x), "/") == 0) {
		http_add_header(x, "Content-Security-Policy", demo_page_policy);
		http_reply_static(x, 200, HTTP_TYPE_HTML, demo_page_html, demo_page_html_len);
	} else if (strcmp(http_path(x), "/state") == 0) {
		reply_state(x, w->stage);
	} else {
		http_reply_text(x, 404, "not found; use / or /state");
	}
}

int
web_open(struct web **ret, struct stage *s)
{
	struct web *w = calloc(1, sizeof(*w));
	uint16_t port;
	int fd, r;

	if (w == NULL)
		return -ENOMEM;
	w->stage = s;
	fd = loopback_listen_plain(&port);
	r = fd >= 0 ? http_server_start(&w->http, s->base, fd, on_request, w) : fd;
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		free(w);
		return r;
	}
	snprintf(w->address, sizeof(w->address), "http://127.0.0.1:%u/", port);
	*ret = w;
	return 0;
}

const char *
web_address(const struct web *w)
{
	return w->address;
}

void
web_close(struct web *w)
{
	if (w == NULL)
		return;
	http_server_free(w->http);
	free(w);
}
