/*
 * postgres_ledger.c - which ReadyForQuery the server still owes.
 *
 * Our own Sync is answered by a ReadyForQuery like any other, so it may go
 * out only when the client is owed none; and it must not land in a COPY,
 * which reads a Sync without answering it, for ever. So the ledger keeps what
 * the client sent, in order: queries, batches of the extended protocol, the
 * ends of copies. The server's replies settle it from the front.
 *
 * The order matters because a client need not wait for CopyInResponse: it may
 * have sent the rows and CopyDone before (asyncpg does). When the response
 * then comes, all up to the first CopyDone belongs to the copy, and a Sync
 * among it was read by the copy and is owed nothing (libpq's extended COPY
 * sends one behind Execute).
 *
 * When an extended message fails the server drops all that follows up to the
 * next Sync, a Query too. A Query ends a batch as a Sync does, so it is not
 * told by the error alone which of the two has failed: each extended message
 * is settled by one message of the server, and these are counted.
 *
 * Neighbours of a kind are counted together, a batch and its Sync are one, so
 * a pipeline of any length takes one entry. A mixture too long to be kept is
 * spilled: only counted until it drains. What cannot be told (whether a copy
 * that failed had already read a Sync) is a doubt, and then no Sync of ours is
 * sent. It ends when the client asks one thing alone and gets its result: a
 * ReadyForQuery too many would have come before that.
 */
#include <string.h>

#include "codec/postgres.h"

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
is_answered(uint16_t run)
{
	return kind_of(run) <= RUN_MIXED;
}

/* How many ReadyForQuery it is owed. */
static unsigned
answers_of(uint16_t run)
{
	return !is_answered(run) ? 0 : kind_of(run) == RUN_MIXED ? 1 : count_of(run);
}

static uint16_t
run_of(enum run_kind kind, unsigned count)
{
	return (uint16_t)((unsigned)kind << COUNT_BITS | count);
}

static bool
last_is(const struct pg_ledger *l, enum run_kind kind)
{
	return l->n > 0 && kind_of(l->run[l->n - 1]) == kind;
}

/* Forgets the first n runs. */
static void
drop(struct pg_ledger *l, size_t n)
{
	l->n = (uint8_t)(l->n - n);
	memmove(l->run, l->run + n, l->n * sizeof(l->run[0]));
}

static void
spill(struct pg_ledger *l)
{
	l->open = last_is(l, RUN_OPEN);
	for (size_t i = 0; i < l->n; i++) {
		l->spilled += answers_of(l->run[i]);
		if (kind_of(l->run[i]) == RUN_COPY_END || kind_of(l->run[i]) == RUN_MIXED)
			l->doubt = true;
	}
	l->n = 0;
}

static void
push(struct pg_ledger *l, enum run_kind kind)
{
	l->alone = l->n == 0 && l->spilled == 0;
	if (l->spilled == 0 && kind != RUN_MIXED && last_is(l, kind) && count_of(l->run[l->n - 1]) < COUNT_MAX) {
		l->run[l->n - 1]++;
		return;
	}
	if (l->spilled == 0 && kind == RUN_OPEN && last_is(l, kind))
		return;			/* it counts no further */
	if (l->spilled == 0 && l->n < PG_RUNS) {
		l->run[l->n++] = run_of(kind, 1);
		return;
	}
	if (l->spilled == 0)
		spill(l);
	if (kind <= RUN_MIXED)
		l->spilled++;
	if (kind == RUN_COPY_END || kind == RUN_MIXED)
		l->doubt = true;
	l->open = kind == RUN_OPEN;
}

void
pg_ledger_query(struct pg_ledger *l)
{
	unsigned messages;

	if (l->skipping)
		return;
	if (l->copying)
		l->doubt = true;	/* the server refuses it; what comes next is its affair */
	if (!last_is(l, RUN_OPEN)) {
		push(l, l->spilled > 0 && l->open ? RUN_MIXED : RUN_QUERY);
		return;
	}
	messages = count_of(l->run[--l->n]);	/* its ReadyForQuery ends the batch too (asyncpg) */
	push(l, RUN_MIXED);
	l->run[l->n - 1] = run_of(RUN_MIXED, messages);
}

