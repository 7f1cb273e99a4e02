/*
 * flow_check.c - what is true of a flow in each of its states.
 *
 * flow_check() holds at any time, also in the middle of an event; it is called where the state changes.
 * flow_check_settled() holds between two events: then, too, nothing is left to do for which no event will come. That
 * costs more, and is tried after each event in the builds with STENT_DEAR: sanitizers, fuzzing, the simulation.
 *
 * Each fact is about one flow, which ends alone if it does not hold (require.h).
 */
#include <stdlib.h>

#include "relay/adopt.h"
#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/flow_tree.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"

static bool
leg_is_open(const struct flow *f, enum side s)
{
	return transport_is_open(&f->leg[s].transport);
}

/* A leg of any state. */
static bool
check_leg(const struct flow *f, enum side s)
{
	const struct leg *l = &f->leg[s];

	require_or(f, l->side == s, false);		/* else flow_of_leg() finds other memory */
	require_or(f, l->backlog == NULL || leg_is_open(f, s), false);	/* what is closed takes no bytes */
	require_or(f, !l->truncated || l->fin, false);
	require_or(f, !l->dead || f->state == FLOW_ENDING, false);
	require_or(f, !l->reset_at_close || f->session != NULL, false);	/* only a codec knows what a FIN would mean */
	return true;
}

/* Nothing was relayed yet: the client's bytes are in the kernel. */
static bool
check_unopened(const struct flow *f)
{
	require_or(f, f->session == NULL && f->first_goodbye == 0, false);
	require_or(f, leg_is_open(f, CLIENT), false);
	require_or(f, f->leg[CLIENT].bytes == 0 && f->leg[BACKEND].bytes == 0, false);
	require_or(f, !f->leg[CLIENT].shut && !f->leg[BACKEND].shut, false);
	require_or(f, !f->leg[CLIENT].fin && !f->leg[BACKEND].fin, false);	/* the preface only peeks at a FIN */
	require_or(f, !f->leg[CLIENT].stalled && !f->leg[BACKEND].stalled, false);
	require_or(f, f->watch_us == 0 && !f->keepalive_is_set, false);
	return true;
}

static bool
check_connecting(const struct flow *f)
{
	require_or(f, f->leg[BACKEND].backlog == NULL, false);	/* nothing is sent before it is connected */
	require_or(f, !leg_is_tls(&f->leg[BACKEND]), false);
	require_or(f, !f->is_counted, false);			/* its attempts are, by themselves */
	return f->dial == NULL || dial_check(f);
}

static bool
check_preface(const struct flow *f)
{
	require_or(f, f->preface != NULL, false);
	return preface_check(f, f->preface);
}

static bool
check_session(const struct flow *f)
{
	const struct session *ss = f->session;

	require_or(f, (ss->codec == NULL) == (ss->passthrough != NULL), false);	/* who steps aside says why, once */
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct heartbeat_leg *h = &ss->heartbeat[s];

		require_or(f, h->pings <= h->sent, false);
		require_or(f, (h->last_kind != 0) == (h->sent > 0), false);
		require_or(f, (h->on_trial & h->accepted) == 0, false);	/* what is accepted is not on trial any more */
		require_or(f, h->oldest_ping_us == 0 || h->pings > 0, false);
		require_or(f, h->timeout_from_us == 0 || h->oldest_ping_us != 0, false);	/* the timeout is that of a ping */
		require_or(f, !h->mute || h->replied == 0, false);
		require_or(f, !h->refused || h->on_trial == 0, false);
	}
	return true;
}

static bool
check_open(const struct flow *f)
{
	require_or(f, leg_is_open(f, CLIENT) && leg_is_open(f, BACKEND), false);
	require_or(f, !f->leg[CLIENT].dead && !f->leg[BACKEND].dead, false);
	require_or(f, f->recheck_us >= 0 && f->watch_us >= 0, false);
	require_or(f, !admission_is_refused(f->admission), false);
	require_or(f, f->session != NULL || f->first_goodbye == 0, false);
	require_or(f, !f->has_old_settings || (f->session != NULL && f->session->codec != NULL), false);
	return f->session == NULL || check_session(f);
}

