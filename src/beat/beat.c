/*
 * beat.c - the rhythm of the heartbeats of one leg.
 *
 * One ask waits at a time. Its answer settles it; its deadline makes a miss
 * and lets the next ask go at once, so that a dead program is found within
 * interval + timeout x misses. No miss counts while bytes are stuck on the
 * way: then TCP judges (TCP_USER_TIMEOUT), and a paused reader lives on.
 *
 * An answer moves no timer. So a leg that is asked is looked at again after
 * an interval as well as at its deadline: by then it is mostly answered, and due.
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

int64_t
beat_due_us(const struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t tx_us)
{
	if (p->interval_us == 0)
		return INT64_MAX;
	if (b->asked_us != 0)
		return b->asked_us + p->timeout_us;
	return max64(min64(rx_us, tx_us), b->last_us) + b->gap_us;
}

int64_t
beat_look_us(const struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t tx_us, int64_t now_us)
{
	const int64_t due_us = beat_due_us(b, p, rx_us, tx_us);

	return b->asked_us != 0 ? min64(due_us, max64(b->last_us, now_us) + b->gap_us) : due_us;
}

/* The kind to send: the configured one, or the codec's own; a tell where an ask is not legal now. */
static unsigned
choose_kind(const struct beat_policy *p, unsigned legal)
{
	const unsigned wish = p->kind != 0 ? p->kind : p->preferred;

	if ((legal & wish) != 0)
		return wish;
	if (p->kind != BEAT_TELL && (legal & BEAT_TELL) != 0)
		return BEAT_TELL;
	return p->kind == 0 ? legal & BEAT_ASK : 0;
}

static bool
is_honest(const struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us)
{
	if (!f->other_alive || b->unread >= BEAT_UNREAD_MAX)
		return false;
	return p->limit_us == 0 || now_us - f->other_app_us < p->limit_us;
}

enum beat_verdict
beat_decide(struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us,
    unsigned *kind, int64_t *again_us)
{
	*again_us = now_us + max64(RETRY_LEAST_US, min64(p->interval_us / 4, RETRY_MOST_US));
	if (f->rx_us > b->last_us)
		b->unread = 0;
	if (b->asked_us != 0) {
		if (f->busy) {
			b->asked_us = now_us;	/* TCP judges; the answer gets its full time again */
			*again_us = now_us + p->timeout_us;
			return BEAT_WAIT;
		}
		b->asked_us = 0;
		if (b->misses < UINT8_MAX)
			b->misses++;
		if (p->misses != 0 && b->misses >= p->misses)
			return BEAT_DEAD;
	}
	*kind = f->busy || !is_honest(b, p, f, now_us) ? 0 : choose_kind(p, f->legal);
	return *kind != 0 ? BEAT_SEND : BEAT_WAIT;
}

void
beat_sent(struct beat_leg *b, const struct beat_policy *p, unsigned kind, int64_t now_us, uint32_t random)
{
	b->last_us = now_us;
	b->gap_us = gap(p, random);
	b->sent++;
	b->unread++;
	if (kind == BEAT_ASK)
		b->asked_us = now_us;
}

void
beat_answered(struct beat_leg *b, unsigned n, int64_t now_us)
{
	b->answered += n;
	b->misses = 0;
	b->unread = 0;
	if (b->asked_us == 0)
		return;		/* late: its time is not known any more */
	b->rtt_us = (uint32_t)min64(now_us - b->asked_us, UINT32_MAX);
	b->srtt_us = b->srtt_us == 0 ? b->rtt_us : b->srtt_us - b->srtt_us / 8 + b->rtt_us / 8;
	if (b->rtt_us > b->worst_us)
		b->worst_us = b->rtt_us;
	b->asked_us = 0;
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
