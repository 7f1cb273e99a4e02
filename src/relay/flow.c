/*
 * flow.c - the dispatcher of a flow: its events, its timer, and every change
 * of its state. The other files return what they find as a verdict.
 *
 * Both sockets are registered once, edge-triggered, for reading and writing:
 * no epoll_ctl follows until the end. An edge sets a flag ("there may be bytes
 * to read"); the pump clears it when the socket is empty. A socket that is not
 * being read (its peer is stalled, or half-closed) still reports a reset
 * by an edge; then its error is fetched.
 *
 * The timer is lazy: traffic only leaves time stamps. When the timer fires, it
 * checks them and is set again if needed. An idle plain flow has no timer set.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "relay/adopt.h"
#include "relay/drain.h"
#include "relay/ending.h"
#include "relay/evict.h"
#include "relay/flow.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/retire.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/events.h"
#include "stent/log.h"

#define HALF_CLOSED_IDLE_S 25	/* limit before the first probe; the same as the default of keepalive */
#define RECHECK_US (20 * US_PER_MS)

static void on_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(struct timer *t, int64_t now_us);

void
flow_init_leg(struct flow *f, enum side s, int fd)
{
	struct leg *l = leg_of(f, s);

	l->side = (uint8_t)s;
	transport_init(&l->transport, fd);
	l->rx_us = l->tx_us = f->began_us;
	event_assign(&l->ev, f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, l);
	f->timer.fire = on_timer;
}

int
flow_register_leg(struct flow *f, enum side s)
{
	return event_add(&leg_of(f, s)->ev, NULL) == 0 ? 0 : -ENOMEM;
}

static struct flow *
flow_of(struct leg *l)
{
	struct leg *first = l - l->side;

	assert(l->side == CLIENT || l->side == BACKEND);
	return (struct flow *)(void *)first;	/* leg[] is the first member */
}

void
flow_requeue(struct flow *f)
{
	assert(f->state != FLOW_ENDED);
	if (f->again)
		return;
	f->again = true;
	STAILQ_INSERT_TAIL(&f->relay->again, f, requeue_link);
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
	leg_of(f, s)->read_short = true;
	if (f->state != FLOW_OPEN || f->recheck_us != 0)
		return;
	f->recheck_us = now_us + RECHECK_US;
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

/* --- the end of a flow --- */

static void
close_leg(struct flow *f, enum side s, bool by_reset)
{
	struct leg *l = leg_of(f, s);

	backlog_free(f->relay, l);
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
		return f->ending->preface;
	default:
		return NULL;
	}
}

