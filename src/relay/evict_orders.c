/*
 * evict_orders.c - when_full = evict, as seen by the thread that accepts.
 *
 * A part of the table, the reserve, is kept free for those that come: above its
 * mark each new flow orders an eviction from the worker whose flow should go
 * first. Only when clients come faster than flows go does the table fill;
 * then the next clients wait in the kernel's queue for the moment, or are
 * refused if no flow may go. Workers begin to look for flows a little earlier.
 *
 * A flow that goes still has a place in the table until its peers were told, so
 * max_flows always holds.
 */
#include <assert.h>
#include <stdlib.h>

#include "relay/evict.h"
#include "relay/shared.h"
#include "stent/clock.h"

#define RESERVE_PART 16
#define RESERVE_MAX 64
#define WAKE_EVERY_US (200 * US_PER_MS)

#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

struct evict_table *
evict_first_table(const struct relay_shared *s)
{
	return __atomic_load_n(&s->tables, __ATOMIC_ACQUIRE);
}

void
evict_tables_free(struct relay_shared *s)
{
	for (struct evict_table *next, *t = s->tables; t != NULL; t = next) {
		next = t->next;
		free(t);
	}
}

/* NULL: out of memory. */
static struct evict_table *
table_of(struct relay_shared *s, unsigned slot)
{
	struct evict_table *t = s->tables;

	while (t != NULL && t->slot != slot)
		t = t->next;
	if (t != NULL)
		return t;
	assert(s->n_workers > 0 && (slot == EVICT_ALL || slot < s->n_routes));
	t = calloc(1, sizeof(*t) + (size_t)s->n_workers * sizeof(t->place[0]));
	if (t == NULL)
		return NULL;
	t->slot = slot;
	t->n_places = s->n_workers;
	t->next = s->tables;
	__atomic_store_n(&s->tables, t, __ATOMIC_RELEASE);
	return t;
}

static int
reserve_of(int max_flows)
{
	const int n = max_flows / RESERVE_PART;

	_Static_assert(RESERVE_MAX / 2 < 64, "more at a time have no room in struct evict_search");
	return n < 1 ? 1 : n < RESERVE_MAX ? n : RESERVE_MAX;
}

/* The table is almost full: has the workers look for flows that may go. */
static void
press(struct evict_table *t, int max_flows, const struct evict_caller *caller)
{
	const int64_t now_us = clock_us();
	const int leaving_max = reserve_of(max_flows) / 2 / t->n_places;

	for (int i = 0; i < t->n_places; i++) {
		struct evict_place *p = &t->place[i];

		if (now_us - GET(p->pressed_us) < WAKE_EVERY_US)
			continue;
		if (now_us - GET(p->pressed_us) > EVICT_PRESSED_US)
			SET(p->is_searching, true);	/* it will see when it wakes up */
		SET(p->leaving_max, leaving_max);
		SET(p->pressed_us, now_us);
		caller->wake(caller->arg, i);
	}
}

/* Of the flows that may go and were not ordered yet, the one that should be first. NULL: there is none. */
static struct evict_place *
best_place(struct evict_table *t)
{
	struct evict_place *best = NULL;

	for (int i = 0; i < t->n_places; i++)
		if (GET(t->place[i].ready) > GET(t->place[i].wanted) && (best == NULL || GET(t->place[i].rank) < GET(best->rank)))
			best = &t->place[i];
	return best;
}

/* False: no flow may go. */
static bool
order(struct evict_table *t, const struct evict_caller *caller)
{
	struct evict_place *p = best_place(t);

	if (p != NULL && __atomic_fetch_add(&p->wanted, 1, __ATOMIC_RELAXED) == 0)
		caller->wake(caller->arg, (int)(p - t->place));
	return p != NULL;
}

enum evict_room
evict_look(struct relay_shared *s, unsigned slot, int open, int max_flows, const struct evict_caller *caller)
{
	struct evict_table *t;

	if (open < max_flows)
		return EVICT_ROOM;
	t = table_of(s, slot);
	if (t == NULL)
		return EVICT_FULL;
	press(t, max_flows, caller);
	for (int i = 0; i < t->n_places; i++)
		if (GET(t->place[i].wanted) > 0)
			return EVICT_WAIT;
	if (order(t, caller))
		return EVICT_WAIT;
	for (int i = 0; i < t->n_places; i++)
		if (GET(t->place[i].is_searching))
			return EVICT_WAIT;
	return EVICT_FULL;
}

/* The flows that are neither ordered to go nor leaving. */
static int
staying(const struct evict_table *t, int open)
{
	assert(open >= 0);
	for (int i = 0; i < t->n_places; i++)
		open -= GET(t->place[i].wanted) + GET(t->place[i].leaving);
	return open;
}

bool
evict_prepare(struct relay_shared *s, unsigned slot, int open, int max_flows, const struct evict_caller *caller)
{
	const int reserve = reserve_of(max_flows), mark = max_flows - reserve;
	struct evict_table *t = open >= mark - reserve ? table_of(s, slot) : NULL;
	bool has_ordered = false;

	if (t == NULL)
		return false;
	press(t, max_flows, caller);
	for (int n = staying(t, open) + 1 - mark; n > 0 && order(t, caller); n--)
		has_ordered = true;
	return has_ordered;
}