static bool
check_ending(const struct flow *f)
{
	const struct ending *e = f->ending;

	require_or(f, e != NULL, false);
	require_or(f, f->reason != REASON_NONE, false);
	return ending_holds(f, e);
}

bool
flow_check(const struct flow *f)
{
	if (f->state == FLOW_ENDED)
		return true;
	require_or(f, f->state < FLOW_ENDED, false);
	require_or(f, f->reason < REASON_COUNT, false);
	require_or(f, f->admission < ADMISSION_COUNT, false);
	require_or(f, f->first_goodbye <= 2, false);
	require_or(f, f->session == NULL || f->state == FLOW_OPEN || f->state == FLOW_ENDING, false);
	if (!check_leg(f, CLIENT) || !check_leg(f, BACKEND))
		return false;
	switch ((enum flow_state)f->state) {
	case FLOW_CONNECTING:
		return check_unopened(f) && check_connecting(f);
	case FLOW_PREFACE:
		return check_unopened(f) && check_preface(f);
	case FLOW_OPEN:
		return check_open(f);
	case FLOW_ENDING:
		return check_ending(f);
	default:
		return true;
	}
}

/* --- between two events --- */

#ifdef STENT_DEAR
/* No edge comes for what was signalled already, so it was done, or something stands in its way that will end by an event. */
static bool
check_direction(const struct flow *f, enum side from)
{
	const struct leg *l = &f->leg[from], *to = &f->leg[side_other(from)];
	const bool is_blocked = to->backlog != NULL || f->again;

	require_or(f, !to->shut || l->fin, false);	/* our FIN is the other side's */
	require_or(f, is_blocked || l->fin || !l->readable, false);	/* what is there is read */
	require_or(f, is_blocked || !l->fin || to->shut, false);	/* a FIN is passed on behind its bytes */
	require_or(f, !l->read_short || f->recheck_us != 0, false);	/* see flow_recheck() */
	require_or(f, !l->stalled || leg_settings(f, from)->keepalive.user_timeout_ms > 0, false);
	require_or(f, backlog_len(l) == 0 || l->backlog != NULL, false);	/* unsent bytes of TLS, too */
	return true;
}

/* The flow has something to do at a time. */
static bool
needs_timer(const struct flow *f)
{
	if (f->state != FLOW_OPEN)
		return true;
	return f->watch_us != 0 || f->recheck_us != 0 || f->retires || f->route->max_age_ms > 0 ||
	    leg_settings(f, CLIENT)->idle_timeout_ms > 0 || leg_settings(f, BACKEND)->idle_timeout_ms > 0;
}

bool
flow_check_settled(const struct flow *f)
{
	if (f->state == FLOW_ENDED || f->broken)
		return true;
	if (!flow_check(f))
		return false;
	require_or(f, f->state != FLOW_CONNECTING || f->dial != NULL, false);
	require_or(f, !f->out_of_memory || f->again || f->state == FLOW_ENDING, false);	/* it ends by relay_work() */
	require_or(f, !needs_timer(f) || f->timer.slot != 0 || f->out_of_memory, false);
	require_or(f, !f->retires || flow_tree_find(&f->relay->retiring, f) != NULL, false);
	require_or(f, !f->has_origin || flow_tree_find(&f->relay->origins, f) != NULL, false);
	require_or(f, !f->has_old_settings || flow_tree_find(&f->relay->old_settings, f) != NULL, false);
	if (f->state != FLOW_OPEN)
		return true;
	require_or(f, f->keepalive_is_set || f->recheck_us != 0, false);
	return check_direction(f, CLIENT) && check_direction(f, BACKEND);
}
#endif
