/*
 * drain.c - the flows of a relay retire one after the other, evenly over a part
 * of the drain, so that their clients do not connect again all at once to
 * whatever takes over.
 *
 * The oldest retire first: a timer goes along the list of flows, as far as the
 * time that has passed says. New flows, where clients are still accepted, are
 * behind in the list, and told when that time is over. None is told in its first
 * second: between its login and its first request it looks as if it were idle.
 */
#include <assert.h>

#include "relay/drain.h"
#include "relay/ending.h"
#include "relay/retire.h"
#include "relay/shared.h"

#define STEP_US (20 * US_PER_MS)
#define YOUNG_US US_PER_S
#define FLOWS_A_STEP 1000	/* limit: bytes of no flow are relayed meanwhile */

/* The oldest flow that was not told; NULL: there is none. */
static struct flow *
next_of(const struct relay *r)
{
	struct flow *f = TAILQ_LAST(&r->flows, flow_list), *first = NULL;

	if (r->drain.next != NULL)
		return r->drain.next;
	for (; f != NULL && f->id > r->drain.told_id; f = TAILQ_PREV(f, flow_list, link))
		first = f;
	return first;
}

static void
tell(struct relay *r, struct flow *f)
{
	assert(f->relay == r && f->state != FLOW_ENDED);	/* drain_forget() steps over it */
	r->drain.next = TAILQ_NEXT(f, link);
	r->drain.told_id = f->id;
	r->drain.left -= r->drain.left > 0;
	flow_retire(f, REASON_DRAIN, r->drain.when.by_us);
}

/* How many are to be told now. */
static size_t
share(struct relay *r, int64_t now_us)
{
	const int64_t left_us = r->drain.when.until_us - now_us, step_us = now_us - r->drain.last_us;
	double n;

	if (left_us <= 0)
		return FLOWS_A_STEP;
	n = r->drain.owed + (double)r->drain.left * (double)step_us / (double)(left_us + step_us);
	if (n > FLOWS_A_STEP)
		n = FLOWS_A_STEP;
	assert(n >= 0);			/* a clock that went back would owe flows */
	r->drain.owed = n - (double)(size_t)n;
	return (size_t)n;
}

static size_t
count(const struct relay *r)
{
	const struct flow *f;
	size_t n = 0;

	TAILQ_FOREACH(f, &r->flows, link)
		n++;
	return n;
}

static void
on_step(struct timer *t, int64_t now_us)
{
	struct relay *r = (struct relay *)(void *)((char *)t - offsetof(struct relay, drain.timer));
	struct flow *f;
	size_t n;

	if (r->drain.last_us == 0) {
		r->drain.left = count(r);
		r->drain.owed = 1;	/* the first is told at once */
		r->drain.last_us = now_us;
		r->drain.next = TAILQ_FIRST(&r->flows);
	}
	for (n = share(r, now_us); n > 0; n--) {
		f = next_of(r);
		if (f == NULL || now_us - f->began_us < YOUNG_US)
			break;
		tell(r, f);
	}
	r->drain.owed += (double)n;
	r->drain.last_us = now_us;
	(void)timer_arm(r->timers, t, now_us + STEP_US);
}

void
relay_drain(struct relay *r, const struct drain_times *when)
{
	assert(when->from_us <= when->until_us && when->until_us <= when->by_us);
	r->drain.when = *when;
	r->drain.last_us = 0;
	r->drain.timer.fire = on_step;
	(void)timer_arm(r->timers, &r->drain.timer, when->from_us);
}

void
drain_forget(struct relay *r, const struct flow *f)
{
	if (r->drain.next != f)
		return;
	r->drain.next = TAILQ_NEXT(f, link);
	r->drain.left -= r->drain.left > 0;
}
