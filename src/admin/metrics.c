/*
 * metrics.c - the counters in Prometheus' text format 0.0.4.
 *
 * Mostly what the workers count anyway. How flows are protected is found by
 * visiting them (census.c), which is bounded in time. Labels are names of the settings and words of
 * the program, so that the number of series is bounded. Every close reason is
 * present from the start with 0, so that a rate over its first increase is
 * right. Reasons for passthrough appear with their first flow: they are the
 * codecs' own texts.
 */
#include "admin/metrics.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/census.h"
#include "admin/stream.h"
#include "admin/view.h"
#include "stent/clock.h"
#include "stent/config.h"
#include "stent/counters.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/side.h"
#include "stent/utf8.h"
#include "stent/worker.h"

void
metrics_head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
single(struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_head(out, name, type, help);
	evbuffer_add_printf(out, "%s %" PRIu64 "\n", name, value);
}

void
metrics_label(struct evbuffer *out, const char *text)
{
	for (size_t len; *text != '\0'; text += len > 0 ? len : 1) {
		len = utf8_fit(text);
		if (len == 0)
			evbuffer_add(out, "?", 1);
		else
			evbuffer_add_printf(out, strchr("\\\"", *text) != NULL ? "\\%.*s" : "%.*s", (int)len, text);
	}
}

void
metrics_begin(struct rows *r, const char *name, const struct row *row)
{
	evbuffer_add_printf(r->out, "%s{route=\"", name);
	metrics_label(r->out, row->route);
	evbuffer_add(r->out, "\"", 1);
}

/* One number a route; offset: in struct relay_counters. */
static void
by_route(struct rows *r, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_head(r->out, name, type, help);
	for (size_t i = 0; i < r->n; i++) {
		metrics_begin(r, name, &r->row[i]);
		evbuffer_add_printf(r->out, "} %" PRIu64 "\n", *(const uint64_t *)(const void *)((const char *)&r->row[i].sum + offset));
	}
}

/* Two numbers a route, by side. */
static void
by_side(struct rows *r, const char *name, const char *help, size_t offset)
{
	metrics_head(r->out, name, "counter", help);
	for (size_t i = 0; i < r->n; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const uint64_t *value = (const uint64_t *)(const void *)((const char *)&r->row[i].sum + offset);

			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",side=\"%s\"} %" PRIu64 "\n", side_name(s), value[s]);
		}
}

/* Numbers that stand in a row in struct relay_counters, one for each word of a list: of an enum, from `first` on. */
struct words {
	const char *label;
	size_t first, end;
	const char *(*text)(size_t i);
};

static const char *
end_text(size_t i)
{
	return reason_text((enum close_reason)i);
}

static const char *
refusal_text(size_t i)
{
	return admission_text((enum admission)i);
}

static const char *
connect_text(size_t i)
{
	return connect_result_text((enum connect_result)i);
}

static const struct words end_words = { "reason", REASON_NONE + 1, REASON_COUNT, end_text };
static const struct words refusal_words = { "cause", ADMITTED_COUNTED + 1, ADMISSION_COUNT, refusal_text };
static const struct words connect_words = { "result", 0, CONNECT_RESULTS, connect_text };

static void
by_word(struct rows *r, const char *name, const char *help, const struct words *w, size_t offset)
{
	metrics_head(r->out, name, "counter", help);
	for (size_t i = 0; i < r->n; i++) {
		const uint64_t *value = (const uint64_t *)(const void *)((const char *)&r->row[i].sum + offset);

		for (size_t k = w->first; k < w->end; k++) {
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",%s=\"%s\"} %" PRIu64 "\n", w->label, w->text(k), value[k]);
		}
	}
}

/* Of the ends, those by which a side was found to be dead. */
static void
deaths(struct rows *r)
{
	static const char name[] = "stent_peer_deaths_total";

	metrics_head(r->out, name, "counter", "Flows that ended because this side was found to be dead: probes, sent bytes or heartbeats unanswered, or unreachable.");
	for (size_t i = 0; i < r->n; i++) {
		uint64_t dead[2];

		view_deaths(&r->row[i].sum, dead);
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",side=\"%s\"} %" PRIu64 "\n", side_name(s), dead[s]);
		}
	}
}

