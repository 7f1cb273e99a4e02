/*
 * failed.c - addresses that failed lately, which are passed over for a while:
 * they are tried when no other is left. All workers and routes share them.
 *
 * As a failure may be due to a single lost packet, the time is short at first
 * (retry_after), and doubles with each failure until the address accepts a
 * connection. When it is over one flow tries the address, and the others
 * pass it over until that one knows. An address that refuses costs a round trip
 * and shows at once whether it is back, so it is passed over only where another
 * backend is as good (balance).
 */
#include <assert.h>
#include <string.h>

#include "relay/failed.h"

#define DOUBLINGS 16		/* the longest time is so many times the first */

static struct failed_address *
find(struct failed *all, const struct address *a)
{
	for (size_t i = 0; i < FAILED_MAX; i++)
		if (all->list[i].until_us != 0 && memcmp(&all->list[i].address, a, sizeof(*a)) == 0)
			return &all->list[i];
	return NULL;
}

/* A free entry, or the one that expires first. */
static struct failed_address *
place(struct failed *all)
{
	struct failed_address *oldest = &all->list[0];

	for (size_t i = 1; i < FAILED_MAX; i++)
		if (all->list[i].until_us < oldest->until_us)
			oldest = &all->list[i];
	return oldest;
}

/* It is remembered for as long again, for what the next failure means. */
static bool
is_forgotten(const struct failed_address *f, int64_t now_us)
{
	return now_us >= f->until_us + f->most_us;
}

/* No entry is of use later than this; read without the lock, so that a process without failures never takes it. */
static void
note_last(struct failed *all, int64_t at_us)
{
	if (__atomic_load_n(&all->last_us, __ATOMIC_RELAXED) < at_us)
		__atomic_store_n(&all->last_us, at_us, __ATOMIC_RELAXED);
}

static bool
is_any(const struct failed *all, int64_t now_us)
{
	return now_us < __atomic_load_n(&all->last_us, __ATOMIC_RELAXED);
}

void
failed_add(struct failed *all, const struct address *a, const struct failure *why, int64_t now_us)
{
	const int64_t most_us = why->retry_after_us * DOUBLINGS;
	struct failed_address *f;
	int64_t for_us = why->retry_after_us;

	assert(for_us > 0 && why->jitter <= 1);
	pthread_mutex_lock(&all->lock);
	f = find(all, a);
	if (f == NULL)
		f = place(all);
	else if (now_us < f->until_us && !f->is_claimed)
		for_us = f->for_us;		/* another flow, which began earlier: no doubling */
	else if (!is_forgotten(f, now_us))
		for_us = 2 * f->for_us < most_us ? 2 * f->for_us : most_us;
	*f = (struct failed_address){
		.address = *a, .for_us = for_us, .most_us = most_us, .has_refused = why->has_refused,
		.until_us = now_us + for_us - (int64_t)((double)for_us * why->jitter / 5),
	};
	assert(f->until_us > now_us && f->for_us > 0);	/* 0 is a free entry */
	note_last(all, f->until_us + most_us);
	pthread_mutex_unlock(&all->lock);
}

bool
failed_pass_over(struct failed *all, const struct address *a, bool refusals_too, int64_t claim_us, int64_t now_us)
{
	struct failed_address *f;
	bool is_passed = false;

	if (!is_any(all, now_us))
		return false;
	pthread_mutex_lock(&all->lock);
	f = find(all, a);
	if (f == NULL || (f->has_refused && !refusals_too) || is_forgotten(f, now_us)) {
		is_passed = false;
	} else if (now_us < f->until_us) {
		is_passed = true;
	} else {			/* this flow tries it for all */
		assert(claim_us > 0 && f->until_us > 0);
		f->is_claimed = true;
		f->until_us = now_us + claim_us;
		note_last(all, f->until_us + f->most_us);
	}
	pthread_mutex_unlock(&all->lock);
	return is_passed;
}

void
failed_forget(struct failed *all, const struct address *a, int64_t now_us)
{
	struct failed_address *f;

	if (!is_any(all, now_us))
		return;
	pthread_mutex_lock(&all->lock);
	f = find(all, a);
	if (f != NULL)
		f->until_us = 0;
	pthread_mutex_unlock(&all->lock);
}

int64_t
failed_retry_at(struct failed *all, const struct address *a, bool refusals_too, int64_t now_us)
{
	const struct failed_address *f;
	int64_t at_us = 0;

	if (!is_any(all, now_us))
		return 0;
	pthread_mutex_lock(&all->lock);
	f = find(all, a);
	if (f != NULL && now_us < f->until_us && (refusals_too || !f->has_refused))
		at_us = f->until_us;
	pthread_mutex_unlock(&all->lock);
	assert(at_us == 0 || at_us > now_us);
	return at_us;
}
