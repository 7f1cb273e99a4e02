/*
 * metrics.c - the counters in Prometheus' text format 0.0.4.
 *
 * Only what the workers count anyway: a scrape visits no flow, so its cost does
 * not grow with their number. Every close reason is present from the start with
 * 0, so that a rate over its first increase is right. Reasons for passthrough
 * appear with their first flow: they are the codecs' own texts.
 */
#include "admin/metrics.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <string.h>

#include "admin/view.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/side.h"
#include "stent/worker.h"

static void
head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
single(struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
	head(out, name, type, help);
	evbuffer_add_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void
by_side(struct evbuffer *out, const char *name, const char *help, const uint64_t value[2])
{
	head(out, name, "counter", help);
	for (enum side side = CLIENT; side <= BACKEND; side++)
		evbuffer_add_printf(out, "%s{side=\"%s\"} %" PRIu64 "\n", name, side_name(side), value[side]);
}

static void
by_reason(struct evbuffer *out, const uint64_t ended[REASON_COUNT])
{
	static const char name[] = "stent_flows_ended_total";

	head(out, name, "counter", "Flows that ended, by close reason.");
	for (size_t r = REASON_NONE + 1; r < REASON_COUNT; r++)
		evbuffer_add_printf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", name,
		    reason_text((enum close_reason)r), ended[r]);
}

/* A label's value: backslash and quote are escaped. */
static void
add_label(struct evbuffer *out, const char *text)
{
	for (; *text != '\0'; text++)
		evbuffer_add_printf(out, strchr("\\\"", *text) != NULL ? "\\%c" : "%c", *text);
}

static void
by_passthrough(struct evbuffer *out, const struct passthrough_count counts[PASSTHROUGH_ROWS])
{
	static const char name[] = "stent_passthrough_flows_total";

	head(out, name, "counter", "Flows relayed as plain bytes because their protocol was not understood, by reason.");
	for (size_t i = 0; i < PASSTHROUGH_ROWS; i++) {
		const char *reason = passthrough_reason(&counts[i]);

		if (i + 1 == PASSTHROUGH_ROWS && reason == NULL)
			reason = "other";	/* always present: no family is empty */
		if (reason == NULL)
			continue;
		evbuffer_add_printf(out, "%s{reason=\"", name);
		add_label(out, reason);
		evbuffer_add_printf(out, "\"} %" PRIu64 "\n", counts[i].flows);
	}
}

static void
by_worker(struct evbuffer *out, const struct server *s)
{
	static const char name[] = "stent_flows_open";

	head(out, name, "gauge", "Flows that are open, by worker thread.");
	for (size_t i = 0; i < server_workers(s); i++)
		evbuffer_add_printf(out, "%s{worker=\"%zu\"} %d\n", name, i, worker_flows(server_worker(s, i)));
}

void
metrics_write(struct evbuffer *out, struct server *s)
{
	struct relay_counters sum;

	view_sum(s, &sum);
	head(out, "stent_build_info", "gauge", "Always 1; the label is the version.");
	evbuffer_add_printf(out, "stent_build_info{version=\"%s\"} 1\n", STENT_VERSION);
	head(out, "stent_uptime_seconds", "gauge", "Seconds since the start.");
	evbuffer_add_printf(out, "stent_uptime_seconds %.3f\n", (double)server_uptime_ms(s) / 1000);
	single(out, "stent_draining", "gauge", "1 while draining: no new flows are accepted, open ones may end.",
	    server_is_draining(s));
	single(out, "stent_flows_max", "gauge", "Maximum number of open flows.",
	    (uint64_t)server_max_flows(s));
	by_worker(out, s);
	single(out, "stent_flows_total", "counter", "Flows that were accepted.", sum.flows_total);
	by_reason(out, sum.flows_ended);
	by_side(out, "stent_bytes_total", "Bytes received from a side and forwarded.", sum.bytes);
	by_side(out, "stent_heartbeats_total", "Heartbeats sent to a side.", sum.heartbeats);
	by_side(out, "stent_heartbeat_replies_total", "Heartbeats that a side replied to.", sum.replies);
	by_passthrough(out, sum.passthrough);
}