/* Its relay has begun. */
static bool
has_relayed(const struct flow *f)
{
	return f->state == FLOW_OPEN || (f->state == FLOW_ENDING && f->ending->preface == NULL);
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

	assert(f->state != FLOW_ENDED);
	assert(f->reason != REASON_NONE && f->reason < REASON_COUNT);
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

static void
progress_ending(struct flow *f)
{
	struct ending *e = f->ending;
	bool is_over;

	require_void(f, f->state == FLOW_ENDING && e != NULL);
	is_over = ending_check(f, e, clock_us());
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
	struct ending *e = p != NULL && preface_refuse(f, p) ? malloc(sizeof(*e)) : NULL;

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
	progress_ending(f);
}

/* Neither side is dead. at_rest: the flow is between two messages. */
static void
end_open(struct flow *f, bool at_rest)
{
	bool notified[2];

	require_void(f, f->state == FLOW_OPEN);
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
	progress_ending(f);
}

void
flow_end(struct flow *f, enum close_reason reason)
{
	assert(reason != REASON_NONE);
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
	assert(f->state == FLOW_ENDING);
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
	progress_ending(f);
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
	if (r != 0) {
		flow_end(f, REASON_MEMORY);
		return;
	}
	if (f->route->config != f->relay->config)
		adopt_flow(f);		/* they were replaced while it connected */
	f->recheck_us = now + RECHECK_US;	/* the backend's keepalive is set then, which saves the calls on short flows */
	flow_set_timer(f, now);
	flow_work(f);
}

/* The backend is connected: goes on with the preface, or opens. */
static void
connected(struct flow *f)
{
	struct preface *p = dial_take_preface(f->dial);

	dial_free(f->dial);
	if (p == NULL) {
		opened(f, NULL);
		return;
	}
	f->preface = p;
	f->state = FLOW_PREFACE;
	flow_apply(f, preface_dialled(f));
}

static void
dial(struct flow *f)
{
	struct preface *p = f->preface;

	require_void(f, f->state == FLOW_PREFACE);
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
	flow_apply(f, preface_start(f));
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
	switch ((enum verdict_kind)v.kind) {
	case GO_ON:
	case NOTHING:
		break;
	case LEG_FAILED:
		leg_lost(f, v.side, reason_of_failure(f, v.side, v.err));
		break;
	case LEG_DEAD:
		leg_lost(f, v.side, (enum close_reason)v.reason);
		break;
	case CUT_OFF:
	case CONNECT_FAILED:
		flow_end(f, (enum close_reason)v.reason);
		break;
	case AT_REST:
		f->reason = v.reason;
		end_open(f, true);
		break;
	case BOTH_CLOSED:
		finish(f, false, false);
		break;
	case CLIENT_ABORT:
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

/* --- events --- */

/* Pumps what side `from` sent, if the flow is still open. */
static void
run(struct flow *f, enum side from)
{
	if (f->state == FLOW_OPEN && !f->broken)
		flow_apply(f, pump(f, from));
}

/* Ends a flow that is to end, if it can end now. */
static void
retire(struct flow *f)
{
	if (f->retires && f->state != FLOW_ENDING && f->state != FLOW_ENDED)
		flow_apply(f, retire_check(f, clock_us()));
}

void
flow_work(struct flow *f)
{
	if (f->broken)
		flow_end(f, REASON_INTERNAL);
	else if (f->out_of_memory)
		flow_end(f, REASON_MEMORY);
	else if (f->state == FLOW_ENDING)
		progress_ending(f);
	run(f, CLIENT);
	run(f, BACKEND);
	retire(f);
}

static void
event_while_open(struct flow *f, enum side s, short what)
{
	struct leg *l = leg_of(f, s), *to = leg_of(f, side_other(s));

	/* TLS may have to read in order to write, and the reverse. */
	if (l->backlog != NULL && ((what & EV_WRITE) || leg_is_tls(l))) {
		flow_apply(f, backlog_drain(f, s));
		l->readable |= leg_is_tls(l) && !l->fin;
		if (l->backlog == NULL)
			run(f, side_other(s));	/* also passes on a FIN that waited */
	}
	/* A leg that is not being read may have got an error. */
	if ((what & EV_READ) && f->state == FLOW_OPEN && (l->fin || to->backlog != NULL)) {
		const int err = transport_take_error(&l->transport);

		if (err != 0)
			flow_apply(f, VERDICT_FAILED(s, err));
	}
	run(f, s);
	retire(f);
}

/*
 * A FIN alone does not mean that the client is gone: it may have closed its
 * half and wait for the server to send. But in most protocols a client that
 * has sent nothing gets nothing, and where the protocol is known, one that waits
 * for a backend longer than usual and closes has given up. A UNIX socket shows when
 * both halves are closed.
 */
struct verdict
flow_check_client(struct flow *f, unsigned bits)
{
	struct leg *l = leg_of(f, CLIENT);
	const struct preface *p = flow_preface(f);
	const bool is_unix = leg_peer(f, CLIENT)->family == AF_UNIX, spoke = p != NULL && preface_client_spoke(p);
	const bool speaks = f->route->codec != NULL && f->route->codec->client_speaks && !spoke;
	const int err = (bits & SOCKET_DEAD) ? transport_take_error(&l->transport) : 0;

	require(f, f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE);
	l->urgent |= f->route->urgent && (bits & SOCKET_URGENT);	/* it arrived before the signal was enabled */
	if (err != 0)
		return VERDICT_CONNECT_FAILED(reason_from_errno(CLIENT, err, &l->transport, false));
	if (f->route->codec != NULL && (bits & SOCKET_FIN) && f->state == FLOW_CONNECTING && f->dial != NULL && dial_is_retried(f->dial))
		return VERDICT(CLIENT_ABORT);
	if (((speaks && (bits & SOCKET_FIN)) || (is_unix && (bits & SOCKET_DEAD))) && transport_unread(&l->transport) == 0)
		return VERDICT(CLIENT_ABORT);
	return VERDICT(GO_ON);
}

static void
event_while_connecting(struct flow *f, enum side s, short what)
{
	if (s == BACKEND)
		flow_apply(f, dial_event(f, what & EV_READ));
	else if (what & EV_READ)
		flow_apply(f, flow_check_client(f, transport_look(&leg_of(f, CLIENT)->transport)));
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct leg *l = arg;
	struct flow *f = flow_of(l);

	(void)fd;
	if (what & EV_CLOSED)
		l->hup = true;
	if (what & (EV_READ | EV_CLOSED))
		l->readable = true;
	if (f->state == FLOW_OPEN)
		event_while_open(f, l->side, what);
	else if (f->state == FLOW_CONNECTING)
		event_while_connecting(f, l->side, what);
	else if (f->state == FLOW_PREFACE)
		flow_apply(f, preface_event(f, l->side, what));
	else if (f->state == FLOW_ENDING)
		progress_ending(f);
}

/* --- the timer --- */

static void
recheck(struct flow *f)
{
	require_void(f, f->state == FLOW_OPEN);	/* else the union holds another member */
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
			run(f, s);
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

	retire(f);
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
		progress_ending(f);	/* sets the timer itself */
		break;
	default:
		return;
	}
	if (f->retires)
		at = earlier(at, retire_again_us(f, now_us));
	if (at != INT64_MAX && (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE || f->state == FLOW_OPEN))
		flow_wake_at(f, at > now_us ? at : now_us + US_PER_MS);
}

static void
on_timer(struct timer *t, int64_t now_us)
{
	flow_set_timer((struct flow *)(void *)((char *)t - offsetof(struct flow, timer)), now_us);
}
