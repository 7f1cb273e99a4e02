/*
 * postgres_ledger.c - which ReadyForQuery are due from the server.
 *
 * Our own Sync may go out only when none is due to the client, and never into a
 * COPY, which reads a Sync without replying. So the ledger keeps, in order, the
 * client's queries, batches of the extended protocol and ends of copies; the
 * server's replies settle them from the front. A client need not wait for
 * CopyInResponse (asyncpg): when that comes, everything up to the first CopyDone
 * belongs to the copy, which reads a Sync among it, so that it gets no reply.
 *
 * Equal neighbours are counted together; a mixture too long to be kept is
 * spilled: only counted, until it drains. Where the count may be wrong the
 * ledger is unsure and no Sync of ours is sent, until the client sends one
 * message when idle and gets its result.
 */
#include <string.h>

#include "codec/postgres.h"
#include "stent/promise.h"

enum run_kind {
	RUN_QUERY,
	RUN_SYNC,	/* a Sync alone */
	RUN_BATCH,	/* extended messages and their Sync */
	RUN_MIXED,	/* extended messages and the Query that ends them: the count is of the messages */
	RUN_OPEN,	/* extended messages, no Sync yet: the count is of them */
	RUN_COPY_END,	/* a CopyDone or CopyFail whose copy has not begun yet */
};

#define COUNT_BITS 13
#define COUNT_MAX ((1u << COUNT_BITS) - 1)

_Static_assert(RUN_COPY_END < 1 << (16 - COUNT_BITS), "a run is its kind and its count");
_Static_assert(PG_RUNS <= UINT8_MAX, "`n` counts them");

static enum run_kind
kind_of(uint16_t run)
{
	return (enum run_kind)(run >> COUNT_BITS);
}

static unsigned
count_of(uint16_t run)
{
	return run & COUNT_MAX;
}

static bool
gets_ready(uint16_t run)
{
	return kind_of(run) <= RUN_MIXED;
}

/* How many ReadyForQuery are due for it. */
static unsigned
ready_due(uint16_t run)
{
	return !gets_ready(run) ? 0 : kind_of(run) == RUN_MIXED ? 1 : count_of(run);
}

static uint16_t
run_of(enum run_kind kind, unsigned count)
{
	promise(kind <= RUN_COPY_END && count > 0 && count <= COUNT_MAX);
	return (uint16_t)((unsigned)kind << COUNT_BITS | count);
}

static bool
last_is(const struct pg_ledger *l, enum run_kind kind)
{
	return l->n > 0 && kind_of(l->run[l->n - 1]) == kind;
}

/* Removes the first n runs. */
static void
drop(struct pg_ledger *l, size_t n)
{
	promise_void(n <= l->n && l->n <= PG_RUNS);
	l->n = (uint8_t)(l->n - n);
	memmove(l->run, l->run + n, l->n * sizeof(l->run[0]));
}

static void
spill(struct pg_ledger *l)
{
	promise(l->spilled == 0 && l->n == PG_RUNS);
	l->open = last_is(l, RUN_OPEN);
	for (size_t i = 0; i < l->n; i++) {
		l->spilled += ready_due(l->run[i]);
		if (kind_of(l->run[i]) == RUN_COPY_END || kind_of(l->run[i]) == RUN_MIXED)
			l->unsure = true;
	}
	l->n = 0;
}

static void
push(struct pg_ledger *l, enum run_kind kind)
{
	promise_void(l->n <= PG_RUNS && (l->n == 0 || l->spilled == 0));	/* in order, or only counted */
	l->alone = l->n == 0 && l->spilled == 0;
	if (l->spilled == 0 && kind != RUN_MIXED && last_is(l, kind) && count_of(l->run[l->n - 1]) < COUNT_MAX) {
		l->run[l->n - 1]++;
		return;
	}
	if (l->spilled == 0 && kind == RUN_OPEN && last_is(l, kind))
		return;			/* its count is full */
	if (l->spilled == 0 && l->n < PG_RUNS) {
		l->run[l->n++] = run_of(kind, 1);
		return;
	}
	if (l->spilled == 0)
		spill(l);
	if (kind <= RUN_MIXED)
		l->spilled++;
	if (kind == RUN_COPY_END || kind == RUN_MIXED)
		l->unsure = true;
	l->open = kind == RUN_OPEN;
}

void
pg_ledger_query(struct pg_ledger *l)
{
	unsigned messages;

	if (l->skipping)
		return;
	if (l->copying)
		l->unsure = true;	/* the server refuses it; what follows is not known */
	if (!last_is(l, RUN_OPEN)) {
		push(l, l->spilled > 0 && l->open ? RUN_MIXED : RUN_QUERY);
		return;
	}
	messages = count_of(l->run[--l->n]);	/* its ReadyForQuery ends the batch too (asyncpg) */
	push(l, RUN_MIXED);
	promise_void(l->n > 0 && last_is(l, RUN_MIXED));	/* in the place of the batch */
	l->run[l->n - 1] = run_of(RUN_MIXED, messages);
}

void
pg_ledger_extended(struct pg_ledger *l)
{
	promise(!l->skipping || (l->n == 1 && last_is(l, RUN_OPEN)));	/* up to its Sync */
	if (l->skipping)
		return;
	if (l->copying)
		l->unsure = true;
	push(l, RUN_OPEN);
}

