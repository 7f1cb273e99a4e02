/*
 * failed.c - addresses that recently timed out, which are tried last for a while.
 *
 * An address that refuses is not listed: trying it again costs one round trip,
 * and shows at once whether it is back. As a timeout may be due to a single
 * lost packet, the time is short at first, and doubles with each failure until
 * the address accepts a connection.
 */
#include <assert.h>
#include <string.h>

#include "relay/dial.h"

#define FIRST_US (2 * US_PER_S)
#define MAX_US (32 * US_PER_S)

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

void
failed_add(struct failed *all, const struct address *a, int64_t now_us)
{
	struct failed_address *f = find(all, a);
	int64_t for_us = FIRST_US;

	if (f == NULL)
		f = place(all);
	else if (now_us < f->until_us)
		for_us = f->for_us;		/* another flow, which began earlier: no doubling */
	else if (now_us < f->until_us + MAX_US)
		for_us = f->for_us < MAX_US ? f->for_us * 2 : MAX_US;
	assert(for_us >= FIRST_US && for_us <= MAX_US);
	*f = (struct failed_address){ *a, now_us + for_us, for_us };
	if (all->until_us < f->until_us)
		all->until_us = f->until_us;
}

bool
failed_lately(struct failed *all, const struct address *a, int64_t now_us)
{
	const struct failed_address *f = now_us < all->until_us ? find(all, a) : NULL;

	return f != NULL && now_us < f->until_us;
}

void
failed_forget(struct failed *all, const struct address *a, int64_t now_us)
{
	struct failed_address *f = now_us < all->until_us + MAX_US ? find(all, a) : NULL;

	if (f != NULL)
		f->until_us = 0;
}
