/*
 * view.c - the state of a running stent, as sums and as JSON. Counters are read
 * where the workers write them. The flows are in listing.c.
 */
#include "admin/view.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/control_settings.h"
#include "stent/config.h"
#include "stent/counters.h"
#include "stent/endpoint.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/utf8.h"
#include "stent/worker.h"

void
view_sum_slot(const struct server *s, size_t slot, struct relay_counters *ret)
{
	struct relay_counters one;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < server_workers(s); i++) {
		worker_read_stats(server_worker(s, i), slot, &one);
		relay_counters_add(ret, &one);
	}
}

void
view_sum(const struct server *s, struct relay_counters *ret)
{
	struct relay_counters one;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < server_slots(s); i++) {
		view_sum_slot(s, i, &one);
		relay_counters_add(ret, &one);
	}
}

void
view_deaths(const struct relay_counters *sum, uint64_t ret[2])
{
	ret[CLIENT] = ret[BACKEND] = 0;
	for (size_t reason = REASON_NONE + 1; reason < REASON_COUNT; reason++)
		if (reason_is_death((enum close_reason)reason))
			ret[reason >= REASON_BACKEND_FIN ? BACKEND : CLIENT] += sum->flows_ended[reason];
}

/* --- as JSON --- */

json_t *
view_text(const char *text)
{
	json_t *j;
	char *fit;

	if (text == NULL)
		return json_null();
	fit = strdup(text);
	if (fit == NULL)
		return NULL;
	for (char *s = fit; *s != '\0';) {
		const size_t len = utf8_fit(s);

		if (len == 0)
			*s = '?';
		s += len > 0 ? len : 1;
	}
	j = json_string(fit);
	free(fit);
	return j;
}

json_t *
view_seconds(int64_t ms)
{
	return json_real((double)ms / 1000);
}

/* A duration of the settings, where 0 is off. */
static json_t *
seconds_or_off(int64_t ms)
{
	return ms > 0 ? view_seconds(ms) : json_null();
}

static json_t *
endpoint_list(const struct endpoint *e, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, view_text(e[i].text));
	return list;
}

static json_t *
leg_json(const struct leg_settings *l)
{
	static const char *const kinds[] = { [0] = "auto", [HEARTBEAT_ONEWAY] = "oneway", [HEARTBEAT_PING] = "ping", [HEARTBEAT_EARLY] = "early" };
	json_t *keepalive = l->keepalive.idle_s == 0 ? json_null() :
	    json_pack("{s:i, s:i, s:i}", "idle_seconds", l->keepalive.idle_s, "interval_seconds",
	    l->keepalive.interval_s, "probes", l->keepalive.probes);

	return json_pack("{s:o, s:o, s:o, s:b, s:s, s:o, s:o}",
	    "keepalive", keepalive,
	    "user_timeout_seconds", seconds_or_off(l->keepalive.user_timeout_ms),
	    "heartbeat_seconds", seconds_or_off(l->heartbeat_ms),
	    "heartbeat_is_auto", (int)l->heartbeat_is_auto,
	    "heartbeat_kind", l->heartbeat_kind <= HEARTBEAT_EARLY && kinds[l->heartbeat_kind] != NULL ?
	    kinds[l->heartbeat_kind] : "mixed",
	    "heartbeat_limit_seconds", seconds_or_off(l->heartbeat_limit_ms),
	    "idle_timeout_seconds", seconds_or_off(l->idle_timeout_ms));
}

json_t *
view_routes(const struct server *s)
{
	const struct config *c = server_config(s);
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];

		json_array_append_new(list, json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o}",
		    "name", view_text(r->name),
		    "paused", control_pause_json(s, r),
		    "protocol", r->protocol,
		    "listen", endpoint_list(r->listen, r->n_listen),
		    "backends", endpoint_list(r->backend, r->n_backend),
		    "backends_down", view_backends_down(s, r),
		    "backend_states", view_backends(s, r),
		    "waiting_for_backend", (json_int_t)server_waiting(s, r->slot),
		    "limits", view_limits(r),
		    "client", leg_json(&r->leg[CLIENT]),
		    "backend", leg_json(&r->leg[BACKEND])));
	}
	return list;
}

json_t *
view_both_sides(const uint64_t count[2])
{
	return json_pack("{s:I, s:I}", side_name(CLIENT), (json_int_t)count[CLIENT],
	    side_name(BACKEND), (json_int_t)count[BACKEND]);
}

/* Reasons that have been seen. */
static json_t *
ended_json(const struct relay_counters *sum)
{
	json_t *ended = json_object();

	for (size_t r = REASON_NONE + 1; r < REASON_COUNT; r++)
		if (sum->flows_ended[r] > 0)
			json_object_set_new(ended, reason_text((enum close_reason)r),
			    json_integer((json_int_t)sum->flows_ended[r]));
	return ended;
}

static json_t *
passthrough_json(const struct relay_counters *sum)
{
	json_t *counts = json_object();

	for (size_t p = 0; p < PASSTHROUGH_ROWS; p++)
		if (sum->passthrough[p].flows > 0)
			json_object_set_new(counts, passthrough_reason(&sum->passthrough[p]),
			    json_integer((json_int_t)sum->passthrough[p].flows));
	return counts;
}

static json_t *
worker_list(const struct server *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < server_workers(s); i++)
		json_array_append_new(list, json_integer(worker_flows(server_worker(s, i))));
	return list;
}

json_t *
view_summary(struct server *s)
{
	const struct config *c = server_config(s);
	struct relay_counters sum;

	view_sum(s, &sum);
	return json_pack("{s:s, s:i, s:o, s:o, s:o, s:b, s:i, s:s, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
	    "version", STENT_VERSION,
	    "pid", (int)getpid(),
	    "settings", view_text(c->path),
	    "load", control_load_json(s),
	    "uptime_seconds", view_seconds(server_uptime_ms(s)),
	    "draining", (int)server_is_draining(s),
	    "max_flows", server_max_flows(s),
	    "when_full", view_when_full(c->when_full),
	    "refused", view_refusals(&sum),
	    "flows_open", (json_int_t)sum.flows_open,
	    "flows_total", (json_int_t)sum.flows_total,
	    "flows_by_worker", worker_list(s),
	    "bytes", view_both_sides(sum.bytes),
	    "heartbeats", view_both_sides(sum.heartbeats),
	    "replies", view_both_sides(sum.replies),
	    "misses", view_both_sides(sum.misses),
	    "passthrough", passthrough_json(&sum),
	    "ended", ended_json(&sum));
}

static int
append(const char *data, size_t size, void *arg)
{
	return evbuffer_add(arg, data, size);
}

int
view_write(struct evbuffer *out, json_t *j)
{
	int r;

	if (j == NULL)
		return -ENOMEM;
	r = json_dump_callback(j, append, out, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(j);
	return r < 0 || evbuffer_add(out, "\n", 1) < 0 ? -ENOMEM : 0;
}
