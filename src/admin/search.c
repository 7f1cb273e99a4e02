/*
 * search.c - finds the flows that a page shows, among many, without a copy of
 * them all.
 *
 * Each worker in turn visits its flows, in slices between which it relays. Of
 * those that match only the key and the id of the first offset + limit are kept,
 * in a heap whose root is the last of them; so the work of this thread does not
 * grow with the number of flows. A second visit copies the flows shown.
 */
#include "admin/search.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/census.h"
#include "admin/filter.h"
#include "admin/listing.h"
#include "stent/config.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/side.h"
#include "stent/worker.h"

#define OFFSET_MAX 100000

struct rank {
	uint64_t high, low, id;
};

/* --- orders --- */

static void
by_age(struct flow_info *f, struct rank *r)
{
	r->low = UINT64_MAX - (uint64_t)f->began_us;	/* not age_ms, which depends on when a worker was visited */
}

static void
by_bytes(struct flow_info *f, struct rank *r)
{
	r->low = f->leg[CLIENT].bytes + f->leg[BACKEND].bytes;
}

/* A flow is idle when both legs are. */
static void
by_idle(struct flow_info *f, struct rank *r)
{
	const int64_t c = f->leg[CLIENT].idle_ms, b = f->leg[BACKEND].idle_ms;

	r->low = (uint64_t)(c < b ? c : b);
}

static void
by_rtt(struct flow_info *f, struct rank *r)
{
	int64_t c, b;

	flow_info_add_kernel(f);
	c = f->leg[CLIENT].rtt_us;
	b = f->leg[BACKEND].rtt_us;
	r->low = (uint64_t)((c > b ? c : b) + 1);
}

static void
by_heartbeats(struct flow_info *f, struct rank *r)
{
	r->low = f->leg[CLIENT].heartbeats + f->leg[BACKEND].heartbeats;
}

static void
by_protection(struct flow_info *f, struct rank *r)
{
	r->low = protection_of(f);
}

/* Its first 16 bytes, which compare as two numbers. */
static void
rank_bytes(struct rank *r, const void *bytes, size_t len)
{
	uint8_t part[16] = { 0 };

	memcpy(part, bytes, len < sizeof(part) ? len : sizeof(part));
	for (size_t i = 0; i < 8; i++) {
		r->high = r->high << 8 | part[i];
		r->low = r->low << 8 | part[8 + i];
	}
}

static void
by_route(struct flow_info *f, struct rank *r)
{
	rank_bytes(r, f->route->name, strlen(f->route->name));
}

static void
by_client(struct flow_info *f, struct rank *r)
{
	rank_bytes(r, f->client.ip, sizeof(f->client.ip));
}

static void
by_backend(struct flow_info *f, struct rank *r)
{
	const char *text = f->backend_text != NULL ? f->backend_text : "";

	rank_bytes(r, text, strlen(text));
}

static const struct {
	const char *name;
	void (*rank)(struct flow_info *f, struct rank *r);
} orders[] = {
	{ "age", by_age }, { "route", by_route }, { "client", by_client }, { "backend", by_backend }, { "bytes", by_bytes },
	{ "idle", by_idle }, { "rtt", by_rtt }, { "heartbeats", by_heartbeats }, { "protection", by_protection },
};

/* --- the parameters --- */

static bool
read_number(uint64_t *ret, const char *text, uint64_t most)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
		return false;
	*ret = *ret < most ? *ret : most;
	return true;
}

static bool
read_text(char *ret, size_t size, const char *text)
{
	return (size_t)snprintf(ret, size, "%s", text) < size;
}

static bool
read_sort(struct search *q, const char *text)
{
	for (q->sort = 0; q->sort < sizeof(orders) / sizeof(orders[0]); q->sort++)
		if (strcmp(text, orders[q->sort].name) == 0)
			return true;
	q->sort = 0;
	return false;
}

static bool
read_protection(struct search *q, const char *text)
{
	for (q->protection = 0; q->protection < PROTECTIONS; q->protection++)
		if (strcmp(text, protection_name((enum protection)q->protection)) == 0)
			return true;
	q->protection = -1;
	return text[0] == '\0';
}

bool
search_read(struct search *q, const char *name, const char *value)
{
	uint64_t n = 0;
	bool is_good = false;

	if (strcmp(name, "q") == 0)
		return read_text(q->text, sizeof(q->text), value);
	if (strcmp(name, "route") == 0)
		return read_text(q->route, sizeof(q->route), value);
	if (strcmp(name, "protection") == 0)
		return read_protection(q, value);
	if (strcmp(name, "sort") == 0)
		return read_sort(q, value);
	if (strcmp(name, "order") == 0) {
		q->is_descending = strcmp(value, "down") == 0;
		return q->is_descending || strcmp(value, "up") == 0;
	}
	if (strcmp(name, "id") == 0)
		return read_number(&q->id, value, UINT64_MAX);
	if (strcmp(name, "offset") == 0) {
		is_good = read_number(&n, value, OFFSET_MAX);
		q->offset = n;
	} else if (strcmp(name, "limit") == 0) {
		is_good = read_number(&n, value, SEARCH_ROWS_MAX) && n > 0;
		q->limit = n;
	}
	return is_good;
}

/* --- the first visit: which --- */

