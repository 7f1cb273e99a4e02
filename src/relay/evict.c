/*
 * evict.c - when_full = evict: which flows of this worker may go, and their end.
 *
 * While a table is almost full, all flows are looked at in slices, and the few
 * hundred that should go first are kept in order, so that an eviction is the look
 * at one flow. It is looked at again then: one that was used since stays.
 *
 * First go flows whose client has sent nothing yet, the oldest first: those of
 * somebody who only connects. Then the longest idle. A flow stays for MIN_US
 * after its begin or its last bytes; but flows whose client has sent nothing
 * have only a quarter of the table, so that a flood of them replaces itself, and
 * nobody else. Where the codec knows of a transaction, a statement or half a
 * message, the flow stays, as long as it may be.
 */
#include "relay/evict.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "relay/require.h"
#include "relay/retire.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/clock.h"

#define MIN_US (2 * US_PER_S)		/* a flow stays for so long after its begin or its last bytes */
#define SILENT_PART 4			/* flows whose client has sent nothing have this part of the table */
#define IDLE_PART 16			/* of the flows that were used, a search finds at most one in so many ... */
#define IDLE_MIN 8			/* ... and at least these; until the next one, as a flood may have begun */
#define SLICE_US 300			/* limit of a slice: no bytes are relayed meanwhile */
#define BARREN_US US_PER_S		/* how long a search that has found nothing is not repeated */
#define COST_PART 10			/* searching takes at most this part of the time */
#define KEPT 256			/* flows of each kind that are kept */
#define SILENT_FIRST (INT64_C(1) << 62)	/* off the rank of a flow whose client has sent nothing */

#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

struct candidate {
	struct flow *flow;
	int64_t since_us;		/* its begin, or its last bytes */
	bool is_silent;			/* its client has sent nothing */
};

/* The n with the lowest since_us; the highest of them is at the root. */
struct heap {
	struct candidate at[KEPT];
	size_t n;
};

/* Of one table. */
struct evict_search {
	struct evict_search *next;
	struct evict_table *table;
	struct flow *next_flow;		/* to be looked at; NULL: no search runs */
	int64_t not_before_us;		/* when the next search may begin */
	size_t n_flows, n_silent;	/* looked at in this search */
	struct heap silent, idle;	/* found by it */
	struct candidate ready[2 * KEPT];	/* of the last search that is done, in the order in which they go */
	size_t first_ready, n_ready;
	struct flow *leaving[64];	/* evicted, and not gone: the oldest first */
	size_t n_leaving, n_gone;	/* n_gone: gone, and not freed */
	int64_t cost_us;		/* of this search */
};

static struct evict_place *
place_of(const struct relay *r, const struct evict_search *s)
{
	assert(r->index >= 0 && r->index < s->table->n_places);
	return &s->table->place[r->index];
}

static bool
is_of(const struct evict_search *s, const struct flow *f)
{
	return s->table->slot == EVICT_ALL || s->table->slot == f->route->slot;
}

/* --- which flows may go --- */

static bool
has_backlog(const struct flow *f)
{
	return f->leg[CLIENT].backlog != NULL || f->leg[BACKEND].backlog != NULL;
}

/* May this flow go, as far as is known without asking the kernel? */
static bool
judge(struct flow *f, int64_t now_us, struct candidate *c)
{
	const int64_t client_us = session_app_us(f, CLIENT), backend_us = session_app_us(f, BACKEND);

	*c = (struct candidate){ .flow = f, .since_us = f->began_us, .is_silent = f->leg[CLIENT].bytes == 0 };
	if (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE)
		return true;
	if (f->state != FLOW_OPEN || has_backlog(f))
		return false;
	if (f->leg[CLIENT].bytes + f->leg[BACKEND].bytes > 0)
		c->since_us = client_us > backend_us ? client_us : backend_us;
	return c->is_silent || (now_us - c->since_us >= MIN_US && retire_rest(f) != REST_NONE);
}

static bool
is_unread(const struct flow *f, enum side s)
{
	const struct leg *l = &f->leg[s];

	return transport_unread(&l->transport) > 0 || (leg_is_tls(l) && transport_is_pending(&l->transport));
}

/* Is it still as it was when it was found? What was not read yet counts as bytes, too. */
static bool
may_go(const struct candidate *c, int64_t now_us)
{
	struct candidate now;

	if (!judge(c->flow, now_us, &now) || now.since_us != c->since_us || now.is_silent != c->is_silent)
		return false;
	return c->flow->state != FLOW_OPEN || !(is_unread(c->flow, CLIENT) || is_unread(c->flow, BACKEND));
}

