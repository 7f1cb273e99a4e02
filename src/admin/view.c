/*
 * view.c - the state of a running stent, as sums and as JSON.
 *
 * Counters are read where the workers write them. Flows belong to their worker's
 * thread: each worker in turn copies its own into one array while this thread
 * waits; sorting, cutting and JSON happen here afterwards, so that they delay no
 * flow. The array takes a few hundred bytes per flow for a moment; JSON is made
 * for no more flows than the limit. Facts from the kernel (round trips) are read
 * in a second visit, only for the flows shown, unless they decide the order.
 */
#include "admin/view.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stent/config.h"
#include "stent/counters.h"
#include "stent/endpoint.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/utf8.h"
#include "stent/worker.h"

struct gathered {
	struct flow_info *flows;
	size_t n, room;
	bool with_facts;	/* of the kernel, for each */
	bool failed;
};

/* --- orders, descending --- */

static uint64_t
age_of(const struct flow_info *f)
{
	return (uint64_t)f->age_ms;
}

static uint64_t
newness_of(const struct flow_info *f)
{
	return UINT64_MAX - age_of(f);
}

static uint64_t
bytes_of(const struct flow_info *f)
{
	return f->leg[CLIENT].bytes + f->leg[BACKEND].bytes;
}

/* A flow is idle when both legs are. */
static uint64_t
idle_of(const struct flow_info *f)
{
	int64_t c = f->leg[CLIENT].idle_ms, b = f->leg[BACKEND].idle_ms;

	return (uint64_t)(c < b ? c : b);
}

/* The slower leg; -1, none yet, comes last. */
static uint64_t
rtt_of(const struct flow_info *f)
{
	int64_t c = f->leg[CLIENT].rtt_us, b = f->leg[BACKEND].rtt_us;

	return (uint64_t)((c > b ? c : b) + 1);
}

static const struct order {
	const char *name;
	uint64_t (*of)(const struct flow_info *f);
} orders[] = {
	{ "age", age_of },
	{ "new", newness_of },
	{ "bytes", bytes_of },
	{ "idle", idle_of },
	{ "rtt", rtt_of },
};

static int
compare(const void *a, const void *b, void *arg)
{
	const struct flow_info *f = a, *g = b;
	const struct order *order = arg;
	uint64_t x = order->of(f), y = order->of(g);

	if (x != y)
		return x < y ? 1 : -1;
	return f->id < g->id ? -1 : f->id > g->id;
}

int
flow_query_read(struct flow_query *q, const char *word)
{
	char *end;

	if (strncmp(word, "limit=", 6) == 0 && word[6] >= '0' && word[6] <= '9') {
		unsigned long n;

		errno = 0;
		n = strtoul(word + 6, &end, 10);
		if (errno != 0 || *end != '\0')
			return -EINVAL;
		q->limit = n < FLOW_LIMIT_MAX ? n : FLOW_LIMIT_MAX;
		return 0;
	}
	if (strncmp(word, "sort=", 5) == 0)
		for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
			if (strcmp(word + 5, orders[i].name) == 0) {
				q->sort = i;
				return 0;
			}
	return -EINVAL;
}

/* --- gathering --- */

/* On the worker's thread. */
static void
copy_flow(struct flow_info *info, void *arg)
{
	struct gathered *g = arg;

	if (g->failed)
		return;
	if (g->n == g->room) {
		size_t room = g->room > 0 ? g->room * 2 : 64;
		struct flow_info *flows = reallocarray(g->flows, room, sizeof(*flows));

		if (flows == NULL) {
			g->failed = true;
			return;
		}
		g->flows = flows;
		g->room = room;
	}
	if (g->with_facts)
		flow_info_add_kernel(info);
	config_hold(info->route->config);	/* the flow, and its settings, may be gone when it is read */
	g->flows[g->n++] = *info;
}

/* Keeps the first n. */
static void
drop_flows(struct gathered *g, size_t n)
{
	assert(g->n <= g->room);
	while (g->n > n)
		config_release(g->flows[--g->n].route->config);
}

static int
compare_ids(const void *a, const void *b)
{
	const struct flow_info *f = a, *g = b;

	return f->id < g->id ? -1 : f->id > g->id;
}

/* On the worker's thread: the second visit. */
static void
read_facts(struct flow_info *info, void *arg)
{
	const struct gathered *shown = arg;
	struct flow_info *f = bsearch(info, shown->flows, shown->n, sizeof(*f), compare_ids);

	if (f == NULL)
		return;
	flow_info_add_kernel(info);
	config_hold(info->route->config);
	config_release(f->route->config);
	*f = *info;
}

static void
each_flow(const struct server *s, void (*visit)(struct flow_info *info, void *arg), struct gathered *g)
{
	for (size_t i = 0; i < server_workers(s); i++)
		worker_each_flow(server_worker(s, i), visit, g);
}

/* The first `limit` flows in the order asked for. */
static void
gather(struct gathered *g, const struct server *s, const struct flow_query *q)
{
	void *order = (void *)(uintptr_t)&orders[q->sort];

	assert(q->sort < sizeof(orders) / sizeof(orders[0]) && q->limit <= FLOW_LIMIT_MAX);
	g->with_facts = orders[q->sort].of == rtt_of;
	each_flow(s, copy_flow, g);
	if (g->n == 0)
		return;
	qsort_r(g->flows, g->n, sizeof(g->flows[0]), compare, order);
	if (g->n > q->limit)
		drop_flows(g, q->limit);
	if (g->with_facts)
		return;
	qsort(g->flows, g->n, sizeof(g->flows[0]), compare_ids);
	each_flow(s, read_facts, g);
	qsort_r(g->flows, g->n, sizeof(g->flows[0]), compare, order);
}

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

