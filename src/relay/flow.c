/*
 * flow.c - the dispatcher of a flow: every change of its state, and its end.
 *
 * The other files return what they find as a verdict, and flow_apply() acts on
 * it. The events of its sockets are in flow_events.c, its timer in flow_timer.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "relay/adopt.h"
#include "relay/drain.h"
#include "relay/ending.h"
#include "relay/evict.h"
#include "relay/flow_check.h"
#include "relay/flow_parts.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/retire.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/events.h"
#include "stent/log.h"

/* --- the end of a flow --- */

static void
close_leg(struct flow *f, enum side s, bool by_reset)
{
	struct leg *l = leg_of(f, s);

	backlog_free(f->relay, l);
	assert(l->backlog == NULL);
	if (!transport_is_open(&l->transport))
		return;
	event_del(&l->ev);
	if (!by_reset && l->reset_at_close)
		transport_reset_at_close(&l->transport, false);
	transport_close(&l->transport, by_reset ? TRANSPORT_RESET : TRANSPORT_FIN);
}

struct preface *
flow_preface(const struct flow *f)
{
	switch (f->state) {
	case FLOW_CONNECTING:
		return f->dial != NULL ? dial_preface(f->dial) : NULL;
	case FLOW_PREFACE:
		return f->preface;
	case FLOW_ENDING:
		return f->ending != NULL ? f->ending->preface : NULL;
	default:
		return NULL;
	}
}

/* Its relay has begun. */
static bool
has_relayed(const struct flow *f)
{
	return f->state == FLOW_OPEN || (f->state == FLOW_ENDING && flow_preface(f) == NULL);
}

static void
free_state(struct flow *f)
{
	if (f->state == FLOW_CONNECTING) {
		dial_free(f->dial);
	} else if (f->state != FLOW_OPEN) {
		preface_free(flow_preface(f));
		if (f->state == FLOW_ENDING)
			free(f->ending);
	}
	f->dial = NULL;
}

/* Closes the flow. It is freed between two rounds of the loop (relay_work()), as the list of flows may be walked now. */
static void
finish(struct flow *f, bool reset_client, bool reset_backend)
{
	struct relay *r = f->relay;
	const bool was_open = has_relayed(f);

	assert(f->state != FLOW_ENDED);		/* a flow ends once */
	assert(f->reason != REASON_NONE && f->reason < REASON_COUNT);
	assert(f->relay == r && f->route != NULL);
	if (was_open)
		end_log(f);
	else
		(void)refusal_log(f);
	free_state(f);
	f->state = FLOW_ENDED;
	timer_disarm(r->timers, &f->timer);
	close_leg(f, CLIENT, reset_client);
	close_leg(f, BACKEND, reset_backend);
	flow_leave(f);
	session_free(f);
	assert(f->timer.slot == 0 && !transport_is_open(&f->leg[CLIENT].transport) && !transport_is_open(&f->leg[BACKEND].transport));
	assert(f->leg[CLIENT].backlog == NULL && f->leg[BACKEND].backlog == NULL);
	assert(f->session == NULL && f->dial == NULL && !f->has_old_settings);
	assert(f->admission == ADMITTED);	/* given back */
	assert(counters_of(f)->flows_open > 0);
	counter_add(&counters_of(f)->flows_ended[f->reason], 1);
	counter_add(&counters_of(f)->flows_unopened, !was_open);
	counter_add(&counters_of(f)->flows_open, (uint64_t)-1);
	if (r->list_next == f)
		r->list_next = TAILQ_NEXT(f, link);
	if (r->adopt_next == f)
		r->adopt_next = TAILQ_NEXT(f, link);
	backend_left(f);
	suspect_forget(r, f);
	origin_forget(f);
	retire_forget(f);
	drain_forget(r, f);
	evict_forget(f);
	assert(!f->is_counted && !f->has_origin);
	assert(r->list_next != f && r->adopt_next != f && r->watch.next != f && r->drain.next != f);	/* no walk comes to it */
	TAILQ_REMOVE(&r->flows, f, link);
	TAILQ_INSERT_TAIL(&r->dead, f, link);
}

/*
 * The reset of a peer that refused us may be found by a write, before the alert in front of it is read: what TLS 1.3
 * refuses after our handshake, a client certificate for one.
 */
