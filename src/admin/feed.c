/*
 * feed.c - the event streams of the status page.
 *
 * Each is asked for its next event once a second, and may have none: a search
 * among many flows takes a few milliseconds of the workers, so one that took long
 * waits fifty times as long, up to three seconds. An event is made when it is
 * sent, so that a slow reader gets fewer and later ones, but no old ones; of the
 * history it gets all that is new to it.
 */
#include "admin/feed.h"

#include <event2/buffer.h>
#include <stdlib.h>

#include "admin/census.h"
#include "admin/history.h"
#include "admin/search.h"
#include "admin/view.h"
#include "stent/clock.h"
#include "stent/http_server.h"

#define SHARE 50	/* of the time, for the searches of one reader */
#define WAIT_MAX_US (INT64_C(3) * US_PER_S)	/* but on a busy machine they only seem to take that long */

/* Takes j. False: out of memory, which ends the stream; the browser asks again. */
static bool
write_event(struct evbuffer *out, const char *name, json_t *j)
{
	return evbuffer_add_printf(out, "event: %s\ndata: ", name) > 0 && view_write(out, j) == 0 && evbuffer_add(out, "\n", 1) == 0;
}

/* --- the overview --- */

struct overview {
	struct server *server;
	struct history *history;
	struct census *census;
	struct history_mark mark;
	json_t *routes;			/* as they were sent last */
};

static bool
overview_next(void *state, struct evbuffer *out)
{
	struct overview *o = state;
	json_t *routes = view_routes(o->server), *j;

	census_take(o->census, o->server);
	j = json_pack("{s:o, s:o, s:o}", "summary", view_summary(o->server), "history", history_json(o->history, &o->mark),
	    "protection", census_json(o->census, o->server));
	if (!json_equal(routes, o->routes)) {	/* new settings, or a route was paused */
		json_object_set(j, "routes", routes);
		json_decref(o->routes);
		o->routes = json_incref(routes);
	}
	json_decref(routes);
	return write_event(out, "overview", j);
}

static void
overview_free(void *state)
{
	struct overview *o = state;

	json_decref(o->routes);
	free(o);
}

void
feed_overview(struct http_exchange *x, struct server *s, struct history *h, struct census *c)
{
	static const struct http_source source = { overview_next, overview_free };
	struct overview *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		http_reply_text(x, 503, "out of memory");
		return;
	}
	*o = (struct overview){ .server = s, .history = h, .census = c };
	http_reply_events(x, &source, o);
}

/* --- the flows --- */

struct flows {
	struct server *server;
	struct search search;
	int64_t next_us;
};

static bool
flows_next(void *state, struct evbuffer *out)
{
	struct flows *f = state;
	const int64_t began_us = clock_us();
	int64_t wait_us;
	bool goes_on;

	if (began_us < f->next_us)
		return true;
	goes_on = write_event(out, "flows", search_run(&f->search, f->server));
	wait_us = SHARE * (clock_us() - began_us);
	f->next_us = began_us + (wait_us < WAIT_MAX_US ? wait_us : WAIT_MAX_US);
	return goes_on;
}

static bool
read_parameter(void *arg, const char *name, const char *value)
{
	return search_read(arg, name, value);
}

void
feed_flows(struct http_exchange *x, struct server *s)
{
	static const struct http_source source = { flows_next, free };
	struct flows *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		http_reply_text(x, 503, "out of memory");
		return;
	}
	*f = (struct flows){ .server = s, .search = SEARCH_DEFAULT };
	if (http_each_parameter(x, read_parameter, &f->search)) {
		http_reply_events(x, &source, f);
		return;
	}
	free(f);
	http_reply_text(x, 400, SEARCH_HELP);
}
