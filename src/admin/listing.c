/*
 * listing.c - the flows as JSON.
 *
 * Flows belong to their worker's thread: each worker in turn copies its own into
 * one array while this thread waits; sorting, cutting and JSON happen here
 * afterwards, so that they delay no flow. The array takes a few hundred bytes per
 * flow for a moment; JSON is made for no more flows than the limit, one after the
 * other as the client reads. Facts from the kernel (round trips) are read in a
 * second visit, only for the flows shown, unless they decide the order.
 */
#include "admin/listing.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "admin/census.h"
#include "admin/view.h"
#include "stent/config.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/side.h"
#include "stent/worker.h"

struct gathered {
	const struct flow_filter *filter;
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

static uint64_t
heartbeats_of(const struct flow_info *f)
{
	return f->leg[CLIENT].heartbeats + f->leg[BACKEND].heartbeats;
}

/* Those that have probes alone come first. */
static uint64_t
lack_of(const struct flow_info *f)
{
	return (uint64_t)(PROTECTION_BOTH - protection_of(f));
}

static const struct order {
	const char *name;
	uint64_t (*of)(const struct flow_info *f);	/* NULL: by the name of the route, ascending */
} orders[] = {
	{ "age", age_of },
	{ "new", newness_of },
	{ "bytes", bytes_of },
	{ "idle", idle_of },
	{ "rtt", rtt_of },
	{ "heartbeats", heartbeats_of },
	{ "protection", lack_of },
	{ "route", NULL },
};

static int
compare(const void *a, const void *b, void *arg)
{
	const struct flow_info *f = a, *g = b;
	const struct order *order = arg;
	const uint64_t x = order->of != NULL ? order->of(f) : 0, y = order->of != NULL ? order->of(g) : 0;
	const int by_name = order->of == NULL ? strcmp(f->route->name, g->route->name) : 0;
	int by_id;

	if (by_name != 0)
		return by_name;
	if (x != y)
		return x < y ? 1 : -1;
	by_id = f->id < g->id ? -1 : f->id > g->id;
	return order->of == newness_of ? -by_id : by_id;	/* of the same millisecond: the later one is the newer */
}

int
flow_query_read(struct flow_query *q, const char *name, const char *value)
{
	char *end;

	if (strcmp(name, "limit") == 0 && value[0] >= '0' && value[0] <= '9') {
		unsigned long n;

		errno = 0;
		n = strtoul(value, &end, 10);
		if (errno != 0 || *end != '\0')
			return -EINVAL;
		q->limit = n < FLOW_LIMIT_MAX ? n : FLOW_LIMIT_MAX;
		return 0;
	}
	if (strcmp(name, "sort") == 0)
		for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
			if (strcmp(value, orders[i].name) == 0) {
				q->sort = i;
				return 0;
			}
	return flow_filter_read(&q->filter, name, value) ? 0 : -EINVAL;
}

/* --- gathering --- */

/* On the worker's thread. */
static void
copy_flow(struct flow_info *info, void *arg)
{
	struct gathered *g = arg;

	if (g->failed || !flow_filter_matches(g->filter, info))
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
	g->filter = &q->filter;
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

/* --- as JSON --- */

static json_t *
milliseconds(int64_t us)
{
	return us < 0 ? json_null() : json_real((double)us / 1000);
}

/*
 * What is known about a side: "alive", it gave a sign of life recently; "probing", pings or TCP probes are unanswered;
 * "silent", its last sign is too old; "closed", it has sent its FIN; "dead", that is certain, and the flow ends;
 * "waiting": the backend is not connected before the client has sent its PROXY header or first byte.
 */
static const char *
verdict(const struct flow_info *f, enum side side)
{
	if (f->connecting && side == BACKEND)
		return f->awaits_client ? "waiting" : "connecting";
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

	return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:b}",
	    "verdict", verdict(f, side),
	    "last_sign_seconds", view_seconds(f->leg[side].heard_ms),
	    "misses", (json_int_t)f->leg[side].misses,
	    "misses_max", (json_int_t)f->leg[side].misses_max,
	    "probes", (json_int_t)f->leg[side].probes,
	    "probes_max", (json_int_t)f->leg[side].probes_max,
	    "why_none", view_text(f->leg[side].why_none),
	    "address", address_text(address, text),
	    "bytes", (json_int_t)f->leg[side].bytes,
	    "heartbeats", (json_int_t)f->leg[side].heartbeats,
	    "pings", (json_int_t)f->leg[side].pings,
	    "replies", (json_int_t)f->leg[side].replies,
	    "rtt_ms", milliseconds(f->leg[side].rtt_us),
	    "smoothed_rtt_ms", milliseconds(f->leg[side].srtt_us),
	    "worst_rtt_ms", milliseconds(f->leg[side].worst_us),
	    "idle_seconds", view_seconds(f->leg[side].idle_ms),
	    "fin", (int)f->leg[side].fin,
	    "detect_too_short", (int)f->leg[side].detect_too_short,
	    "tls", view_text(f->leg[side].tls.version),
	    "cipher", view_text(f->leg[side].tls.cipher),
	    "resumed", (int)f->leg[side].tls.resumed);
}

static const char *
flow_state(const struct flow_info *f)
{
	if (f->ending)
		return "ending";
	return f->awaits_client ? "waiting-for-client" : f->connecting ? "connecting" :
	    f->leg[CLIENT].fin || f->leg[BACKEND].fin ? "half-closed" : "open";
}

json_t *
listing_flow(const struct flow_info *f)
{
	char peer[ADDRESS_TEXT_MAX];

	return json_pack("{s:I, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o}",
	    "id", (json_int_t)f->id,
	    "route", view_text(f->route->name),
	    "protocol", f->protocol,
	    "state", flow_state(f),
	    "age_seconds", view_seconds(f->age_ms),
	    "backend_name", view_text(f->backend_text),
	    "client_peer", view_text(f->client_peer.family != 0 ? address_text(&f->client_peer, peer) : NULL),
	    "client", flow_leg(f, CLIENT),
	    "backend", flow_leg(f, BACKEND));
}

/* --- a listing --- */

struct listing {
	struct gathered all;
	size_t next;
};

struct listing *
listing_open(struct server *s, const struct flow_query *q)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	gather(&l->all, s, q);
	if (l->all.failed) {
		listing_free(l);
		return NULL;
	}
	return l;
}

json_t *
listing_next(struct listing *l)
{
	return l->next < l->all.n ? listing_flow(&l->all.flows[l->next++]) : NULL;
}

bool
listing_has_more(const struct listing *l)
{
	return l->next < l->all.n;
}

void
listing_free(struct listing *l)
{
	if (l == NULL)
		return;
	drop_flows(&l->all, 0);
	free(l->all.flows);
	free(l);
}

json_t *
listing_json(struct server *s, const struct flow_query *q)
{
	struct listing *l = listing_open(s, q);
	json_t *list = json_array();
	bool failed = l == NULL;

	while (!failed && listing_has_more(l))
		failed = json_array_append_new(list, listing_next(l)) < 0;
	listing_free(l);
	if (!failed)
		return list;
	json_decref(list);
	return NULL;
}