/* --- the search --- */

static void
sift_down(struct heap *h, size_t i)
{
	for (;;) {
		size_t high = i;

		for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < h->n; k++)
			if (h->at[k].since_us > h->at[high].since_us)
				high = k;
		if (high == i)
			return;
		const struct candidate c = h->at[i];

		h->at[i] = h->at[high];
		h->at[high] = c;
		i = high;
	}
}

static void
offer(struct heap *h, const struct candidate *c)
{
	assert(h->n <= KEPT);
	if (h->n == KEPT) {
		if (c->since_us >= h->at[0].since_us)
			return;
		h->at[0] = *c;
		sift_down(h, 0);
		return;
	}
	h->at[h->n++] = *c;
	if (h->n == KEPT)
		for (size_t i = KEPT / 2; i-- > 0;)
			sift_down(h, i);
}

static int
compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->since_us < y->since_us ? -1 : x->since_us > y->since_us;
}

static void
publish(struct relay *r, struct evict_search *s)
{
	struct evict_place *p = place_of(r, s);
	const struct candidate *c = &s->ready[s->first_ready];

	assert(s->first_ready + s->n_ready <= 2 * KEPT);
	if (s->n_ready > 0)
		SET(p->rank, c->since_us - (c->is_silent ? SILENT_FIRST : 0));
	SET(p->ready, (int)s->n_ready);
	SET(p->is_searching, s->next_flow != NULL);
}

static void
begin(struct relay *r, struct evict_search *s, int64_t now_us)
{
	const int64_t pressed_us = GET(place_of(r, s)->pressed_us);

	if (s->next_flow != NULL || s->n_ready > KEPT / 4 || now_us < s->not_before_us || now_us - pressed_us > EVICT_PRESSED_US)
		return;
	s->next_flow = TAILQ_FIRST(&r->flows);
	s->cost_us = 0;
	s->n_flows = s->n_silent = s->silent.n = s->idle.n = 0;
}

/* All flows were looked at: those found replace the ones before. */
static void
finish_search(struct evict_search *s, int64_t now_us)
{
	const bool is_flood = s->n_silent * SILENT_PART > s->n_flows;
	const size_t most_idle = s->n_flows / IDLE_PART > IDLE_MIN ? s->n_flows / IDLE_PART : IDLE_MIN;
	size_t n = 0;

	assert(s->next_flow == NULL && s->n_silent <= s->n_flows);
	assert(s->silent.n <= s->n_silent && s->silent.n <= KEPT && s->idle.n <= KEPT);
	qsort(s->silent.at, s->silent.n, sizeof(s->silent.at[0]), compare);
	qsort(s->idle.at, s->idle.n, sizeof(s->idle.at[0]), compare);
	for (size_t i = 0; i < s->silent.n; i++)
		if (now_us - s->silent.at[i].since_us >= MIN_US || is_flood)
			s->ready[n++] = s->silent.at[i];
	for (size_t i = 0; i < s->idle.n && i < most_idle && !is_flood; i++)
		s->ready[n++] = s->idle.at[i];
	assert(n <= sizeof(s->ready) / sizeof(s->ready[0]));
	s->first_ready = 0;
	s->n_ready = n;
	s->silent.n = s->idle.n = 0;
	s->not_before_us = now_us + (s->n_ready == 0 ? BARREN_US : COST_PART * s->cost_us);
}

static void
look_at(struct evict_search *s, struct flow *f, int64_t now_us)
{
	struct candidate c;

	assert(f->state != FLOW_ENDED);		/* evict_forget() steps over it */
	if (!is_of(s, f))
		return;
	s->n_flows++;
	if (!judge(f, now_us, &c))
		return;
	s->n_silent += c.is_silent;
	offer(c.is_silent ? &s->silent : &s->idle, &c);
}

/* --- the end --- */

static void
publish_leaving(struct relay *r, struct evict_search *s)
{
	SET(place_of(r, s)->leaving, (int)(s->n_leaving + s->n_gone));
}

static void
leave(struct relay *r, struct evict_search *s, struct flow *f)
{
	struct evict_place *p = place_of(r, s);
	const size_t most = (size_t)GET(p->leaving_max);

	assert(most < sizeof(s->leaving) / sizeof(s->leaving[0]));
	require_void(f, f->state == FLOW_OPEN || f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE);
	s->leaving[s->n_leaving++] = f;
	publish_leaving(r, s);
	if (f->state == FLOW_OPEN && f->leg[CLIENT].bytes > 0)
		flow_apply(f, VERDICT_AT_REST(REASON_EVICTED));
	else
		flow_end(f, REASON_EVICTED);
	/* Those that were told first make room: the kernel delivers what they were told. */
	while (s->n_leaving > most)
		flow_close(s->leaving[0]);
}

