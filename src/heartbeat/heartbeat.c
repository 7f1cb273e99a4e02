/*
 * heartbeat.c - the rhythm of the heartbeats of one leg.
 *
 * A missing reply counts only of a peer that has replied before: many reply to
 * nobody, and are well. They are asked once, then told.
 *
 * One ask waits at a time. Its answer settles it; its deadline makes a miss
 * and lets the next ask go at once, so that a dead program is found within
 * interval + timeout x misses. Meanwhile tells keep the path alive. No miss
 * counts of a peer that says anything at all: its answer may have to wait for
 * the end of what it is saying. Nor while bytes are stuck on the way: then TCP
 * judges (TCP_USER_TIMEOUT), and a paused reader lives on.
 *
 * What the peer owes the application alone is none of ours: many answer some
 * of its questions only, and are well.
 *
 * An answer moves no timer: the leg is looked at after an interval in any case.
 */
#include "stent/heartbeat.h"
#include "stent/clock.h"
#include "stent/codec.h"

#define RETRY_LEAST_US (5 * US_PER_MS)
#define RETRY_MOST_US (5 * US_PER_S)
#define JITTER_PERCENT 20
#define JITTERS 1024
#define ASK_TRIAL_TIMEOUTS 10
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

int64_t
heartbeat_gap_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p)
{
	return p->interval_us - p->interval_us * JITTER_PERCENT / 100 * b->jitter / JITTERS;
}

void
heartbeat_init(struct heartbeat_leg *b, int64_t now_us, uint32_t random)
{
	b->last_us = now_us;
	b->jitter = (uint16_t)(random % JITTERS);
}

static unsigned
wish(const struct heartbeat_policy *p)
{
	return p->kind != 0 ? p->kind : p->preferred;
}

int64_t
heartbeat_due_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t rx_us, int64_t tx_us)
{
	int64_t quiet_us, due_us;

	if (p->interval_us == 0 || b->refused)
		return INT64_MAX;
	/* Only an ask brings bytes back. Of a peer that acknowledges what it gets, a tell brings no more than that. */
	quiet_us = wish(p) == HEARTBEAT_PING ? min64(rx_us, tx_us) : tx_us;
	due_us = max64(quiet_us, b->last_us) + heartbeat_gap_us(b, p);
	if ((b->trying & ~(unsigned)HEARTBEAT_PING) != 0)
		due_us = min64(due_us, b->trial_us + heartbeat_trial_us(p, false));
	if ((b->trying & HEARTBEAT_PING) != 0)
		due_us = min64(due_us, b->since_us + ASK_TRIAL_TIMEOUTS * p->timeout_us);
	return b->asked_us != 0 ? min64(due_us, b->asked_us + p->timeout_us) : due_us;
}

bool
heartbeat_is_impossible(const struct heartbeat_leg *b, unsigned legal, bool reply_awaited)
{
	return legal == 0 && b->asked_us == 0 && !reply_awaited;
}

int64_t
heartbeat_impossible_us(const struct heartbeat_policy *p, int64_t now_us)
{
	return now_us + max64(RETRY_LEAST_US, p->interval_us / 2);
}

/* The kind to send: the wished one; a tell where an ask is not legal now. Bytes are sent early only, or not at all. */
static unsigned
choose_kind(const struct heartbeat_policy *p, unsigned legal)
{
	if ((legal & wish(p)) != 0)
		return wish(p);
	if (p->kind == HEARTBEAT_EARLY)
		return 0;
	if ((legal & HEARTBEAT_ONEWAY) != 0)
		return HEARTBEAT_ONEWAY;
	return p->kind == 0 ? legal & HEARTBEAT_PING : 0;
}

