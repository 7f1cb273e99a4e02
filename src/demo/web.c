/*
 * web.c - the demonstration in a browser: one page, which polls the state four
 * times a second. On loopback only.
 */
#include <errno.h>
#include <arpa/inet.h>
#include <event2/http.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demo/demo.h"
#include "demo/page.h"

struct web {
	struct stage *stage;
	struct evhttp *http;
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

static void
send_state(struct evhttp_request *req, void *arg)
{
	const struct stage *s = ((struct web *)arg)->stage;
	json_t *lanes = json_array(), *all;
	struct evbuffer *body = evbuffer_new();
	char *text;

	for (size_t i = 0; i < LANES; i++)
		json_array_append_new(lanes, lane_json(&s->lane[i]));
	all = json_pack("{si si sb sb sI so}", "tick", (int)s->tick, "ticks", MARKS, "over", s->over,
	    "as_expected", stage_went_as_expected(s), "idle_limit_ms", (json_int_t)IDLE_LIMIT_MS, "lanes", lanes);
	text = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	evbuffer_add(body, text, strlen(text));
	free(text);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Cache-Control", "no-store");
	evhttp_send_reply(req, HTTP_OK, "OK", body);
	evbuffer_free(body);
}

static void
send_page(struct evhttp_request *req, void *arg)
{
	struct evbuffer *body = evbuffer_new();

	(void)arg;
	evbuffer_add(body, demo_page_html, demo_page_html_len);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "text/html; charset=utf-8");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Security-Policy", demo_page_policy);
	evhttp_send_reply(req, HTTP_OK, "OK", body);
	evbuffer_free(body);
}

int
web_open(struct web **ret, struct stage *s)
{
	struct web *w = calloc(1, sizeof(*w));
	struct evhttp_bound_socket *bound;
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);

	if (w == NULL)
		return -ENOMEM;
	w->stage = s;
	w->http = evhttp_new(s->base);
	bound = w->http != NULL ? evhttp_bind_socket_with_handle(w->http, "127.0.0.1", 0) : NULL;
	if (bound == NULL || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&sin, &len) != 0) {
		web_close(w);
		return -EADDRINUSE;
	}
	evhttp_set_allowed_methods(w->http, EVHTTP_REQ_GET);
	evhttp_set_cb(w->http, "/", send_page, w);
	evhttp_set_cb(w->http, "/state", send_state, w);
	snprintf(w->address, sizeof(w->address), "http://127.0.0.1:%u/", ntohs(sin.sin_port));
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
	if (w->http != NULL)
		evhttp_free(w->http);
	free(w);
}