static void
take_late_cause(struct flow *f, enum side dead)
{
	const enum tls_cause cause = transport_tls_cause_kind(&f->leg[dead].transport);

	if (cause == TLS_CAUSE_NONE || f->reason != reason_on_side(REASON_CLIENT_RESET, dead))
		return;
	f->reason = (uint8_t)reason_on_side(REASON_CLIENT_TLS, dead);
	counter_add(&counters_of(f)->tls_failures[dead][cause], 1);
}

/* Something is not true of the TLS of a leg that must be: the flow is broken, too. */
static bool
has_broken_tls(struct flow *f)
{
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const char *what = transport_violation(&leg_of(f, s)->transport);

		if (what != NULL)
			require_violated(f, what, __FILE__, __LINE__);
	}
	return f->broken;
}

void
flow_progress_ending(struct flow *f)
{
	struct ending *e = f->ending;
	bool is_over;

	require_void(f, f->state == FLOW_ENDING && e != NULL);
	is_over = ending_check(f, e, clock_us());
	require_void(f, f->state == FLOW_ENDING && f->ending == e);	/* only this file changes that */
	if (has_broken_tls(f)) {
		flow_end(f, REASON_INTERNAL);
		return;
	}
	if (!e->forced)
		take_late_cause(f, e->dead);
	if (is_over)
		/* A reset might overtake the alert that tells why TLS failed. */
		finish(f, e->reset[CLIENT] && f->reason != REASON_CLIENT_TLS, e->reset[BACKEND] && f->reason != REASON_BACKEND_TLS);
}

/* Makes the backend stop its work for a client that is dead or was cut off. */
static void
cancel_work(struct flow *f)
{
	uint8_t buf[CODEC_HEARTBEAT_MAX];
	const size_t n = f->route->cancel_on_death ? session_cancel(f, buf) : 0;

	assert(n <= sizeof(buf));	/* else it wrote past it */
	if (n > 0)
		cancel_send(f->relay, f, buf, n);
}

/*
 * Nobody waits for the result of a flow that the operator, an idle timeout or
 * its age ends. A drain is excluded: the process exits and could not send the request.
 */
static bool
cancels_work(enum close_reason r)
{
	return r == REASON_ADMIN_KILL || r == REASON_MAX_AGE || r == REASON_CLIENT_IDLE || r == REASON_BACKEND_IDLE;
}

/*
 * A flow whose relay has not begun. A client that was told why gets the time to read that: a reset would discard it, and
 * so would a close with bytes unread. A leg whose TLS failed is closed by a FIN, as its alert is under way.
 */
static void
end_unopened(struct flow *f, enum close_reason reason)
{
	struct preface *p = flow_preface(f);
	struct ending *e;

	require_void(f, (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE) && f->session == NULL);
	e = p != NULL && preface_refuse(f, p) ? malloc(sizeof(*e)) : NULL;
	if (e == NULL) {
		finish(f, reason != REASON_CLIENT_TLS, reason != REASON_BACKEND_TLS);
		return;
	}
	ending_begin_forced(e, (const bool[]){ [CLIENT] = true, [BACKEND] = false }, false);
	e->preface = p;
	if (f->state == FLOW_CONNECTING) {
		(void)dial_take_preface(f->dial);
		dial_free(f->dial);
	}
	f->ending = e;
	f->state = FLOW_ENDING;
	(void)transport_shutdown(&leg_of(f, CLIENT)->transport);
	leg_of(f, CLIENT)->shut = true;
	close_leg(f, BACKEND, reason != REASON_BACKEND_TLS);
	if (flow_check(f))
		flow_progress_ending(f);
}

/* Neither side is dead. at_rest: the flow is between two messages. */
static void
end_open(struct flow *f, bool at_rest)
{
	bool notified[2];

	require_void(f, f->state == FLOW_OPEN && f->reason != REASON_NONE);
	for (enum side s = CLIENT; s <= BACKEND; s++)
		notified[s] = ending_notify(f, s, at_rest);
	f->ending = malloc(sizeof(*f->ending));
	if (f->ending == NULL) {
		finish(f, !notified[CLIENT], !notified[BACKEND]);
		return;
	}
	f->state = FLOW_ENDING;
	ending_begin_forced(f->ending, notified, at_rest);
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (!notified[s])
			close_leg(f, s, true);
	if (flow_check(f))
		flow_progress_ending(f);
}

