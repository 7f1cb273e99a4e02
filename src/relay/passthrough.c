/*
 * passthrough.c - flows that became passthrough, counted by reason.
 *
 * Codecs give their reasons as static strings. A table has one writer and is
 * read from other threads with relaxed loads, so a row's reason is stored
 * before its count. What does not fit is counted as "other".
 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "stent/relay.h"

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