void
pg_ledger_extended(struct pg_ledger *l)
{
	if (l->skipping)
		return;
	if (l->copying)
		l->doubt = true;
	push(l, RUN_OPEN);
}

void
pg_ledger_sync(struct pg_ledger *l)
{
	l->skipping = false;
	if (l->copying) {
		l->eaten = true;
		return;
	}
	if (!last_is(l, RUN_OPEN)) {
		push(l, RUN_SYNC);
		return;
	}
	l->n--;		/* so that it counts as alone if the batch did */
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
	/* else the server drops it: the copy has failed */
}

/* An extended message is what the server is at, or waits behind. */
static bool
is_in_batch(const struct pg_ledger *l)
{
	if (l->n == 0)
		return false;
	return kind_of(l->run[0]) == RUN_OPEN || (kind_of(l->run[0]) == RUN_MIXED && l->done < count_of(l->run[0]));
}

/* Which copy this is: the first thing that is not settled. What of it goes on when its rows have ended. */
static enum run_kind
copy_starter(struct pg_ledger *l)
{
	const unsigned count = count_of(l->run[0]);
	const enum run_kind kind = kind_of(l->run[0]);

	if (kind == RUN_SYNC || (kind == RUN_MIXED && is_in_batch(l)) || (kind <= RUN_BATCH && count > 1))
		l->doubt = true;
	if (kind == RUN_BATCH)
		l->eaten = true;
	return kind == RUN_QUERY || kind == RUN_MIXED ? RUN_QUERY : RUN_OPEN;
}

void
pg_ledger_copy_in(struct pg_ledger *l)
{
	enum run_kind starter;
	unsigned messages;
	size_t i;

	if (l->n == 0) {
		l->doubt = true;	/* spilled, or a copy that nobody asked for */
		return;
	}
	starter = copy_starter(l);
	messages = kind_of(l->run[0]) == RUN_OPEN ? count_of(l->run[0]) : 1;
	for (i = 1; i < l->n && kind_of(l->run[i]) != RUN_COPY_END; i++) {
		if (kind_of(l->run[i]) == RUN_SYNC)
			l->eaten = true;
		else
			l->doubt = true;
	}
	l->copying = i == l->n;
	if (l->copying)
		i--;			/* no end yet: all but the starter goes */
	else if (count_of(l->run[i]) > 1)
		l->run[i--]--;		/* more copies are to come */
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

/* The batch at the front has failed: all behind it is dropped, a Query too, until its Sync; that one is answered. */
static void
skip_to_sync(struct pg_ledger *l)
{
	size_t i;

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
	drop(l, i);
	l->run[0] = run_of(RUN_BATCH, 1);
}

void
pg_ledger_error(struct pg_ledger *l)
{
	l->copying = false;
	if (l->eaten)
		l->doubt = true;	/* it may have failed before it read the Sync */
	else if (l->spilled == 0 && is_in_batch(l))
		skip_to_sync(l);
}

void
pg_ledger_ready(struct pg_ledger *l)
{
	const bool sure = l->alone && l->worked && l->n > 0 && is_answered(l->run[0]);
	size_t i;

	l->copying = false;
	l->eaten = false;
	l->skipping = false;
	l->alone = false;
	l->worked = false;
	l->done = 0;
	if (sure)
		l->doubt = false;
	if (l->spilled > 0) {
		l->spilled--;
		if (l->spilled == 0 && l->open)
			push(l, RUN_OPEN);
		return;
	}
	for (i = 0; i < l->n && !is_answered(l->run[i]); i++)
		;
	if (i == l->n) {
		l->doubt = true;	/* one that nobody asked for */
		l->n = 0;
		return;
	}
	if (answers_of(l->run[i]) > 1)
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
	return l->n == 0 && l->spilled == 0;
}

bool
pg_ledger_is_owed(const struct pg_ledger *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (is_answered(l->run[i]))
			return true;
	return l->spilled > 0;
}
