/*
 * heartbeat.c - the schedule of one leg's heartbeats, and the judgement of its peer.
 *
 * One ping waits for its reply at a time. After a timeout, which counts as a
 * miss, the next ping is sent at once, so that a dead program is found within
 * interval + timeout x misses. Meanwhile one-way heartbeats keep the path alive.
 *
 * No miss is counted for a peer that has never replied (many healthy peers
 * never do: they get one-way heartbeats after the first ping), for one that
 * sends anything (its reply may wait for the end of that), or while bytes are
 * stuck: then TCP_USER_TIMEOUT decides, and a flow to a paused reader stays open.
 * Replies that the peer owes to the application do not count.
 *
 * A reply moves no timer: the leg is checked after an interval anyway.
 */
#include "stent/heartbeat.h"


#include "stent/clock.h"
#include "stent/codec.h"
#include "stent/promise.h"

#define RETRY_MIN_US (5 * US_PER_MS)
#define RETRY_MAX_US (5 * US_PER_S)
#define JITTER_PERCENT 20
#define JITTERS 1024
#define PING_TRIAL_TIMEOUTS 10
#define SILENCE_MAX_US (60 * (int64_t)US_PER_S)

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
heartbeat_gap_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p)
{
	promise(h->jitter < JITTERS && p->interval_us >= 0);
	return p->interval_us - p->interval_us * JITTER_PERCENT / 100 * h->jitter / JITTERS;
}

void
heartbeat_limit_policy(struct heartbeat_policy *p, const struct codec_limits *limits)
{
	const int64_t interval_us = limits->interval_ms * US_PER_MS, silence_us = limits->silence_ms * US_PER_MS;

	promise_void(interval_us >= 0 && silence_us >= 0);
	if (interval_us > 0 && p->interval_us > interval_us)	/* 0 is off, and stays so */
		p->interval_us = interval_us;
	if (silence_us > 0 && (p->limit_us == 0 || p->limit_us > silence_us))
		p->limit_us = silence_us;
}

void
heartbeat_init(struct heartbeat_leg *h, int64_t now_us, uint32_t random)
{
	h->last_us = now_us;
	h->jitter = (uint16_t)(random % JITTERS);
}

static unsigned
wanted_kind(const struct heartbeat_policy *p)
{
	return p->kind != 0 ? p->kind : p->preferred;
}

int64_t
heartbeat_due_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t rx_us, int64_t tx_us)
{
	int64_t idle_us, due_us;

	if (p->interval_us == 0 || h->refused)
		return INT64_MAX;
	promise(h->timeout_from_us == 0 || (h->oldest_ping_us != 0 && h->timeout_from_us >= h->oldest_ping_us));
	/* Only a ping brings bytes back; a one-way heartbeat brings acknowledgements at most. */
	idle_us = wanted_kind(p) == HEARTBEAT_PING ? min64(rx_us, tx_us) : tx_us;
	due_us = max64(idle_us, h->last_us) + heartbeat_gap_us(h, p);
	if ((h->on_trial & ~(unsigned)HEARTBEAT_PING) != 0)
		due_us = min64(due_us, h->trial_us + heartbeat_trial_us(p, false));
	if ((h->on_trial & HEARTBEAT_PING) != 0)
		due_us = min64(due_us, h->oldest_ping_us + PING_TRIAL_TIMEOUTS * p->timeout_us);
	return h->timeout_from_us != 0 ? min64(due_us, h->timeout_from_us + p->timeout_us) : due_us;
}

bool
heartbeat_is_impossible(const struct heartbeat_leg *h, unsigned legal, bool reply_awaited)
{
	return legal == 0 && h->timeout_from_us == 0 && !reply_awaited;
}

int64_t
heartbeat_impossible_us(const struct heartbeat_policy *p, int64_t now_us)
{
	return now_us + max64(RETRY_MIN_US, p->interval_us / 2);
}