struct finding {
	const struct search *q;
	size_t total, matched;
	struct rank *heap;
	size_t n, room;		/* room: offset + limit */
};

static bool
matches(const struct flow_info *f, const struct search *q)
{
	return (q->route[0] == '\0' || strcmp(f->route->name, q->route) == 0) &&
	    (q->protection < 0 || (int)protection_of(f) == q->protection) && (q->text[0] == '\0' || flow_has_text(f, q->text));
}

/* Does a stand before b in the order asked for? */
static bool
is_before(const struct search *q, const struct rank *a, const struct rank *b)
{
	if (a->high != b->high)
		return (a->high < b->high) != q->is_descending;
	if (a->low != b->low)
		return (a->low < b->low) != q->is_descending;
	return a->id < b->id;
}

static void
swap(struct rank *a, struct rank *b)
{
	const struct rank c = *a;

	*a = *b;
	*b = c;
}

static void
sift_down(struct finding *g, size_t at)
{
	for (;;) {
		size_t last = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < g->n; child++)
			if (is_before(g->q, &g->heap[last], &g->heap[child]))
				last = child;
		if (last == at)
			return;
		swap(&g->heap[at], &g->heap[last]);
		at = last;
	}
}

static void
keep(struct finding *g, const struct rank *r)
{
	if (g->n == g->room) {
		if (!is_before(g->q, r, &g->heap[0]))
			return;
		g->heap[0] = *r;
		sift_down(g, 0);
		return;
	}
	g->heap[g->n++] = *r;
	for (size_t at = g->n - 1; at > 0; at = (at - 1) / 2) {
		if (!is_before(g->q, &g->heap[(at - 1) / 2], &g->heap[at]))
			return;
		swap(&g->heap[at], &g->heap[(at - 1) / 2]);
	}
}

/* On the worker's thread. */
static void
find(struct flow_info *f, void *arg)
{
	struct finding *g = arg;
	struct rank r = { .id = f->id };

	g->total++;
	if (!matches(f, g->q))
		return;
	g->matched++;
	orders[g->q->sort].rank(f, &r);
	keep(g, &r);
}

/* The heap becomes a list in order. */
static void
put_in_order(struct finding *g)
{
	const size_t n = g->n;

	for (; g->n > 1; sift_down(g, 0)) {
		g->n--;
		swap(&g->heap[0], &g->heap[g->n]);
	}
	g->n = n;
}

/* --- the second visit: what is shown --- */

struct copies {
	const struct rank *shown;
	size_t n;
	uint64_t id;			/* one more */
	struct flow_info *flows;	/* n + 1, those that were found */
};

/* On the worker's thread. The settings are held, since the flow may be gone when it is read. */
static void
copy(struct flow_info *f, void *arg)
{
	struct copies *c = arg;
	size_t i = 0;

	while (i < c->n && c->shown[i].id != f->id)
		i++;
	if (i == c->n && f->id != c->id)
		return;
	flow_info_add_kernel(f);
	if (i < c->n && c->flows[i].route == NULL) {
		config_hold(f->route->config);
		c->flows[i] = *f;
	}
	if (f->id == c->id && c->flows[c->n].route == NULL) {
		config_hold(f->route->config);
		c->flows[c->n] = *f;
	}
}

static void
each_flow(const struct server *s, void (*visit)(struct flow_info *info, void *arg), void *arg)
{
	for (size_t i = 0; i < server_workers(s); i++)
		worker_each_flow(server_worker(s, i), visit, arg);
}

static json_t *
copies_json(const struct finding *g, size_t offset, const struct copies *c)
{
	json_t *list = json_array(), *one = c->flows[c->n].route != NULL ? listing_flow(&c->flows[c->n]) : json_null();

	for (size_t i = 0; i < c->n; i++)
		if (c->flows[i].route != NULL)
			json_array_append_new(list, listing_flow(&c->flows[i]));
	return json_pack("{s:I, s:I, s:I, s:o, s:o}", "total", (json_int_t)g->total, "matched", (json_int_t)g->matched,
	    "offset", (json_int_t)offset, "flows", list, "flow", one);
}

static json_t *
show(const struct finding *g, struct server *s)
{
	const size_t limit = g->q->limit, past = g->n > 0 ? g->n - 1 : 0;
	const size_t offset = g->q->offset < g->n ? g->q->offset : past - past % limit;	/* else the last page */
	struct copies c = { .shown = g->heap + offset, .id = g->q->id };
	json_t *j;

	c.n = g->n - offset < limit ? g->n - offset : limit;
	c.flows = calloc(c.n + 1, sizeof(*c.flows));
	if (c.flows == NULL)
		return NULL;
	if (c.n > 0 || c.id != 0)
		each_flow(s, copy, &c);
	j = copies_json(g, offset, &c);
	for (size_t i = 0; i <= c.n; i++)
		if (c.flows[i].route != NULL)
			config_release(c.flows[i].route->config);
	free(c.flows);
	return j;
}

json_t *
search_run(const struct search *q, struct server *s)
{
	struct finding g = { .q = q, .room = q->offset + q->limit };
	json_t *j;

	assert(q->limit > 0);
	g.heap = calloc(g.room, sizeof(*g.heap));
	if (g.heap == NULL)
		return NULL;
	each_flow(s, find, &g);
	put_in_order(&g);
	j = show(&g, s);
	free(g.heap);
	return j;
}