void
pg_ledger_sync(struct pg_ledger *l)
{
	l->skipping = false;
	if (l->copying) {
		l->took_sync = true;
		return;
	}
	if (!last_is(l, RUN_OPEN)) {
		push(l, RUN_SYNC);
		return;
	}
	l->n--;		/* so that it is alone if the batch was */
	push(l, RUN_BATCH);
}

void
pg_ledger_copy_end(struct pg_ledger *l)
{
	if (l->skipping)
		return;
	if (l->copying)
		l->copying = false;
	else if (l->n > 0 || l->spilled > 0)
		push(l, RUN_COPY_END);
	/* else the copy has failed, and the server drops it */
}

/* The server is in, or waits after, an extended message. */
static bool
is_in_batch(const struct pg_ledger *l)
{
	if (l->n == 0)
		return false;
	return kind_of(l->run[0]) == RUN_OPEN || (kind_of(l->run[0]) == RUN_MIXED && l->done < count_of(l->run[0]));
}

/* The copy belongs to the first run. What remains of that run after the rows. */
static enum run_kind
copy_starter(struct pg_ledger *l)
{
	const unsigned count = count_of(l->run[0]);
	const enum run_kind kind = kind_of(l->run[0]);

	promise(l->n > 0 && count > 0);
	if (kind == RUN_SYNC || (kind == RUN_MIXED && is_in_batch(l)) || (kind <= RUN_BATCH && count > 1))
		l->unsure = true;
	if (kind == RUN_BATCH)
		l->took_sync = true;
	return kind == RUN_QUERY || kind == RUN_MIXED ? RUN_QUERY : RUN_OPEN;
}

void
pg_ledger_copy_in(struct pg_ledger *l)
{
	enum run_kind starter;
	unsigned messages;
	size_t i;

	if (l->n == 0) {
		l->unsure = true;	/* spilled, or an unexpected copy */
		return;
	}
	starter = copy_starter(l);
	messages = kind_of(l->run[0]) == RUN_OPEN ? count_of(l->run[0]) : 1;
	for (i = 1; i < l->n && kind_of(l->run[i]) != RUN_COPY_END; i++) {
		if (kind_of(l->run[i]) == RUN_SYNC)
			l->took_sync = true;
		else
			l->unsure = true;
	}
	l->copying = i == l->n;
	if (l->copying)
		i--;			/* no end yet: all but the first run is removed */
	else if (count_of(l->run[i]) > 1)
		l->run[i--]--;		/* more copies are to come */
	promise(i < l->n);
	drop(l, i);
	l->run[0] = run_of(starter, messages);
}

void
pg_ledger_step(struct pg_ledger *l)
{
	if (l->done < UINT16_MAX)
		l->done++;
}

void
pg_ledger_result(struct pg_ledger *l)
{
	l->worked = true;
}

/*
 * The batch at the front has failed: the server drops all up to the next Sync, a
 * Query too, and replies to that. A Query ends a batch as a Sync does; which of
 * the two has failed is known by the count of settled extended messages.
 */
static void
skip_to_sync(struct pg_ledger *l)
{
	size_t i;

	promise_void(l->n > 0 && l->n <= PG_RUNS && l->spilled == 0);
	for (i = 1; i < l->n && kind_of(l->run[i]) != RUN_SYNC && kind_of(l->run[i]) != RUN_BATCH; i++)
		;
	if (i == l->n) {		/* it is still to come */
		l->n = 1;
		l->run[0] = run_of(RUN_OPEN, 1);
		l->skipping = true;
		return;
	}
	if (count_of(l->run[i]) > 1)
		l->run[i--]--;		/* the first of several */
	promise(i < l->n);
	drop(l, i);
	l->run[0] = run_of(RUN_BATCH, 1);
}

void
pg_ledger_error(struct pg_ledger *l)
{
	l->copying = false;
	if (l->took_sync)
		l->unsure = true;	/* it may have failed before it read the Sync */
	else if (l->spilled == 0 && is_in_batch(l))
		skip_to_sync(l);
}

void
pg_ledger_ready(struct pg_ledger *l)
{
	const bool is_sure = l->alone && l->worked && l->n > 0 && gets_ready(l->run[0]);
	size_t i;

	promise_void(l->n <= PG_RUNS && (l->n == 0 || l->spilled == 0));
	l->copying = false;
	l->took_sync = false;
	l->skipping = false;
	l->alone = false;
	l->worked = false;
	l->done = 0;
	if (is_sure)
		l->unsure = false;
	if (l->spilled > 0) {
		l->spilled--;
		if (l->spilled == 0 && l->open)
			push(l, RUN_OPEN);
		return;
	}
	for (i = 0; i < l->n && !gets_ready(l->run[i]); i++)
		;
	if (i == l->n) {
		l->unsure = true;	/* an unexpected one */
		l->n = 0;
		return;
	}
	if (ready_due(l->run[i]) > 1)
		l->run[i]--;
	else
		i++;
	drop(l, i);
	if (l->n > 0 && kind_of(l->run[0]) == RUN_COPY_END)
		drop(l, 1);		/* of a copy that failed: the server drops it */
}

bool
pg_ledger_is_idle(const struct pg_ledger *l)
{
	promise(l->n == 0 || l->spilled == 0);
	return l->n == 0 && l->spilled == 0;
}

bool
pg_ledger_is_due(const struct pg_ledger *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (gets_ready(l->run[i]))
			return true;
	return l->spilled > 0;
}
