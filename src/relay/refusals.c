/*
 * refusals.c - the log lines of flows that never opened, limited in rate.
 *
 * A client can cause them as fast as the kernel completes handshakes, and a
 * line each would fill a disk. So each route and close reason (or cause, where a
 * limit refused the client) has a bucket of WHOLE_LINES lines, which fills by one
 * a second. When it is empty, flows are only counted, and one line a second
 * gives their number. Of refusals there is also an event, at most one a second.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/events.h"
#include "stent/log.h"

#define WHOLE_LINES 20		/* before flows are only counted */
#define COUNT_EVERY_US US_PER_S
#define BUCKETS (REASON_COUNT + ADMISSION_COUNT)	/* of a route: by close reason, then by cause */

struct bucket {
	int64_t filled_us;	/* when `room` was last added to */
	int64_t told_us;	/* when the last event was */
	uint64_t unlogged;	/* flows counted since the last line */
	uint8_t room;		/* lines that may be written */
};

struct refusals {
	struct timer timer;	/* armed while a bucket has unlogged flows */
	struct relay *relay;
	size_t n_routes;
	struct bucket *buckets[];	/* by the slot of a route: BUCKETS each; NULL: none yet */
};

static void
log_count(struct bucket *k, const char *route, size_t index)
{
	const bool has_cause = index >= REASON_COUNT;
	enum close_reason reason;

	if (k->unlogged == 0)
		return;
	assert(index < BUCKETS);
	reason = has_cause ? admission_reason((enum admission)(index - REASON_COUNT)) : (enum close_reason)index;
	log_event(end_log_level(reason), "flows refused", (struct log_field[]){
	    LOG_TEXT("route", route),
	    LOG_TEXT("reason", reason_text(reason)),
	    LOG_INT("flows", k->unlogged),
	    LOG_TEXT("cause", has_cause ? admission_text((enum admission)(index - REASON_COUNT)) : ""),
	}, has_cause ? 4 : 3);
	k->unlogged = 0;
}

static void
log_all_counts(struct relay *r)
{
	const struct refusals *all = r->refusals;

	for (size_t i = 0; i < all->n_routes; i++)
		for (size_t k = 0; k < BUCKETS && all->buckets[i] != NULL; k++)
			log_count(&all->buckets[i][k], r->shared->routes[i]->name, k);
}

static void
on_timer(struct timer *t, int64_t now_us)
{
	(void)now_us;
	log_all_counts(((struct refusals *)(void *)((char *)t - offsetof(struct refusals, timer)))->relay);
}

int
refusals_init(struct relay *r)
{
	struct refusals *all = calloc(1, sizeof(*all) + r->shared->room * sizeof(all->buckets[0]));

	if (all == NULL)
		return -ENOMEM;
	all->relay = r;
	all->timer.fire = on_timer;
	all->n_routes = r->shared->room;
	r->refusals = all;
	return 0;
}

void
refusals_free(struct relay *r)
{
	struct refusals *all = r->refusals;

	if (all == NULL)
		return;
	log_all_counts(r);
	timer_disarm(r->timers, &all->timer);
	for (size_t i = 0; i < all->n_routes; i++)
		free(all->buckets[i]);
	free(all);
	r->refusals = NULL;
}

/* NULL: out of memory. */
static struct bucket *
bucket_of(struct relay *r, const struct flow *f)
{
	struct bucket **of_route = &r->refusals->buckets[f->route->slot];

	assert(f->route->slot < r->refusals->n_routes);
	assert(f->reason < REASON_COUNT && f->admission < ADMISSION_COUNT);	/* there is a bucket for each */
	if (*of_route == NULL) {
		*of_route = calloc(BUCKETS, sizeof(**of_route));
		for (size_t i = 0; i < BUCKETS && *of_route != NULL; i++)
			(*of_route)[i].room = WHOLE_LINES;
	}
	if (*of_route == NULL)
		return NULL;
	return &(*of_route)[admission_is_refused(f->admission) ? REASON_COUNT + f->admission : f->reason];
}

static void
fill(struct bucket *k, int64_t now_us)
{
	const int64_t n = (now_us - k->filled_us) / US_PER_S;

	if (n <= 0)
		return;
	k->filled_us = n < WHOLE_LINES ? k->filled_us + n * US_PER_S : now_us;
	k->room = n < WHOLE_LINES - k->room ? (uint8_t)(k->room + n) : WHOLE_LINES;
	assert(k->filled_us <= now_us);
}

/* Who asks for events is told of limits; of those that refuse flows all the time, once a second. */
static void
tell(const struct flow *f, struct bucket *k, int64_t now_us)
{
	char client[ADDRESS_TEXT_MAX];

	if (!admission_is_refused(f->admission) || (k->told_us != 0 && now_us - k->told_us < COUNT_EVERY_US))
		return;
	k->told_us = now_us;
	if (events_want(EVENT_LIMIT))
		events_say(EVENT_LIMIT, (struct log_field[]){
		    LOG_TEXT("route", f->route->name),
		    LOG_TEXT("cause", admission_text(f->admission)),
		    LOG_TEXT("client", address_text(&f->client, client)),
		    LOG_INT("refused", counters_of(f)->refusals[f->admission]),
		}, 4);
}

bool
refusal_log(struct flow *f)
{
	struct relay *r = f->relay;
	struct bucket *k = bucket_of(r, f);
	const int64_t now_us = clock_us();

	assert(f->reason != REASON_NONE && f->reason < REASON_COUNT);
	if (k == NULL) {
		end_log(f);
		return true;
	}
	tell(f, k, now_us);
	fill(k, now_us);
	assert(k->room <= WHOLE_LINES);
	if (k->room > 0 && k->unlogged == 0) {
		k->room--;
		end_log(f);
		return true;
	}
	k->unlogged++;
	if (r->refusals->timer.slot == 0 && timer_arm(r->timers, &r->refusals->timer, now_us + COUNT_EVERY_US) != 0)
		log_all_counts(r);
	return false;
}