/* Does what was ordered, as far as there are flows that may go. */
static void
carry_out(struct relay *r, struct evict_search *s, int64_t now_us)
{
	struct evict_place *p = place_of(r, s);

	while (GET(p->wanted) > 0 && s->n_ready > 0) {
		const struct candidate c = s->ready[s->first_ready++];

		assert(c.flow->relay == r && c.flow->state != FLOW_ENDED);
		s->n_ready--;
		if (!may_go(&c, now_us))
			continue;
		leave(r, s, c.flow);
		__atomic_fetch_sub(&p->wanted, 1, __ATOMIC_RELAXED);
	}
	begin(r, s, now_us);
	if (s->n_ready == 0 && s->next_flow == NULL)
		SET(p->wanted, 0);	/* nothing may go: the orders are void */
	publish(r, s);
}

/* NULL: out of memory. */
static struct evict_search *
search_of(struct relay *r, struct evict_table *t)
{
	struct evict_search *s = r->evict;

	while (s != NULL && s->table != t)
		s = s->next;
	if (s != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->table = t;
	s->next = r->evict;
	r->evict = s;
	return s;
}

void
relay_make_room(struct relay *r)
{
	const int64_t now_us = clock_us();

	for (struct evict_table *t = evict_first_table(r->shared); t != NULL; t = t->next) {
		struct evict_search *s = search_of(r, t);

		if (s != NULL)
			carry_out(r, s, now_us);
		else
			SET(t->place[r->index].is_searching, false);
	}
}

void
evict_some(struct relay *r)
{
	const int64_t now_us = r->evict != NULL ? clock_us() : 0, until_us = now_us + SLICE_US;

	for (struct evict_search *s = r->evict; s != NULL; s = s->next) {
		if (s->n_gone > 0) {
			s->n_gone = 0;		/* they were freed just before */
			publish_leaving(r, s);
		}
		if (s->next_flow == NULL)
			continue;
		for (int i = 0; s->next_flow != NULL && ((i & 15) != 15 || clock_us() < until_us); i++) {
			struct flow *f = s->next_flow;

			assert(f->relay == r);
			s->next_flow = TAILQ_NEXT(f, link);
			look_at(s, f, now_us);
		}
		s->cost_us += clock_us() - now_us;
		if (s->next_flow != NULL)
			continue;
		finish_search(s, now_us);
		carry_out(r, s, now_us);
	}
}

bool
evict_has_work(const struct relay *r)
{
	for (const struct evict_search *s = r->evict; s != NULL; s = s->next)
		if (s->next_flow != NULL)
			return true;
	return false;
}

static void
forget_in(struct heap *h, const struct flow *f)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->at[i].flow == f) {
			h->at[i] = h->at[--h->n];	/* no heap any more, until it is full again */
			return;
		}
}

static void
forget_ready(struct evict_search *s, const struct flow *f)
{
	for (size_t i = s->first_ready; i < s->first_ready + s->n_ready; i++)
		if (s->ready[i].flow == f) {
			memmove(&s->ready[i], &s->ready[i + 1], (s->first_ready + s->n_ready - i - 1) * sizeof(s->ready[0]));
			s->n_ready--;
			return;
		}
}

static void
forget_leaving(struct evict_search *s, const struct flow *f)
{
	for (size_t i = 0; i < s->n_leaving; i++)
		if (s->leaving[i] == f) {
			assert(s->n_leaving <= sizeof(s->leaving) / sizeof(s->leaving[0]));
			memmove(&s->leaving[i], &s->leaving[i + 1], (s->n_leaving - i - 1) * sizeof(s->leaving[0]));
			s->n_leaving--;
			s->n_gone++;
			return;
		}
}

void
evict_forget(struct flow *f)
{
	struct relay *r = f->relay;

	for (struct evict_search *s = r->evict; s != NULL; s = s->next) {
		if (s->next_flow == f)		/* of any route */
			s->next_flow = TAILQ_NEXT(f, link);
		if (!is_of(s, f))
			continue;
		forget_in(&s->silent, f);
		forget_in(&s->idle, f);
		forget_ready(s, f);
		forget_leaving(s, f);
		publish_leaving(r, s);
	}
}

void
evict_free(struct relay *r)
{
	for (struct evict_search *next, *s = r->evict; s != NULL; s = next) {
		next = s->next;
		free(s);
	}
	r->evict = NULL;
}
