/*
 * refusals.c - the log lines of flows that never opened, limited in rate.
 *
 * A client can cause them as fast as the kernel completes handshakes, and a
 * line each would fill a disk. So each route and close reason has a bucket of
 * WHOLE_LINES lines, which fills by one a second. When it is empty, flows are
 * only counted, and one line a second gives their number.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/log.h"

#define WHOLE_LINES 20		/* before flows are only counted */
#define COUNT_EVERY_US US_PER_S

struct bucket {
	int64_t filled_us;	/* when `room` was last added to */
	uint64_t unlogged;	/* flows counted since the last line */
	uint8_t room;		/* lines that may be written */
};

struct refusals {
	struct timer timer;	/* armed while a bucket has unlogged flows */
	struct relay *relay;
	struct bucket buckets[];	/* of each route, REASON_COUNT */
};

static void
log_count(struct relay *r, size_t i)
{
	const enum close_reason reason = (enum close_reason)(i % REASON_COUNT);
	struct bucket *k = &r->refusals->buckets[i];

	if (k->unlogged == 0)
		return;
	log_event(reason_is_death(reason) ? LEVEL_WARN : LEVEL_INFO, "flows refused", (struct log_field[]){
	    LOG_TEXT("route", r->config->routes[i / REASON_COUNT].name),
	    LOG_TEXT("reason", reason_text(reason)),
	    LOG_INT("flows", k->unlogged),
	}, 3);
	k->unlogged = 0;
}

static void
log_all_counts(struct relay *r)
{
	for (size_t i = 0; i < r->config->n_routes * REASON_COUNT; i++)
		log_count(r, i);
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
	const size_t n = r->config->n_routes * REASON_COUNT;
	struct refusals *all = calloc(1, sizeof(*all) + n * sizeof(all->buckets[0]));

	if (all == NULL)
		return -ENOMEM;
	all->relay = r;
	all->timer.fire = on_timer;
	for (size_t i = 0; i < n; i++)
		all->buckets[i].room = WHOLE_LINES;
	r->refusals = all;
	return 0;
}

void
refusals_free(struct relay *r)
{
	if (r->refusals == NULL)
		return;
	log_all_counts(r);
	timer_disarm(r->timers, &r->refusals->timer);
	free(r->refusals);
	r->refusals = NULL;
}

static void
fill(struct bucket *k, int64_t now_us)
{
	const int64_t n = (now_us - k->filled_us) / US_PER_S;

	if (n <= 0)
		return;
	k->filled_us = n < WHOLE_LINES ? k->filled_us + n * US_PER_S : now_us;
	k->room = n < WHOLE_LINES - k->room ? (uint8_t)(k->room + n) : WHOLE_LINES;
}

bool
refusal_log(struct flow *f)
{
	struct relay *r = f->relay;
	struct bucket *k = &r->refusals->buckets[(size_t)(f->route - r->config->routes) * REASON_COUNT + f->reason];
	const int64_t now_us = clock_us();

	assert(f->reason != REASON_NONE && f->reason < REASON_COUNT);
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
