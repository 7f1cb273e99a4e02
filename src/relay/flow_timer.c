/*
 * flow_timer.c - the one timer of a flow.
 *
 * It is lazy: traffic only leaves time stamps. When the timer fires, it checks
 * them and is set again if needed. An idle plain flow has no timer set.
 */
#include <assert.h>

#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/flow_parts.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/retire.h"
#include "relay/session.h"
#include "relay/shared.h"

#define HALF_CLOSED_IDLE_S 25	/* limit before the first probe; the same as the default of keepalive */

void
flow_wake_at(struct flow *f, int64_t at_us)
{
	assert(f->state != FLOW_ENDED && at_us > 0);
	if (f->timer.slot != 0 && f->timer.at_us <= at_us)
		return;
	if (timer_arm(f->relay->timers, &f->timer, at_us) == 0)
		return;
	f->out_of_memory = true;	/* ended later: the caller is still working on the flow */
	flow_requeue(f);
}

/*
 * A short read has not always emptied the socket: a read stops before an urgent
 * byte, and one edge may stand for both bytes and a reset (libevent does not
 * say which). No further edge will come. A check after each short read would
 * cost a tenth of a round trip, so there is one check a little later, for all
 * reads since.
 */
void
flow_recheck(struct flow *f, enum side s, int64_t now_us)
{
	require_void(f, now_us > 0);		/* 0 is no time: see recheck_us */
	leg_of(f, s)->read_short = true;
	if (f->state != FLOW_OPEN || f->recheck_us != 0)
		return;
	f->recheck_us = now_us + FLOW_RECHECK_US;
	flow_wake_at(f, f->recheck_us);
}

/*
 * Connection tracking drops a half-closed connection sooner than an open one
 * (Linux: after 60 s), so the first probe must not wait longer than that.
 */
void
flow_half_closed(struct flow *f)
{
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (leg_settings(f, s)->keepalive.idle_s > HALF_CLOSED_IDLE_S)
			transport_set_keepalive_idle(&leg_of(f, s)->transport, HALF_CLOSED_IDLE_S);
}

/* --- when it fires --- */

static void
recheck(struct flow *f)
{
	require_void(f, f->state == FLOW_OPEN);	/* else the union holds another member */
	require_void(f, transport_is_open(&f->leg[CLIENT].transport) && transport_is_open(&f->leg[BACKEND].transport));
	f->recheck_us = 0;
	if (!f->keepalive_is_set && f->backend.family != AF_UNIX)
		(void)transport_set_keepalive(&leg_of(f, BACKEND)->transport, &leg_settings(f, BACKEND)->keepalive);
	if (!f->keepalive_is_set && (leg_of(f, CLIENT)->fin || leg_of(f, BACKEND)->fin))
		flow_half_closed(f);
	f->keepalive_is_set = true;
	for (enum side s = CLIENT; s <= BACKEND && f->state == FLOW_OPEN; s++) {
		struct leg *l = leg_of(f, s);
		const int more = l->read_short && !l->readable && !l->fin ? transport_has_more(&l->transport) : 0;

		l->read_short = false;
		if (more < 0)
			flow_apply(f, VERDICT_FAILED(s, -more));
		l->readable |= more > 0;
		if (more > 0)
			flow_run(f, s);
	}
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When side s has been idle too long; INT64_MAX: never. */
static int64_t
idle_at(const struct flow *f, enum side s)
{
	const int64_t idle_ms = leg_settings(f, s)->idle_timeout_ms;

	require_or(f, idle_ms >= 0 && session_app_us(f, s) > 0, INT64_MAX);
	return idle_ms == 0 ? INT64_MAX : session_app_us(f, s) + idle_ms * US_PER_MS;
}

/* Checks one leg of an open flow; *again_us: when to check again. */
static struct verdict
tick_leg(struct flow *f, enum side s, bool is_watched, int64_t now_us, int64_t *again_us)
{
	struct verdict v = VERDICT(GO_ON);
	int64_t watch_us = INT64_MAX;

	*again_us = idle_at(f, s);
	if (*again_us <= now_us)
		return VERDICT_CUT_OFF(reason_on_side(REASON_CLIENT_IDLE, s));
	if (is_watched)
		v = window_watch(f, s, now_us, &watch_us);
	if (watch_us != INT64_MAX && (f->watch_us == 0 || watch_us < f->watch_us))
		f->watch_us = watch_us;
	if (v.kind != GO_ON || leg_settings(f, s)->detect_ms == 0)
		return v;
	v = detect_watch(f, s, now_us, &watch_us);
	require(f, watch_us > now_us || v.kind != GO_ON);	/* else it would be looked at without a pause */
	*again_us = earlier(*again_us, watch_us);
	return v;
}

/* Does what is due on an open flow; returns when to check again. */
static int64_t
tick_open(struct flow *f, int64_t now_us)
{
	const bool is_watched = f->watch_us != 0 && f->watch_us <= now_us;
	int64_t at = INT64_MAX, again = INT64_MAX;

	require_or(f, f->state == FLOW_OPEN && f->watch_us >= 0 && f->recheck_us >= 0, INT64_MAX);
	if (f->recheck_us != 0 && f->recheck_us <= now_us)
		recheck(f);
	if (is_watched)
		f->watch_us = 0;	/* unless a leg below, or a write, sets it again */
	for (enum side s = CLIENT; s <= BACKEND && f->state == FLOW_OPEN; s++) {
		flow_apply(f, tick_leg(f, s, is_watched, now_us, &again));
		at = earlier(at, again);
	}
	if (f->state == FLOW_OPEN && f->session != NULL) {
		flow_apply(f, heartbeats_tick(f, now_us, &again));
		at = earlier(at, again);
	}
	at = earlier(at, retire_by_age(f, now_us));
	if (f->watch_us != 0)
		at = earlier(at, f->watch_us);
	if (f->state == FLOW_OPEN && f->recheck_us != 0)
		at = earlier(at, f->recheck_us);
	return at;
}

void
flow_set_timer(struct flow *f, int64_t now_us)
{
	int64_t at = INT64_MAX;

	assert(now_us > 0);
	flow_retire_now(f);
	switch (f->state) {
	case FLOW_CONNECTING:
		flow_apply(f, dial_tick(f, now_us, &at));
		break;
	case FLOW_PREFACE:
		flow_apply(f, preface_tick(f, now_us, &at));
		break;
	case FLOW_OPEN:
		at = tick_open(f, now_us);
		break;
	case FLOW_ENDING:
		flow_progress_ending(f);	/* sets the timer itself */
		break;
	default:
		return;
	}
	if (f->retires)
		at = earlier(at, retire_again_us(f, now_us));
	if (at != INT64_MAX && (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE || f->state == FLOW_OPEN))
		flow_wake_at(f, at > now_us ? at : now_us + US_PER_MS);
}

void
flow_on_timer(struct timer *t, int64_t now_us)
{
	struct flow *f = (struct flow *)(void *)((char *)t - offsetof(struct flow, timer));

	if (f->broken)
		return;
	flow_set_timer(f, now_us);
	(void)flow_check_settled(f);
}