static void
passthrough(struct rows *r)
{
	static const char name[] = "stent_passthrough_flows_total";

	metrics_head(r->out, name, "counter", "Flows relayed as plain bytes because their protocol was not understood, by reason.");
	for (size_t i = 0; i < r->n; i++)
		for (size_t p = 0; p < PASSTHROUGH_ROWS; p++) {
			const struct passthrough_count *c = &r->row[i].sum.passthrough[p];
			const char *reason = passthrough_reason(c);

			if (p + 1 == PASSTHROUGH_ROWS && reason == NULL)
				reason = "other";	/* always present: no family is empty */
			if (reason == NULL)
				continue;
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",reason=\"");
			metrics_label(r->out, reason);
			evbuffer_add_printf(r->out, "\"} %" PRIu64 "\n", c->flows);
		}
}

/* --- histograms --- */

/* A label that goes before `le`, such as `worker="0"`. */
struct series {
	const char *name;
	const struct row *row;		/* NULL: no route */
	char label[48];
};

static void
begin_series(struct rows *r, const struct series *s, const char *suffix)
{
	evbuffer_add_printf(r->out, "%s%s{", s->name, suffix);
	if (s->row != NULL) {
		evbuffer_add_printf(r->out, "route=\"");
		metrics_label(r->out, s->row->route);
		evbuffer_add_printf(r->out, "\"%s", s->label[0] != '\0' ? "," : "");
	}
	evbuffer_add_printf(r->out, "%s", s->label);
}

static void
histogram(struct rows *r, const struct series *s, const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		n += h->bucket[i];
		begin_series(r, s, "_bucket");
		evbuffer_add_printf(r->out, ",le=\"%g\"} %" PRIu64 "\n", (double)histogram_limit_us[i] / US_PER_S, n);
	}
	n += h->bucket[HISTOGRAM_BUCKETS];
	begin_series(r, s, "_bucket");
	evbuffer_add_printf(r->out, ",le=\"+Inf\"} %" PRIu64 "\n", n);
	begin_series(r, s, "_sum");
	evbuffer_add_printf(r->out, "} %.6f\n", (double)h->sum_us / US_PER_S);
	begin_series(r, s, "_count");
	evbuffer_add_printf(r->out, "} %" PRIu64 "\n", n);
}

static void
histograms(struct rows *r)
{
	static const char round_trip[] = "stent_heartbeat_round_trip_seconds", connect[] = "stent_connect_seconds";

	metrics_head(r->out, round_trip, "histogram", "Time from a heartbeat to its reply.");
	for (size_t i = 0; i < r->n; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			struct series series = { .name = round_trip, .row = &r->row[i] };

			snprintf(series.label, sizeof(series.label), "side=\"%s\"", side_name(s));
			histogram(r, &series, &r->row[i].sum.round_trip[s]);
		}
	metrics_head(r->out, connect, "histogram", "Time from an accepted client to a connected backend, all attempts together.");
	for (size_t i = 0; i < r->n; i++)
		histogram(r, &(struct series){ .name = connect, .row = &r->row[i] }, &r->row[i].sum.connect);
}

static void
workers(struct rows *r, const struct server *s)
{
	static const char flows[] = "stent_worker_flows", delay[] = "stent_worker_loop_delay_seconds";

	metrics_head(r->out, flows, "gauge", "Flows that are open, by worker thread.");
	for (size_t i = 0; i < server_workers(s); i++)
		evbuffer_add_printf(r->out, "%s{worker=\"%zu\"} %d\n", flows, i, worker_flows(server_worker(s, i)));
	metrics_head(r->out, delay, "histogram", "How late a worker's event loop was for a timer, ten times a second while the metrics are scraped.");
	for (size_t i = 0; i < server_workers(s); i++) {
		struct series series = { .name = delay };
		struct histogram h;

		worker_read_delay(server_worker(s, i), &h);
		snprintf(series.label, sizeof(series.label), "worker=\"%zu\"", i);
		histogram(r, &series, &h);
	}
}

#define COUNTER(field) offsetof(struct relay_counters, field)