/* The kind to send: the wanted one, or one-way where a ping is not legal now. `early` has no substitute. */
static unsigned
choose_kind(const struct heartbeat_policy *p, unsigned legal)
{
	if ((legal & wanted_kind(p)) != 0)
		return wanted_kind(p);
	if (p->kind == HEARTBEAT_EARLY)
		return 0;
	if ((legal & HEARTBEAT_ONEWAY) != 0)
		return HEARTBEAT_ONEWAY;
	return p->kind == 0 ? legal & HEARTBEAT_PING : 0;
}

/* Why the leg gets no heartbeat, though its protocol allows one. */
static enum heartbeat_hold
find_hold(const struct heartbeat_leg *h, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us)
{
	if (p->limit_us != 0 && now_us - f->other_app_us >= p->limit_us)
		return HEARTBEAT_HOLD_LIMIT;
	if (!f->route_allows)
		return HEARTBEAT_HOLD_ROUTE;
	if (f->busy)
		return HEARTBEAT_HOLD_BUSY;
	if (f->unread || (f->blind && h->unread >= HEARTBEAT_UNREAD_MAX && !f->receive_only))
		return HEARTBEAT_HOLD_UNREAD;
	if (!f->other_alive)
		return HEARTBEAT_HOLD_OTHER;
	return HEARTBEAT_HOLD_NONE;
}

/* A reply that was due has not come. */
static void
miss(struct heartbeat_leg *h, const struct heartbeat_policy *p, struct heartbeat_outcome *o)
{
	promise_void(h->timeout_from_us != 0 && h->pings > 0);
	h->timeout_from_us = 0;
	if (h->replied == 0) {		/* see the head of this file */
		o->went_mute = h->oldest_ping_us != 0 && !h->mute;
		h->mute |= o->went_mute;
		return;
	}
	if (h->misses < UINT16_MAX)
		h->misses++;
	o->missed = true;
	if (p->misses != 0 && h->misses >= p->misses)
		o->verdict = HEARTBEAT_DEAD;
}

/* Judges the reply that is awaited: in time, late or missing. */
static void
judge_reply(struct heartbeat_leg *h, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us,
    struct heartbeat_outcome *o)
{
	if (!f->reply_awaited) {	/* it came, or the codec cannot tell it from a reply to the application */
		h->timeout_from_us = h->oldest_ping_us = 0;
		h->misses = 0;
		return;
	}
	if (h->timeout_from_us == 0 || now_us < h->timeout_from_us + p->timeout_us)
		return;
	if (f->rx_us > h->timeout_from_us)
		h->misses = 0;
	if (f->rx_us > h->timeout_from_us || f->stuck)
		h->timeout_from_us = now_us;	/* the full timeout applies again */
	else
		miss(h, p, o);
}

/*
 * Some peers fail on a ping between the frames of one message, though it is
 * legal. It is sent there only after the message has paused for another
 * interval; until then its frames keep the path alive.
 */
static int64_t
message_wait_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p, const struct heartbeat_facts *f)
{
	return f->may_wait ? max64(f->tx_us, h->last_us) + 2 * heartbeat_gap_us(h, p) : 0;
}

int64_t
heartbeat_again_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t now_us)
{
	int64_t at = heartbeat_impossible_us(p, now_us);

	promise(p->interval_us > 0 && h->hold <= HEARTBEAT_HOLD_MESSAGE);
	if (h->hold == HEARTBEAT_HOLD_LIMIT)
		at = INT64_MAX;		/* only bytes from the other side change that: see resume_after_limit() */
	else if (h->hold == HEARTBEAT_HOLD_OTHER || h->hold == HEARTBEAT_HOLD_TRIAL)
		at = now_us + max64(RETRY_MIN_US, min64(p->interval_us / 4, RETRY_MAX_US));
	return h->timeout_from_us != 0 ? min64(at, h->timeout_from_us + p->timeout_us) : at;
}