/* Why none may go to the leg, whatever its protocol says. */
static enum heartbeat_hold
find_hold(const struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us)
{
	if (p->limit_us != 0 && now_us - f->other_app_us >= p->limit_us)
		return HEARTBEAT_HOLD_LIMIT;
	if (!f->route_allows)
		return HEARTBEAT_HOLD_ROUTE;
	if (f->busy)
		return HEARTBEAT_HOLD_BUSY;
	if (f->unread || (f->blind && b->unread >= HEARTBEAT_UNREAD_MAX && !f->receive_only))
		return HEARTBEAT_HOLD_UNREAD;
	if (!f->other_alive)
		return HEARTBEAT_HOLD_OTHER;
	return HEARTBEAT_HOLD_NONE;
}

/* A reply that was due has not come. */
static void
miss(struct heartbeat_leg *b, const struct heartbeat_policy *p, struct heartbeat_outcome *o)
{
	b->asked_us = 0;
	/* Many peers reply to nobody, and are well: only one that has replied before can miss a reply. */
	if (b->replied == 0) {
		o->went_mute = b->since_us != 0 && !b->mute;
		b->mute |= o->went_mute;
		return;
	}
	if (b->misses < UINT16_MAX)
		b->misses++;
	o->missed = true;
	if (p->misses != 0 && b->misses >= p->misses)
		o->verdict = HEARTBEAT_DEAD;
}

/* The answer that is waited for: still to come, late, or never. */
static void
judge_answer(struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us,
    struct heartbeat_outcome *o)
{
	if (!f->reply_awaited) {		/* also: it may have answered the application in our place */
		b->asked_us = b->since_us = 0;
		b->misses = 0;
		return;
	}
	if (b->asked_us == 0 || now_us < b->asked_us + p->timeout_us)
		return;
	if (f->rx_us > b->asked_us)
		b->misses = 0;
	if (f->rx_us > b->asked_us || f->stuck)
		b->asked_us = now_us;	/* it gets its full time again */
	else
		miss(b, p, o);
}

/*
 * Some peers cannot bear a ping within a message of several frames, though it
 * is legal: one goes there only when the message has paused for an interval
 * more. While its frames come the path is in use.
 */
static int64_t
message_wait_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f)
{
	return f->may_wait ? max64(f->tx_us, b->last_us) + 2 * heartbeat_gap_us(b, p) : 0;
}

int64_t
heartbeat_again_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t now_us)
{
	int64_t at = heartbeat_impossible_us(p, now_us);

	if (b->hold == HEARTBEAT_HOLD_LIMIT)
		at = INT64_MAX;		/* only bytes from the other side change that: see there */
	else if (b->hold == HEARTBEAT_HOLD_OTHER || b->hold == HEARTBEAT_HOLD_TRIAL)
		at = now_us + max64(RETRY_LEAST_US, min64(p->interval_us / 4, RETRY_MOST_US));
	return b->asked_us != 0 ? min64(at, b->asked_us + p->timeout_us) : at;
}

struct heartbeat_outcome
heartbeat_decide(struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us)
{
	struct heartbeat_outcome o = { .verdict = HEARTBEAT_WAIT };
	unsigned legal = f->legal;

	if (f->rx_us > b->last_us)
		b->unread = 0;
	judge_answer(b, p, f, now_us, &o);
	if (o.verdict == HEARTBEAT_DEAD)
		return o;
	if (b->asked_us == 0 && f->reply_awaited && b->since_us != 0 && !b->mute && wish(p) == HEARTBEAT_PING && (legal & HEARTBEAT_PING) == 0)
		b->asked_us = now_us;	/* it cannot be asked anew: the reply to the last ask is waited for once more */
	if (b->asked_us != 0 || b->mute)
		legal &= ~(unsigned)HEARTBEAT_PING;
	o.kind = choose_kind(p, legal);
	if (f->legal == 0)
		b->hold = HEARTBEAT_HOLD_STATE;
	else if (o.kind == 0)
		b->hold = b->mute ? HEARTBEAT_HOLD_MUTE : b->asked_us != 0 ? HEARTBEAT_HOLD_REPLY : HEARTBEAT_HOLD_STATE;
	else
		b->hold = (uint8_t)find_hold(b, p, f, now_us);
	if (b->hold == HEARTBEAT_HOLD_NONE && now_us < message_wait_us(b, p, f))
		b->hold = HEARTBEAT_HOLD_MESSAGE;
	if (b->hold == HEARTBEAT_HOLD_NONE)
		o.verdict = HEARTBEAT_SEND;
	else
		o.again_us = heartbeat_again_us(b, p, now_us);
	if (b->hold == HEARTBEAT_HOLD_MESSAGE)
		o.again_us = min64(o.again_us, message_wait_us(b, p, f));
	return o;
}