void
flow_end(struct flow *f, enum close_reason reason)
{
	assert(reason != REASON_NONE && reason < REASON_COUNT);
	if (f->state == FLOW_ENDED)
		return;
	if (reason == REASON_INTERNAL) {	/* nothing of its state is relied on */
		f->reason = REASON_INTERNAL;
		finish(f, true, true);
		return;
	}
	if (f->state == FLOW_OPEN && cancels_work(reason))
		cancel_work(f);
	f->reason = (uint8_t)reason;
	if (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE) {
		end_unopened(f, reason);
		return;
	}
	if (f->state != FLOW_OPEN) {
		finish(f, true, true);
		return;
	}
	end_open(f, false);
}

void
flow_close(struct flow *f)
{
	assert(f->state == FLOW_ENDING && f->reason != REASON_NONE);
	finish(f, false, false);
}

/*
 * A reset after the protocol's close message is an orderly end: the kernel
 * resets a connection closed with unread bytes, and those may be our heartbeats,
 * or the close_notify that came behind the close message of the other side.
 */
static bool
is_reset_behind_goodbye(const struct flow *f, enum side s, enum close_reason reason)
{
	const bool is_answer = f->leg[s].shut && f->first_goodbye != 0 && flow_who_left(f, s) != s;

	return reason == reason_on_side(REASON_CLIENT_RESET, s) && (is_answer || session_said_goodbye(f, s));
}

static enum on_dead
how_to_notify(const struct flow *f, enum side dead, enum close_reason reason)
{
	if (reason_is_death(reason))
		return f->route->on_dead;
	return is_reset_behind_goodbye(f, dead, reason) && f->session->heartbeat[dead].sent > 0 ? ON_DEAD_CLOSE : ON_DEAD_RESET;
}

/* One side of an open flow is dead or was reset. */
static void
leg_lost(struct flow *f, enum side dead, enum close_reason reason)
{
	struct leg *l = leg_of(f, dead);
	enum on_dead how;

	require_void(f, f->state == FLOW_OPEN && !l->dead);
	require_void(f, transport_is_open(&l->transport));
	how = how_to_notify(f, dead, reason);
	if (!reason_is_death(reason))
		heartbeats_judge_end(f, dead, clock_us());
	if (is_reset_behind_goodbye(f, dead, reason))
		reason = reason_on_side(REASON_CLIENT_FIN, flow_who_left(f, dead));
	f->reason = (uint8_t)reason;
	if (dead == CLIENT)
		cancel_work(f);		/* also after a reset: nobody waits for the result */
	f->ending = malloc(sizeof(*f->ending));
	if (f->ending == NULL) {
		finish(f, true, true);
		return;
	}
	f->state = FLOW_ENDING;
	ending_begin(f->ending, dead, how);
	l->dead = true;
	l->readable = !l->fin;		/* bytes that it sent before may still be unread */
	backlog_free(f->relay, l);
	if (flow_check(f))
		flow_progress_ending(f);
}

/* --- verdicts --- */

/* p: the preface that is done; NULL: there was none. */
static void
opened(struct flow *f, struct preface *p)
{
	const int64_t now = clock_us();
	int r;

	require_void(f, (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE) && f->session == NULL);
	require_void(f, transport_is_open(&f->leg[CLIENT].transport) && transport_is_open(&f->leg[BACKEND].transport));
	require_void(f, !f->leg[CLIENT].shut && !f->leg[BACKEND].shut && !f->leg[CLIENT].dead && !f->leg[BACKEND].dead);
	f->dial = NULL;
	f->state = FLOW_OPEN;
	for (enum side s = CLIENT; s <= BACKEND; s++)
		leg_of(f, s)->rx_us = leg_of(f, s)->tx_us = now;
	begin_log(f);
	if (p != NULL)		/* it has used up their edges */
		leg_of(f, CLIENT)->readable = leg_of(f, BACKEND)->readable = true;
	r = f->route->codec != NULL ? session_open(f, p, now) : 0;
	preface_free(p);
	require_void(f, (f->session != NULL) == (f->route->codec != NULL && r == 0));
	if (r != 0) {
		flow_end(f, REASON_MEMORY);
		return;
	}
	if (f->route->config != f->relay->config)
		adopt_flow(f);		/* they were replaced while it connected */
	f->recheck_us = now + FLOW_RECHECK_US;	/* the backend's keepalive is set then, which saves the calls on short flows */
	flow_set_timer(f, now);
	if (flow_check(f))
		flow_work(f);
}