/* What the state of a leg is between two calls. */
static void
check_leg(const struct heartbeat_leg *h)
{
	const unsigned all = HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY, others = h->on_trial & ~(unsigned)HEARTBEAT_PING;

	promise(h->oldest_ping_us != 0 || h->timeout_from_us == 0);
	promise(h->unread <= HEARTBEAT_UNREAD_MAX && h->hold <= HEARTBEAT_HOLD_MESSAGE);
	promise(((h->accepted | h->on_trial | h->last_kind) & ~all) == 0);
	promise((h->accepted & h->on_trial) == 0);	/* the trial of what is accepted is over */
	promise((others & (others - 1)) == 0);		/* at most one: see may_try() */
	promise(!h->refused || h->on_trial == 0);
}

/* What the caller may rely on. */
static void
check_outcome(const struct heartbeat_leg *h, const struct heartbeat_facts *f, const struct heartbeat_outcome *o, int64_t now_us)
{
	if (o->verdict == HEARTBEAT_SEND) {
		promise(o->kind != 0 && (o->kind & f->legal) == o->kind && (o->kind & (o->kind - 1)) == 0);
		promise(o->kind != HEARTBEAT_PING || (!h->mute && h->timeout_from_us == 0));	/* one ping at a time */
		promise(f->other_alive && !f->busy && !f->unread);	/* nothing for the dead, nothing behind unsent bytes */
	} else {
		promise(h->hold != HEARTBEAT_HOLD_NONE && o->again_us >= now_us);
	}
	promise(!o->missed || (h->misses > 0 && h->replied > 0));
	promise(!o->went_mute || h->mute);
}

struct heartbeat_outcome
heartbeat_decide(struct heartbeat_leg *h, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us)
{
	struct heartbeat_outcome o = { .verdict = HEARTBEAT_WAIT };
	unsigned legal = f->legal;

	promise(p->interval_us > 0 && !h->refused);	/* else it is never due */
	check_leg(h);
	if (f->rx_us > h->last_us)
		h->unread = 0;
	judge_reply(h, p, f, now_us, &o);
	if (o.verdict == HEARTBEAT_DEAD) {
		promise(h->replied > 0 && p->misses != 0 && h->misses >= p->misses);
		return o;
	}
	if (h->timeout_from_us == 0 && f->reply_awaited && h->oldest_ping_us != 0 && !h->mute &&
	    wanted_kind(p) == HEARTBEAT_PING && (legal & HEARTBEAT_PING) == 0)
		h->timeout_from_us = now_us;	/* no new ping is legal: wait for the reply to the last one again */
	if (h->timeout_from_us != 0 || h->mute)
		legal &= ~(unsigned)HEARTBEAT_PING;
	o.kind = choose_kind(p, legal);
	if (f->legal == 0)
		h->hold = HEARTBEAT_HOLD_STATE;
	else if (o.kind == 0)
		h->hold = h->mute ? HEARTBEAT_HOLD_MUTE : h->timeout_from_us != 0 ? HEARTBEAT_HOLD_REPLY : HEARTBEAT_HOLD_STATE;
	else
		h->hold = (uint8_t)find_hold(h, p, f, now_us);
	if (h->hold == HEARTBEAT_HOLD_NONE && now_us < message_wait_us(h, p, f))
		h->hold = HEARTBEAT_HOLD_MESSAGE;
	if (h->hold == HEARTBEAT_HOLD_NONE)
		o.verdict = HEARTBEAT_SEND;
	else
		o.again_us = heartbeat_again_us(h, p, now_us);
	if (h->hold == HEARTBEAT_HOLD_MESSAGE)
		o.again_us = min64(o.again_us, message_wait_us(h, p, f));
	check_outcome(h, f, &o, now_us);
	return o;
}

