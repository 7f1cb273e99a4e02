/*
 * counters.c - the counters of a route: passthrough by reason, histograms, sums.
 *
 * Codecs give their reasons for passthrough as static strings. A table has one
 * writer and is read from other threads with relaxed loads, so a row's reason is
 * stored before its count. What does not fit is counted as "other".
 *
 * The limits of the histograms are fixed, so that those of all routes and
 * processes can be summed.
 */
#include "stent/counters.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char other[] = "other";

const char *
passthrough_reason(const struct passthrough_count *c)
{
	return (const char *)(uintptr_t)c->reason;
}

/* The reason's row, an unused one, or the last. */
static struct passthrough_count *
find_row(struct passthrough_count *counts, const char *reason)
{
	struct passthrough_count *last = &counts[PASSTHROUGH_ROWS - 1];

	if (strcmp(reason, other) == 0)
		return last;
	for (struct passthrough_count *c = counts; c < last; c++)
		if (c->reason == 0 || strcmp(passthrough_reason(c), reason) == 0)
			return c;
	return last;
}

void
passthrough_add(struct passthrough_count counts[PASSTHROUGH_ROWS], const char *reason, uint64_t flows)
{
	struct passthrough_count *c;

	assert(reason != NULL);
	c = find_row(counts, reason);
	if (c == &counts[PASSTHROUGH_ROWS - 1])
		reason = other;
	__atomic_store_n(&c->reason, (uint64_t)(uintptr_t)reason, __ATOMIC_RELAXED);
	__atomic_store_n(&c->flows, c->flows + flows, __ATOMIC_RELAXED);
}

const int64_t histogram_limit_us[HISTOGRAM_BUCKETS] = {
	500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000,
};

void
histogram_add(struct histogram *h, int64_t us)
{
	size_t i = 0;

	assert(us >= 0);
	while (i < HISTOGRAM_BUCKETS && us > histogram_limit_us[i])
		i++;
	counter_add(&h->sum_us, (uint64_t)us);
	counter_add(&h->bucket[i], 1);
}

static const char *const result_texts[CONNECT_RESULTS] = {
	[CONNECT_OK] = "ok",
	[CONNECT_REFUSED] = "refused",
	[CONNECT_TIMEOUT] = "timeout",
	[CONNECT_LOOKUP] = "lookup",
	[CONNECT_ERROR] = "error",
};

const char *
connect_result_text(enum connect_result r)
{
	assert(r < CONNECT_RESULTS);
	return result_texts[r];
}

struct relay_counters **
counters_new(size_t slots)
{
	struct relay_counters **all = calloc(slots + 1, sizeof(struct relay_counters *));

	if (all == NULL)
		return NULL;
	all[slots] = calloc(1, sizeof(**all));
	if (all[slots] != NULL)
		return all;
	free((void *)all);
	return NULL;
}

void
counters_free(struct relay_counters **all, size_t slots)
{
	if (all == NULL)
		return;
	for (size_t i = 0; i < slots; i++)
		if (all[i] != all[slots])
			free(all[i]);
	free(all[slots]);
	free((void *)all);
}

void
counters_prepare(struct relay_counters **all, size_t slots, size_t slot)
{
	struct relay_counters *c;

	assert(slot < slots);
	if (all[slot] != NULL)
		return;
	c = calloc(1, sizeof(*c));
	__atomic_store_n(&all[slot], c != NULL ? c : all[slots], __ATOMIC_RELEASE);
}

void
counters_read(struct relay_counters *const *all, size_t slot, struct relay_counters *ret)
{
	const struct relay_counters *c = __atomic_load_n(&all[slot], __ATOMIC_ACQUIRE);
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)ret;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; c != NULL && i < sizeof(*ret) / sizeof(uint64_t); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void
relay_counters_add(struct relay_counters *sum, const struct relay_counters *c)
{
	struct passthrough_count kept[PASSTHROUGH_ROWS];
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)c;

	_Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "counters are all uint64_t");
	memcpy(kept, sum->passthrough, sizeof(kept));
	for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += from[i];
	memcpy(sum->passthrough, kept, sizeof(kept));	/* its rows are in different orders */
	for (size_t i = 0; i < PASSTHROUGH_ROWS; i++)
		if (passthrough_reason(&c->passthrough[i]) != NULL)
			passthrough_add(sum->passthrough, passthrough_reason(&c->passthrough[i]), c->passthrough[i].flows);
}
