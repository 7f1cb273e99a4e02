/*
 * beat.c - the rhythm of the heartbeats of one leg.
 *
 * One ask waits at a time. Its answer settles it; its deadline makes a miss
 * and lets the next ask go at once, so that a dead program is found within
 * interval + timeout x misses. Meanwhile tells keep the path alive. No miss
 * counts of a peer that says anything at all: its answer may have to wait for
 * the end of what it is saying. Nor while bytes are stuck on the way: then TCP
 * judges (TCP_USER_TIMEOUT), and a paused reader lives on.
 *
 * Where the codec would ask, but the peer has yet to answer the application's
 * own question, that answer is waited for in the same way.
 *
 * An answer moves no timer: the leg is looked at after an interval in any case.
 */
#include "stent/beat.h"
#include "stent/clock.h"
#include "stent/codec.h"

#define RETRY_LEAST_US (5 * US_PER_MS)
#define RETRY_MOST_US US_PER_S
#define JITTER_PERCENT 20
#define UNASKED_US (60 * (int64_t)US_PER_S)

static int64_t
min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
gap(const struct beat_policy *p, uint32_t random)
{
	return p->interval_us - p->interval_us * JITTER_PERCENT / 100 * (int64_t)(random % 1024) / 1024;
}

void
beat_init(struct beat_leg *b, const struct beat_policy *p, int64_t now_us, uint32_t random)
{
	b->last_us = now_us;
	b->gap_us = gap(p, random);
}

static unsigned
wish(const struct beat_policy *p)
{
	return p->kind != 0 ? p->kind : p->preferred;
}

int64_t
beat_due_us(const struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t tx_us)
{
	int64_t quiet_us, due_us;

	if (p->interval_us == 0 || b->refused)
		return INT64_MAX;
	/* Only an ask brings bytes back. Of a peer that acknowledges what it gets, a tell brings no more than that. */
	quiet_us = wish(p) == BEAT_ASK ? min64(rx_us, tx_us) : tx_us;
	due_us = max64(quiet_us, b->last_us) + b->gap_us;
	return b->asked_us != 0 ? min64(due_us, b->asked_us + p->timeout_us) : due_us;
}

bool
beat_is_hopeless(const struct beat_leg *b, unsigned legal, bool owed)
{
	return legal == 0 && b->asked_us == 0 && !owed;
}

int64_t
beat_hopeless_us(const struct beat_policy *p, int64_t now_us)
{
	return now_us + max64(RETRY_LEAST_US, p->interval_us / 2);
}

/* The kind to send: the wished one; a tell where an ask is not legal now. */
static unsigned
choose_kind(const struct beat_policy *p, unsigned legal)
{
	if ((legal & wish(p)) != 0)
		return wish(p);
	if ((legal & BEAT_TELL) != 0)
		return BEAT_TELL;
	return p->kind == 0 ? legal & BEAT_ASK : 0;
}

static bool
is_honest(const struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us)
{
	if (!f->other_alive || (b->unread >= BEAT_UNREAD_MAX && !f->listens))
		return false;
	return p->limit_us == 0 || now_us - f->other_app_us < p->limit_us;
}

/* The answer that is waited for: still to come, late, or never. False: so many have been missed that the peer is dead. */
static bool
judge_answer(struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us)
{
	if (!f->owed) {		/* also: it has answered the application */
		b->asked_us = b->since_us = 0;
		b->misses = 0;
		return true;
	}
	if (b->asked_us == 0 || now_us < b->asked_us + p->timeout_us)
		return true;
	if (f->rx_us > b->asked_us)
		b->misses = 0;
	if (f->rx_us > b->asked_us || f->stuck) {
		b->asked_us = now_us;	/* it gets its full time again */
		return true;
	}
	b->asked_us = 0;
	if (b->misses < UINT8_MAX)
		b->misses++;
	return p->misses == 0 || b->misses < p->misses;
}

enum beat_verdict
beat_decide(struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us,
    unsigned *kind, int64_t *again_us)
{
	unsigned legal = f->legal;

	if (f->rx_us > b->last_us)
		b->unread = 0;
	if (!judge_answer(b, p, f, now_us))
		return BEAT_DEAD;
	if (b->asked_us == 0 && f->owed && wish(p) == BEAT_ASK && (legal & BEAT_ASK) == 0)
		b->asked_us = now_us;	/* it owes one to the application */
	if (b->asked_us != 0)
		legal &= ~(unsigned)BEAT_ASK;
	*kind = f->busy || !is_honest(b, p, f, now_us) ? 0 : choose_kind(p, legal);
	if (*kind != 0)
		return BEAT_SEND;
	*again_us = legal == 0 ? beat_hopeless_us(p, now_us) :
	    now_us + max64(RETRY_LEAST_US, min64(p->interval_us / 4, RETRY_MOST_US));
	if (b->asked_us != 0)
		*again_us = min64(*again_us, b->asked_us + p->timeout_us);
	return BEAT_WAIT;
}

void
beat_sent(struct beat_leg *b, const struct beat_policy *p, unsigned kind, int64_t now_us, uint32_t random)
{
	b->last_us = now_us;
	b->gap_us = gap(p, random);
	b->sent++;
	if (b->unread < BEAT_UNREAD_MAX)
		b->unread++;
	if (kind != BEAT_ASK)
		return;
	b->asked_us = now_us;
	if (b->since_us == 0)
		b->since_us = now_us;
}

void
beat_refused(struct beat_leg *b)
{
	b->refused = true;
	b->asked_us = b->since_us = 0;
}

void
beat_answered(struct beat_leg *b, unsigned n, int64_t now_us)
{
	b->answered += n;
	b->misses = 0;
	b->unread = 0;
	b->asked_us = 0;
	if (b->since_us == 0)
		return;		/* another one was answered before it */
	b->rtt_us = (uint32_t)min64(now_us - b->since_us, UINT32_MAX);
	b->srtt_us = b->srtt_us == 0 ? b->rtt_us : b->srtt_us - b->srtt_us / 8 + b->rtt_us / 8;
	if (b->rtt_us > b->worst_us)
		b->worst_us = b->rtt_us;
	b->since_us = 0;
}

int64_t
beat_vouch_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us)
{
	/* A live peer answers each probe: one that is missing is waited for, a second is not. */
	if (probe_idle_us > 0)
		return probe_idle_us + probe_interval_us + US_PER_S;
	/* With nothing that asks for signs of life, only the application gives them, in its own time. */
	return (interval_us > 0 ? interval_us * 2 : UNASKED_US) + US_PER_S;
}
