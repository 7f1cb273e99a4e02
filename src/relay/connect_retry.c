/*
 * connect_retry.c - clients that wait while no backend accepts, for a database
 * that restarts.
 *
 * A round tries all backends, within connect_timeout. After one that failed the
 * flow waits, longer each time and with jitter, and tries again until
 * connect_retry is over. While all backends of the route are down, a few flows
 * a second try for all; once one has connected, each tries at its next turn.
 * Nothing was read from the client: its bytes are in the kernel. One that leaves
 * ends its flow. All waiting clients together are bounded, so that a backend that is
 * down takes no flows from other routes.
 */
#include <assert.h>

#include "relay/dial_state.h"
#include "relay/ending.h"
#include "relay/require.h"

#define FIRST_DELAY_US (100 * US_PER_MS)
#define MOST_DELAY_US (1 * US_PER_S)
#define TRIES_EVERY_US (200 * US_PER_MS)	/* of all flows of a route together, while its backends are down */

void
relay_shared_limit_waiting(struct relay_shared *s, unsigned limit)
{
	__atomic_store_n(&s->waiting_max, limit, __ATOMIC_RELAXED);
}

unsigned
relay_shared_waiting(const struct relay_shared *s, size_t slot)
{
	return __atomic_load_n(&s->routes[slot]->waiting, __ATOMIC_RELAXED);
}

static bool
join(struct flow *f)
{
	struct relay_shared *s = f->relay->shared;

	require_or(f, f->dial->waiter == NULL, false);	/* it is counted once */
	if (__atomic_add_fetch(&s->waiting, 1, __ATOMIC_RELAXED) > __atomic_load_n(&s->waiting_max, __ATOMIC_RELAXED)) {
		__atomic_sub_fetch(&s->waiting, 1, __ATOMIC_RELAXED);
		if (relay_log_once(f, "too many clients wait for a backend (connect_retry)"))
			log_say(LEVEL_WARN, "route %s: too many clients wait for a backend (connect_retry): more are refused at once "
			    "(logged once per route)", f->route->name);
		return false;
	}
	__atomic_add_fetch(&relay_route(f)->waiting, 1, __ATOMIC_RELAXED);
	f->dial->waiter = f;
	f->dial->retry_delay_us = FIRST_DELAY_US;
	return true;
}

void
connect_retry_leave(struct dial *d)
{
	unsigned all, of_route;

	if (d->waiter == NULL)
		return;
	all = __atomic_fetch_sub(&d->waiter->relay->shared->waiting, 1, __ATOMIC_RELAXED);
	of_route = __atomic_fetch_sub(&relay_route(d->waiter)->waiting, 1, __ATOMIC_RELAXED);
	assert(all > 0 && of_route > 0);	/* else they would wrap around, and nobody could wait */
	(void)all;
	(void)of_route;
	d->waiter = NULL;
}

static bool
may_wait(struct flow *f, int64_t now_us)
{
	const struct dial *d = f->dial;

	if (f->route->connect_retry_ms == 0 || now_us >= d->retry_until_us)
		return false;
	if (d->last < REASON_BACKEND_FIN || d->last > REASON_BACKEND_DOWN)
		return false;		/* denied, no memory, no descriptor */
	return d->waiter != NULL || join(f);
}

static void
wait_more(struct flow *f, int64_t now_us)
{
	struct dial *d = f->dial;
	const int64_t delay_us = d->retry_delay_us;

	require_void(f, d->waiter == f && delay_us >= FIRST_DELAY_US && delay_us <= MOST_DELAY_US);
	require_void(f, !attempts_have_any(f) && d->lookup == NULL);	/* it rests */
	d->is_resting = true;
	d->next_us = now_us + delay_us / 2 + relay_random(f->relay) % (delay_us / 2);
	if (d->next_us > d->retry_until_us)
		d->next_us = d->retry_until_us;
	d->retry_delay_us = 2 * delay_us < MOST_DELAY_US ? 2 * delay_us : MOST_DELAY_US;
	flow_wake_at(f, d->next_us);
}

struct verdict
connect_retry_wait(struct flow *f)
{
	const int64_t now_us = clock_us();
	struct verdict v;

	require(f, f->state == FLOW_CONNECTING && f->dial->last != REASON_NONE);
	if (!may_wait(f, now_us))
		return VERDICT_CONNECT_FAILED(f->dial->last);
	v = flow_check_client(f, transport_look(&leg_of(f, CLIENT)->transport));	/* it may have left during the round */
	if (v.kind == GO_ON)
		wait_more(f, now_us);
	return v;
}

/* One flow for all. */
static bool
is_its_turn(struct flow *f, int64_t now_us)
{
	int64_t *next_us = &relay_route(f)->retry_us, at_us = __atomic_load_n(next_us, __ATOMIC_RELAXED);

	return now_us >= at_us &&
	    __atomic_compare_exchange_n(next_us, &at_us, now_us + TRIES_EVERY_US, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool
connect_retry_begin(struct flow *f, int64_t now_us)
{
	struct dial *d = f->dial;

	if (now_us < d->retry_until_us && backends_are_all_down(relay_route(f)->backends) && !is_its_turn(f, now_us)) {
		wait_more(f, now_us);
		return false;
	}
	require_or(f, d->is_resting, false);
	d->is_resting = false;
	d->deadline_us = now_us + f->route->connect_timeout_ms * US_PER_MS;
	if (d->deadline_us > d->retry_until_us)
		d->deadline_us = d->retry_until_us;
	return true;
}
