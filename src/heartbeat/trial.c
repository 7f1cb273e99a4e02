/*
 * trial.c - counts the outcomes of the first heartbeats of a route's flows.
 *
 * Each counter is atomic by itself, without a lock for all of them: one flow too
 * many on trial on another worker at the same moment does no harm.
 */
#include "stent/trial.h"


#include "stent/codec.h"
#include "stent/promise.h"

_Static_assert(sizeof(((struct trial *)0)->kind) / sizeof(((struct trial *)0)->kind[0]) == 3, "a row for each kind");
_Static_assert(HEARTBEAT_ONEWAY == 1 && HEARTBEAT_PING == 2 && HEARTBEAT_EARLY == 4, "a set of kinds is a sum of bits");

static unsigned
row(unsigned kind)
{
	promise(kind == HEARTBEAT_ONEWAY || kind == HEARTBEAT_PING || kind == HEARTBEAT_EARLY);
	return kind == HEARTBEAT_ONEWAY ? 0 : kind == HEARTBEAT_PING ? 1 : 2;
}

static uint32_t
read_count(const uint32_t *n)
{
	return __atomic_load_n(n, __ATOMIC_RELAXED);
}

static void
add(uint32_t *n, uint32_t by)
{
	__atomic_add_fetch(n, by, __ATOMIC_RELAXED);
}

static bool
is_off(const struct trial *t, unsigned kind)
{
	const uint32_t refused = read_count(&t->kind[row(kind)].refused);

	return refused >= TRIAL_FLOWS && (uint64_t)refused * TRIAL_RATIO > read_count(&t->kind[row(kind)].accepted);
}

unsigned
trial_allowed(const struct trial *t, unsigned kinds)
{
	static const unsigned all[] = { HEARTBEAT_ONEWAY, HEARTBEAT_PING, HEARTBEAT_EARLY };

	promise((kinds & ~(unsigned)(HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY)) == 0);
	if (is_off(t, HEARTBEAT_PING))
		return 0;
	for (unsigned i = 0; i < 3; i++)
		if ((kinds & all[i]) != 0 && is_off(t, all[i]))
			kinds &= ~all[i];
	return kinds;
}

bool
trial_begin(struct trial *t, unsigned kind)
{
	const unsigned i = row(kind);

	/* Refusals count as well, so that no more flows are refused than it takes to turn the kind off. */
	if (read_count(&t->kind[i].accepted) < TRIAL_FLOWS &&
	    read_count(&t->kind[i].under_way) + read_count(&t->kind[i].refused) >= TRIAL_FLOWS)
		return false;
	add(&t->kind[i].under_way, 1);
	return true;
}

static void
leave(struct trial *t, unsigned kind)
{
	promise_void(read_count(&t->kind[row(kind)].under_way) > 0);	/* each trial that ends has begun */
	__atomic_sub_fetch(&t->kind[row(kind)].under_way, 1, __ATOMIC_RELAXED);
}

void
trial_accepted(struct trial *t, unsigned kind)
{
	add(&t->kind[row(kind)].accepted, 1);
	leave(t, kind);
}

void
trial_undecided(struct trial *t, unsigned kind)
{
	leave(t, kind);
}

bool
trial_refused(struct trial *t, unsigned kind)
{
	leave(t, kind);
	return trial_refused_after_accepted(t, kind);
}

bool
trial_refused_after_accepted(struct trial *t, unsigned kind)
{
	const bool was_off = is_off(t, kind);

	add(&t->kind[row(kind)].refused, 1);
	return !was_off && is_off(t, kind);
}

void
trial_forget(struct trial *t)
{
	for (unsigned i = 0; i < 3; i++) {
		__atomic_store_n(&t->kind[i].accepted, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&t->kind[i].refused, 0, __ATOMIC_RELAXED);
	}
}