/* The backend is connected: goes on with the preface, or opens. */
static void
connected(struct flow *f)
{
	struct preface *p;

	require_void(f, f->state == FLOW_CONNECTING && f->dial != NULL);
	require_void(f, transport_is_open(&f->leg[BACKEND].transport));
	p = dial_take_preface(f->dial);
	dial_free(f->dial);
	f->dial = NULL;
	if (p == NULL) {
		opened(f, NULL);
		return;
	}
	f->preface = p;
	f->state = FLOW_PREFACE;
	flow_apply(f, flow_check(f) ? preface_dialled(f) : require_verdict());
}

static void
dial(struct flow *f)
{
	struct preface *p = f->preface;

	require_void(f, f->state == FLOW_PREFACE && p != NULL);
	require_void(f, !transport_is_open(&f->leg[BACKEND].transport));	/* it is dialled once */
	f->state = FLOW_CONNECTING;
	f->dial = NULL;
	flow_apply(f, dial_start(f, p));
}

void
flow_start(struct flow *f)
{
	struct preface *p;

	require_void(f, f->state == FLOW_CONNECTING && f->dial == NULL);
	if (!preface_is_needed(f->route)) {
		flow_apply(f, dial_start(f, NULL));
		return;
	}
	p = preface_new(f);
	if (p == NULL) {
		flow_end(f, REASON_MEMORY);
		return;
	}
	f->preface = p;
	f->state = FLOW_PREFACE;
	flow_apply(f, flow_check(f) ? preface_start(f) : require_verdict());
}

/* TLS may fail in the middle of a flow, too: by an alert of the peer, or a record that is none. */
static enum close_reason
reason_of_failure(struct flow *f, enum side s, int err)
{
	const struct leg *l = leg_of(f, s);
	const enum tls_cause cause = transport_tls_cause_kind(&l->transport);

	if (cause == TLS_CAUSE_NONE)
		return reason_from_errno(s, err, &l->transport, l->stalled);
	counter_add(&counters_of(f)->tls_failures[s][cause], 1);
	return reason_on_side(REASON_CLIENT_TLS, s);
}

void
flow_apply(struct flow *f, struct verdict v)
{
	if (v.kind == LEG_FAILED || v.kind == CONNECT_FAILED)
		(void)has_broken_tls(f);
	if (__builtin_expect(f->broken, false))
		v = require_verdict();	/* whatever it was about to do */
	switch ((enum verdict_kind)v.kind) {
	case GO_ON:
	case NOTHING:
		break;
	case LEG_FAILED:
		require_void(f, v.err > 0);
		leg_lost(f, v.side, reason_of_failure(f, v.side, v.err));
		break;
	case LEG_DEAD:
		require_void(f, reason_is_death((enum close_reason)v.reason));
		leg_lost(f, v.side, (enum close_reason)v.reason);
		break;
	case CUT_OFF:
	case CONNECT_FAILED:
		flow_end(f, (enum close_reason)v.reason);
		break;
	case AT_REST:
		require_void(f, f->retires || v.reason == REASON_EVICTED);
		f->reason = v.reason;
		end_open(f, true);
		break;
	case BOTH_CLOSED:		/* each side has sent its FIN and got the other's, behind all bytes */
		require_void(f, f->leg[CLIENT].fin && f->leg[BACKEND].fin && f->leg[CLIENT].shut && f->leg[BACKEND].shut);
		require_void(f, f->leg[CLIENT].backlog == NULL && f->leg[BACKEND].backlog == NULL);
		finish(f, false, false);
		break;
	case CLIENT_ABORT:
		require_void(f, f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE);
		f->reason = REASON_CLIENT_FIN;
		finish(f, false, true);
		break;
	case DIAL:
		dial(f);
		break;
	case CONNECTED:
		if (f->state == FLOW_PREFACE)
			opened(f, f->preface);
		else
			connected(f);
		break;
	}
}