static void
routes(struct rows *r)
{
	by_route(r, "stent_flows_open", "gauge", "Flows that are open.", COUNTER(flows_open));
	by_route(r, "stent_flows_total", "counter", "Flows that were accepted.", COUNTER(flows_total));
	by_word(r, "stent_flows_ended_total", "Flows that ended, by close reason.", &end_words, offsetof(struct relay_counters, flows_ended));
	by_word(r, "stent_refusals_total", "Clients that were refused by a limit, or by allow and deny, by cause.", &refusal_words,
	    offsetof(struct relay_counters, refusals));
	by_route(r, "stent_flows_unopened_total", "counter", "Of the ended flows, those that never had a connected backend.",
	    COUNTER(flows_unopened));
	deaths(r);
	by_side(r, "stent_bytes_total", "Bytes received from a side and forwarded.", COUNTER(bytes));
	by_side(r, "stent_heartbeats_total", "Heartbeats sent to a side.", COUNTER(heartbeats));
	by_side(r, "stent_heartbeat_replies_total", "Heartbeats that a side replied to.", COUNTER(replies));
	by_side(r, "stent_heartbeat_misses_total", "Replies that did not come within heartbeat_timeout.", COUNTER(misses));
	by_side(r, "stent_heartbeats_refused_total", "Flows of which this side refused a heartbeat.", COUNTER(refused));
	by_word(r, "stent_connects_total", "Attempts to connect to an address of a backend, by result.", &connect_words,
	    offsetof(struct relay_counters, connects));
	histograms(r);
	passthrough(r);
	metrics_tls(r);
}

/* Who is told of events. */
static void
told(struct evbuffer *out, const struct stream *events)
{
	static const char runs[] = "stent_on_event_total";
	static const char *const results[HOOK_RESULTS] = {
		[HOOK_OK] = "ok", [HOOK_FAILED] = "failed", [HOOK_TIMEOUT] = "timeout", [HOOK_LOST] = "lost",
	};
	struct stream_figures f;

	stream_read_figures(events, &f);
	single(out, "stent_event_readers", "gauge", "Connections of stent events.", f.readers);
	single(out, "stent_events_lost_total", "counter", "Events that readers were too slow for.", f.lost);
	metrics_head(out, runs, "counter", "Events for the program of on_event, by result.");
	for (size_t i = 0; i < HOOK_RESULTS; i++)
		evbuffer_add_printf(out, "%s{result=\"%s\"} %" PRIu64 "\n", runs, results[i], f.hooks[i]);
}

static void
protection(struct rows *r, const struct census *c)
{
	static const char name[] = "stent_flows_protected";

	metrics_head(r->out, name, "gauge", "Flows that are open, by protection: heartbeats on both legs, on one, or TCP probes alone; a few seconds old.");
	for (size_t i = 0; i < r->n; i++)
		for (size_t p = 0; p < PROTECTIONS; p++) {
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",protection=\"%s\"} %zu\n", protection_name((enum protection)p),
			    census_of(c, r->row[i].slot, (enum protection)p));
		}
}

/* NULL: a route that was removed from the settings; it is shown while it has flows. */
static const struct route *
find_settings(const struct config *c, size_t slot)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (c->routes[i].slot == slot)
			return &c->routes[i];
	return NULL;
}

void
metrics_write(struct evbuffer *out, struct server *s, const struct stream *events, struct census *c)
{
	struct rows r = { .out = out, .row = calloc(server_slots(s), sizeof(*r.row)) };

	metrics_head(out, "stent_build_info", "gauge", "Always 1; the label is the version.");
	evbuffer_add_printf(out, "stent_build_info{version=\"%s\"} 1\n", STENT_VERSION);
	metrics_head(out, "stent_uptime_seconds", "gauge", "Seconds since the start.");
	evbuffer_add_printf(out, "stent_uptime_seconds %.3f\n", (double)server_uptime_ms(s) / 1000);
	single(out, "stent_draining", "gauge", "1 while draining, from SIGTERM or stent drain on.",
	    server_is_draining(s));
	single(out, "stent_flows_max", "gauge", "Maximum number of open flows.",
	    (uint64_t)server_max_flows(s));
	single(out, "stent_config_last_reload_successful", "gauge", "1 unless the last reload of the settings failed.",
	    !server_last_load(s)->failed);
	single(out, "stent_config_last_reload_timestamp_seconds", "gauge", "When the settings in use were read, in seconds since 1970.",
	    (uint64_t)server_last_load(s)->at);
	workers(&r, s);
	process_figures(out);
	told(out, events);
	if (r.row == NULL)
		return;
	for (size_t i = 0; i < server_slots(s); i++) {
		r.row[r.n].route = server_slot_name(s, i);
		r.row[r.n].slot = i;
		view_sum_slot(s, i, &r.row[r.n].sum);
		r.row[r.n].settings = find_settings(server_config(s), i);
		r.n += r.row[r.n].settings != NULL || r.row[r.n].sum.flows_open > 0;
	}
	metrics_backends(&r, s);
	routes(&r);
	census_take(c, s);
	protection(&r, c);
	free(r.row);
}