void
heartbeat_sent(struct heartbeat_leg *b, unsigned kind, int64_t now_us, uint32_t random)
{
	b->last_us = now_us;
	b->jitter = (uint16_t)(random % JITTERS);
	b->sent++;
	b->last_kind = (uint8_t)kind;
	if (b->unread < HEARTBEAT_UNREAD_MAX)
		b->unread++;
	if (((b->borne | b->trying) & kind) == 0) {
		b->trying |= (uint8_t)kind;
		if (kind != HEARTBEAT_PING)
			b->trial_us = now_us;
	}
	if (kind != HEARTBEAT_PING)
		return;
	b->pings++;
	b->asked_us = now_us;
	if (b->since_us == 0)
		b->since_us = now_us;
}

void
heartbeat_refused(struct heartbeat_leg *b)
{
	b->refused = true;
	b->hold = HEARTBEAT_HOLD_REFUSED;
	b->trying = 0;
	b->asked_us = b->since_us = 0;
}

unsigned
heartbeat_replied(struct heartbeat_leg *b, unsigned n, int64_t now_us)
{
	const unsigned borne = b->trying & HEARTBEAT_PING;

	b->borne |= (uint8_t)borne;
	b->trying &= (uint8_t)~HEARTBEAT_PING;
	b->replied += n;
	b->misses = 0;
	b->unread = 0;
	b->asked_us = 0;
	b->mute = false;
	if (b->since_us == 0)
		return borne;		/* another one was answered before it */
	b->rtt_us = (uint32_t)min64(now_us - b->since_us, UINT32_MAX);
	b->srtt_us = b->srtt_us == 0 ? b->rtt_us : b->srtt_us - b->srtt_us / 8 + b->rtt_us / 8;
	if (b->rtt_us > b->worst_us)
		b->worst_us = b->rtt_us;
	b->since_us = 0;
	return borne;
}

int64_t
heartbeat_trial_us(const struct heartbeat_policy *p, bool is_borne)
{
	return min64(US_PER_S, p->interval_us / (is_borne ? 10 : 2));
}

unsigned
heartbeat_settle_trial(struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t now_us)
{
	const unsigned kind = b->trying & ~(unsigned)HEARTBEAT_PING;

	if (kind == 0 || now_us < b->trial_us + heartbeat_trial_us(p, false))
		return 0;
	b->borne |= (uint8_t)kind;
	b->trying &= HEARTBEAT_PING;
	return kind;
}

bool
heartbeat_drop_ask(struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t rx_us, int64_t now_us)
{
	if ((b->trying & HEARTBEAT_PING) == 0)
		return false;
	if (b->since_us != 0 && !(b->mute && rx_us > b->since_us) && now_us < b->since_us + ASK_TRIAL_TIMEOUTS * p->timeout_us)
		return false;
	b->trying &= (uint8_t)~HEARTBEAT_PING;
	return true;
}

int64_t
heartbeat_vouch_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us)
{
	/* A live peer replies each probe: one that is missing is waited for, a second is not. */
	if (probe_idle_us > 0)
		return probe_idle_us + probe_interval_us + US_PER_S;
	/* With nothing that asks for signs of life, only the application gives them, in its own time. */
	return (interval_us > 0 ? interval_us * 2 : UNASKED_US) + US_PER_S;
}