void
heartbeat_sent(struct heartbeat_leg *h, unsigned kind, int64_t now_us, uint32_t random)
{
	promise_void(kind == HEARTBEAT_ONEWAY || kind == HEARTBEAT_PING || kind == HEARTBEAT_EARLY);
	promise(!h->refused && now_us >= h->last_us);
	h->last_us = now_us;
	h->jitter = (uint16_t)(random % JITTERS);
	h->sent++;
	h->last_kind = (uint8_t)kind;
	if (h->unread < HEARTBEAT_UNREAD_MAX)
		h->unread++;
	if (((h->accepted | h->on_trial) & kind) == 0) {
		h->on_trial |= (uint8_t)kind;
		if (kind != HEARTBEAT_PING)
			h->trial_us = now_us;
	}
	check_leg(h);
	if (kind != HEARTBEAT_PING)
		return;
	promise(!h->mute && h->timeout_from_us == 0);
	h->pings++;
	h->timeout_from_us = now_us;
	if (h->oldest_ping_us == 0)
		h->oldest_ping_us = now_us;
}

void
heartbeat_refused(struct heartbeat_leg *h)
{
	h->refused = true;
	h->hold = HEARTBEAT_HOLD_REFUSED;
	h->on_trial = 0;
	h->timeout_from_us = h->oldest_ping_us = 0;
}

unsigned
heartbeat_replied(struct heartbeat_leg *h, unsigned n, int64_t now_us)
{
	const unsigned accepted = h->on_trial & HEARTBEAT_PING;

	promise_or(n > 0, 0);
	promise(h->timeout_from_us == 0 || h->oldest_ping_us != 0);
	h->accepted |= (uint8_t)accepted;
	h->on_trial &= (uint8_t)~HEARTBEAT_PING;
	h->replied += n;
	h->misses = 0;
	h->unread = 0;
	h->timeout_from_us = 0;
	h->mute = false;
	if (h->oldest_ping_us == 0)
		return accepted;	/* a newer ping was replied to before */
	promise(now_us >= h->oldest_ping_us);
	h->rtt_us = (uint32_t)min64(now_us - h->oldest_ping_us, UINT32_MAX);
	h->srtt_us = h->srtt_us == 0 ? h->rtt_us : h->srtt_us - h->srtt_us / 8 + h->rtt_us / 8;
	if (h->rtt_us > h->worst_us)
		h->worst_us = h->rtt_us;
	promise(h->worst_us >= h->rtt_us && h->srtt_us <= h->worst_us);
	h->oldest_ping_us = 0;
	return accepted;
}

int64_t
heartbeat_trial_us(const struct heartbeat_policy *p, bool was_accepted)
{
	return min64(US_PER_S, p->interval_us / (was_accepted ? 10 : 2));
}

unsigned
heartbeat_settle_trial(struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t now_us)
{
	const unsigned kind = h->on_trial & ~(unsigned)HEARTBEAT_PING;

	promise((kind & (kind - 1)) == 0);	/* at most one: see may_try() */
	if (kind == 0 || now_us < h->trial_us + heartbeat_trial_us(p, false))
		return 0;
	h->accepted |= (uint8_t)kind;
	h->on_trial &= HEARTBEAT_PING;
	return kind;
}

bool
heartbeat_end_ping_trial(struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t rx_us, int64_t now_us)
{
	if ((h->on_trial & HEARTBEAT_PING) == 0)
		return false;
	promise(h->pings > 0);
	if (h->oldest_ping_us != 0 && !(h->mute && rx_us > h->oldest_ping_us) &&
	    now_us < h->oldest_ping_us + PING_TRIAL_TIMEOUTS * p->timeout_us)
		return false;
	h->on_trial &= (uint8_t)~HEARTBEAT_PING;
	return true;
}

int64_t
heartbeat_sign_max_age_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us)
{
	/* A live peer acknowledges each probe. One may be lost; two missing are taken as no sign of life. */
	if (probe_idle_us > 0)
		return probe_idle_us + probe_interval_us + US_PER_S;
	/* Without probes, only the application gives signs of life, at its own intervals. */
	return (interval_us > 0 ? interval_us * 2 : SILENCE_MAX_US) + US_PER_S;
}