/* --- as JSON --- */

/* Texts of the settings file may contain any bytes: what is not printable becomes a question mark. NULL becomes null. */
static json_t *
text_json(const char *text)
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

static json_t *
seconds(int64_t ms)
{
	return json_real((double)ms / 1000);
}

/* A duration of the settings, where 0 is off. */
static json_t *
seconds_or_off(int64_t ms)
{
	return ms > 0 ? seconds(ms) : json_null();
}

static json_t *
milliseconds(int64_t us)
{
	return us < 0 ? json_null() : json_real((double)us / 1000);
}

/*
 * What is known about a side: "alive", it gave a sign of life recently; "probing", pings or TCP probes are unanswered;
 * "silent", its last sign is too old; "closed", it has sent its FIN; "dead", that is certain, and the flow ends.
 */
static const char *
verdict(const struct flow_info *f, enum side side)
{
	if (f->connecting && side == BACKEND)
		return "connecting";
	if (f->leg[side].dead)
		return "dead";
	if (f->leg[side].fin)
		return "closed";
	if (f->leg[side].misses > 0 || f->leg[side].probes > 0)
		return "probing";
	return f->leg[side].sign_max_age_ms != 0 && f->leg[side].heard_ms > f->leg[side].sign_max_age_ms ? "silent" : "alive";
}

static json_t *
flow_leg(const struct flow_info *f, enum side side)
{
	const struct address *address = side == CLIENT ? &f->client : &f->backend;
	char text[ADDRESS_TEXT_MAX];

	return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:b}",
	    "verdict", verdict(f, side),
	    "last_sign_seconds", seconds(f->leg[side].heard_ms),
	    "misses", (json_int_t)f->leg[side].misses,
	    "misses_max", (json_int_t)f->leg[side].misses_max,
	    "probes", (json_int_t)f->leg[side].probes,
	    "probes_max", (json_int_t)f->leg[side].probes_max,
	    "why_none", text_json(f->leg[side].why_none),
	    "address", address_text(address, text),
	    "bytes", (json_int_t)f->leg[side].bytes,
	    "heartbeats", (json_int_t)f->leg[side].heartbeats,
	    "pings", (json_int_t)f->leg[side].pings,
	    "replies", (json_int_t)f->leg[side].replies,
	    "rtt_ms", milliseconds(f->leg[side].rtt_us),
	    "smoothed_rtt_ms", milliseconds(f->leg[side].srtt_us),
	    "worst_rtt_ms", milliseconds(f->leg[side].worst_us),
	    "idle_seconds", seconds(f->leg[side].idle_ms),
	    "fin", (int)f->leg[side].fin,
	    "tls", text_json(f->leg[side].tls.version),
	    "cipher", text_json(f->leg[side].tls.cipher),
	    "resumed", (int)f->leg[side].tls.resumed);
}

static const char *
flow_state(const struct flow_info *f)
{
	return f->connecting ? "connecting" :
	    f->leg[CLIENT].fin || f->leg[BACKEND].fin ? "half-closed" : "open";
}

static json_t *
flow_json(const struct flow_info *f)
{
	return json_pack("{s:I, s:o, s:s, s:s, s:o, s:o, s:o, s:o}",
	    "id", (json_int_t)f->id,
	    "route", text_json(f->route->name),
	    "protocol", f->protocol,
	    "state", flow_state(f),
	    "age_seconds", seconds(f->age_ms),
	    "backend_name", text_json(f->backend_text),
	    "client", flow_leg(f, CLIENT),
	    "backend", flow_leg(f, BACKEND));
}

json_t *
view_flows(struct server *s, const struct flow_query *q)
{
	struct gathered g = { NULL };
	json_t *list = json_array();

	gather(&g, s, q);
	for (size_t i = 0; i < g.n && !g.failed; i++)
		g.failed = json_array_append_new(list, flow_json(&g.flows[i])) < 0;
	drop_flows(&g, 0);
	free(g.flows);
	if (g.failed) {
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *
endpoint_list(const struct endpoint *e, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, text_json(e[i].text));
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

static json_t *
route_list(const struct config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];

		json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}",
		    "name", text_json(r->name),
		    "protocol", r->protocol,
		    "listen", endpoint_list(r->listen, r->n_listen),
		    "backends", endpoint_list(r->backend, r->n_backend),
		    "client", leg_json(&r->leg[CLIENT]),
		    "backend", leg_json(&r->leg[BACKEND])));
	}
	return list;
}

static json_t *
both_sides(const uint64_t count[2])
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
view_status(struct server *s)
{
	const struct config *c = server_config(s);
	struct relay_counters sum;

	view_sum(s, &sum);
	return json_pack("{s:s, s:i, s:o, s:o, s:b, s:i, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
	    "version", STENT_VERSION,
	    "pid", (int)getpid(),
	    "settings", text_json(c->path),
	    "uptime_seconds", seconds(server_uptime_ms(s)),
	    "draining", (int)server_is_draining(s),
	    "max_flows", server_max_flows(s),
	    "flows_open", (json_int_t)sum.flows_open,
	    "flows_total", (json_int_t)sum.flows_total,
	    "flows_by_worker", worker_list(s),
	    "bytes", both_sides(sum.bytes),
	    "heartbeats", both_sides(sum.heartbeats),
	    "replies", both_sides(sum.replies),
	    "passthrough", passthrough_json(&sum),
	    "ended", ended_json(&sum),
	    "routes", route_list(c));
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
