/*
 * ending.c - how a flow ends.
 *
 * In order: both sides have said their last, all was passed on.
 *
 * By the death of one side (a reset, a time-out): what was received from it
 * before is delivered to the living side first, then that side is told: by
 * the same kind of close, a reset; or, where the death was found by us, by
 * the protocol's own farewell and a FIN. A reset would throw away what the
 * kernel has not delivered yet, so it waits until all is acknowledged. A
 * living side that takes nothing for a second is not waited for.
 *
 * By force (drain, kill, idle, out of memory): a side to which the protocol has
 * a farewell gets it and a FIN, and a moment to close; what it still says is
 * read and dropped, as bytes unread at a close would make it a reset, which
 * may overtake the farewell. A side without one is reset at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

#define LOOK_US (20 * US_PER_MS)	/* how often an ending flow is looked at */
#define PATIENCE_US US_PER_S		/* without progress of the delivery */
#define GOODBYE_US (2 * US_PER_S)	/* for the living side to close after its farewell */
#define ROUNDS 16			/* reads at a look */

struct ending {
	enum side dead, to;	/* to: the side that lives and is told */
	enum on_dead how;
	bool forced;		/* nobody is dead: see told_both */
	bool told;		/* farewell and FIN are out to `to` */
	bool told_both[2];	/* forced: the same, for each side that is waited for */
	size_t left;		/* bytes not delivered at the last look */
	int64_t progress_us;	/* when that last became less */
};

/* Round trips are known in microseconds and logged in milliseconds. */
#define LOG_RTT(name, us) LOG_MS(name, us)

void
ending_log(const struct flow *f)
{
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];
	struct log_field fields[17];
	struct flow_info i;
	size_t n = 0;

	const enum log_level level = reason_is_death((enum close_reason)f->reason) ? LEVEL_WARN : LEVEL_INFO;

	if (!log_wants(level))
		return;
	flow_describe(f, &i);
	flow_info_ask(&i);
	fields[n++] = LOG_INT("id", i.id);
	fields[n++] = LOG_TEXT("route", i.route->name);
	fields[n++] = LOG_TEXT("protocol", i.protocol);
	fields[n++] = LOG_TEXT("client", address_text(&i.client, client));
	fields[n++] = LOG_TEXT("backend", address_text(&i.backend, backend));
	fields[n++] = LOG_TEXT("reason", reason_text((enum close_reason)f->reason));
	fields[n++] = LOG_MS("seconds", i.age_ms);
	fields[n++] = LOG_INT("client_bytes", i.leg[CLIENT].bytes);
	fields[n++] = LOG_INT("backend_bytes", i.leg[BACKEND].bytes);
	fields[n++] = LOG_INT("client_beats", i.leg[CLIENT].beats);
	fields[n++] = LOG_INT("client_answers", i.leg[CLIENT].answers);
	fields[n++] = LOG_INT("backend_beats", i.leg[BACKEND].beats);
	fields[n++] = LOG_INT("backend_answers", i.leg[BACKEND].answers);
	if (i.leg[CLIENT].rtt_us >= 0)
		fields[n++] = LOG_RTT("client_rtt_ms", i.leg[CLIENT].rtt_us);
	if (i.leg[BACKEND].rtt_us >= 0)
		fields[n++] = LOG_RTT("backend_rtt_ms", i.leg[BACKEND].rtt_us);
	fields[n++] = LOG_MS("client_quiet", i.leg[CLIENT].quiet_ms);
	fields[n++] = LOG_MS("backend_quiet", i.leg[BACKEND].quiet_ms);
	log_event(level, "flow end", fields, n);
}

static void
close_leg(struct flow *f, enum side s, bool by_reset)
{
	struct leg *l = leg_of(f, s);
	const int fd = leg_fd(l);

	backlog_free(f->relay, l);
	if (fd < 0)
		return;
	event_del(&l->ev);
	if (by_reset)
		socket_reset(fd);
	if (!by_reset && l->guarded)
		socket_set_reset_at_close(fd, false);
	if (!by_reset)
		close(fd);
}

/* The very end; the memory goes when no code can look at it any more (relay_work()). */
static void
end(struct flow *f, bool reset_client, bool reset_backend)
{
	struct relay *r = f->relay;

	const bool was_open = f->state != FLOW_CONNECTING;

	if (f->state == FLOW_CONNECTING)
		dial_free(f->dial);
	else if (f->state == FLOW_ENDING)
		free(f->ending);
	f->dial = NULL;
	if (was_open)
		ending_log(f);
	else
		(void)refusal_log(f);
	f->state = FLOW_ENDED;
	timer_disarm(r->timers, &f->timer);
	close_leg(f, CLIENT, reset_client);
	close_leg(f, BACKEND, reset_backend);
	vital_free(f);
	counter_add(&r->counters->flows_ended[f->reason], 1);
	counter_add(&r->counters->flows_open, (uint64_t)-1);
	if (r->list_next == f)
		r->list_next = TAILQ_NEXT(f, link);
	TAILQ_REMOVE(&r->flows, f, link);
	TAILQ_INSERT_TAIL(&r->dead, f, link);
}

void
ending_in_order(struct flow *f)
{
	end(f, false, false);
}

void
ending_before_open(struct flow *f, enum close_reason reason)
{
	f->reason = (uint8_t)reason;
	end(f, true, true);
}

void
ending_unwanted(struct flow *f)
{
	f->reason = REASON_CLIENT_FIN;
	end(f, false, true);
}

/* Sends the farewell if there is one and nothing stands before it. */
static bool
say_farewell(struct flow *f, enum side to)
{
	uint8_t buf[CODEC_FAREWELL_MAX];
	const struct leg *l = leg_of(f, to);
	size_t n;

	if (l->backlog != NULL || l->shut || l->dead)
		return false;
	n = vital_farewell(f, to, side_other(to), buf);
	return n > 0 && send(leg_fd(l), buf, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

/* The backend still works for a client that is dead, or cut off: have it stop. */
static void
cancel_work(struct flow *f)
{
	const struct vital *v = f->vital;
	uint8_t buf[CODEC_BEAT_MAX];
	size_t n;

	if (v == NULL || v->codec == NULL || v->codec->cancel == NULL || !f->route->cancel_on_death)
		return;
	n = v->codec->cancel(v->state, buf);
	if (n > 0)
		errand_run(f->relay, f, buf, n);
}

/*
 * Whose flow is cut off waits for its work no more than the dead do. A drain is
 * no such case: this process ends with it, and could not carry out the errand.
 */
static bool
is_cut_off(enum close_reason r)
{
	return r == REASON_ADMIN_KILL || r == REASON_CLIENT_IDLE || r == REASON_BACKEND_IDLE;
}

/* Farewell and FIN to side s. False: it gets a reset instead. */
static bool
dismiss(struct flow *f, enum side s)
{
	struct leg *l = leg_of(f, s);

	if (!say_farewell(f, s))
		return false;
	shutdown(leg_fd(l), SHUT_WR);
	l->shut = true;
	return true;
}

/* Reads and drops what the living side still says. True: it has closed. */
static bool
has_closed(struct flow *f, enum side to)
{
	uint8_t *buf = f->relay->buf;
	ssize_t n = -1;

	for (int i = 0; i < ROUNDS; i++) {
		n = recv(leg_fd(leg_of(f, to)), buf, RELAY_BUFFER, MSG_DONTWAIT);
		if (n <= 0)
			break;
	}
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* Waits for the sides that were told goodbye to close. */
static void
progress_forced(struct flow *f, int64_t now_us)
{
	struct ending *e = f->ending;
	bool waits = false;

	for (enum side s = CLIENT; s <= BACKEND; s++) {
		e->told_both[s] = e->told_both[s] && !has_closed(f, s);
		waits |= e->told_both[s];
	}
	if (waits && now_us - e->progress_us <= GOODBYE_US)
		flow_wake_at(f, now_us + LOOK_US);
	else
		end(f, e->told_both[CLIENT], e->told_both[BACKEND]);
}

static void
force_now(struct flow *f, enum close_reason reason)
{
	bool told[2] = { false, false };

	f->reason = (uint8_t)reason;
	for (enum side s = CLIENT; s <= BACKEND && f->state == FLOW_OPEN; s++)
		told[s] = say_farewell(f, s);
	end(f, !told[CLIENT], !told[BACKEND]);
}

void
ending_by_force(struct flow *f, enum close_reason reason)
{
	struct ending *e = f->state == FLOW_OPEN ? calloc(1, sizeof(*e)) : NULL;

	if (f->state == FLOW_ENDED)
		return;
	if (f->state == FLOW_OPEN && is_cut_off(reason))
		cancel_work(f);
	if (e == NULL) {
		force_now(f, reason);
		return;
	}
	f->reason = (uint8_t)reason;
	*e = (struct ending){ .forced = true, .progress_us = clock_us() };
	for (enum side s = CLIENT; s <= BACKEND; s++)
		e->told_both[s] = dismiss(f, s);
	f->state = FLOW_ENDING;
	f->ending = e;
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (!e->told_both[s]) {
			close_leg(f, s, true);
			event_assign(&leg_of(f, s)->ev, f->relay->base, -1, 0, NULL, NULL);	/* it has no socket any more */
		}
	progress_forced(f, e->progress_us);
}

bool
ending_is_forced(const struct flow *f)
{
	return f->state == FLOW_ENDING && f->ending->forced;
}

/*
 * A side that said its protocol's goodbye and then reset has left in order. Its
 * kernel resets when bytes lie unread, and heartbeats of ours may be those.
 */
static bool
is_reset_behind_goodbye(const struct flow *f, enum side s, enum close_reason reason)
{
	return reason == reason_on_side(REASON_CLIENT_RESET, s) && vital_said_goodbye(f, s);
}

static enum on_dead
how_to_tell(const struct flow *f, enum side dead, enum close_reason reason)
{
	if (reason_is_death(reason))
		return f->route->on_dead;
	return is_reset_behind_goodbye(f, dead, reason) && f->vital->beat[dead].sent > 0 ? ON_DEAD_CLOSE : ON_DEAD_RESET;
}

static void
begin(struct flow *f, enum side dead, enum close_reason reason)
{
	struct leg *l = leg_of(f, dead);
	const enum side to = side_other(dead);
	const enum on_dead how = how_to_tell(f, dead, reason);

	if (!reason_is_death(reason))
		vital_judge_end(f, dead, clock_us());
	if (is_reset_behind_goodbye(f, dead, reason))
		reason = reason_on_side(REASON_CLIENT_FIN, dead);
	f->reason = (uint8_t)reason;
	if (dead == CLIENT)
		cancel_work(f);		/* a reset is a death too: nobody is left to wait for it */
	f->ending = calloc(1, sizeof(*f->ending));
	if (f->ending == NULL) {
		end(f, true, true);
		return;
	}
	f->state = FLOW_ENDING;
	*f->ending = (struct ending){
		.dead = dead,
		.to = to,
		.how = how,
		.left = SIZE_MAX,
	};
	l->dead = true;
	l->readable = !l->fin;		/* what it sent before is still there to be read */
	backlog_free(f->relay, l);
	ending_progress(f, clock_us());
}

void
ending_on_error(struct flow *f, enum side s, int err)
{
	if (ending_is_forced(f))
		return;		/* has_closed() finds it */
	if (f->state == FLOW_OPEN) {
		begin(f, s, reason_from_errno(s, err, leg_fd(leg_of(f, s)), leg_of(f, s)->stalled));
	} else if (f->state == FLOW_ENDING && s == f->ending->dead) {
		leg_of(f, s)->fin = true;	/* nothing more will come from it */
		if (f->vital != NULL)
			(void)vital_finish(f, s);	/* so what is held back of it was no answer */
	} else if (f->state == FLOW_ENDING) {
		end(f, true, true);
	}
}

void
ending_on_death(struct flow *f, enum side s, enum close_reason reason)
{
	if (f->state == FLOW_OPEN)
		begin(f, s, reason);
}

/* Passes on what is left of the dead side's bytes. True: all of it was taken by the living side's kernel. */
static bool
deliver(struct flow *f, enum side dead, enum side to)
{
	struct leg *l = leg_of(f, dead), *living = leg_of(f, to);

	if (living->backlog != NULL && backlog_drain(f, to) == DRAINED_ERROR) {
		end(f, true, true);
		return false;
	}
	for (int i = 0; i < ROUNDS && living->backlog == NULL && l->readable && !l->fin; i++) {
		l->hup = true;		/* read to the very end: no edge will come */
		(void)pump_once(f, dead);
		if (f->state != FLOW_ENDING)
			return false;
	}
	return living->backlog == NULL && (l->fin || !l->readable);
}

/* All is delivered: tells the living side as `how` has it. */
static void
tell(struct flow *f, int64_t now_us)
{
	struct ending *e = f->ending;
	struct leg *l = leg_of(f, e->to);

	if (f->vital != NULL && vital_is_ahead(f, e->to))
		e->how = ON_DEAD_RESET;
	/* Whatever was wished for: what is cut off must not look whole. */
	if (e->how == ON_DEAD_CLOSE && vital_ends_at_fin(f, e->to))
		e->how = ON_DEAD_RESET;
	if (e->how == ON_DEAD_FAREWELL && !say_farewell(f, e->to))
		e->how = ON_DEAD_RESET;
	if (e->how == ON_DEAD_RESET)
		return;
	if (!l->shut)
		shutdown(leg_fd(l), SHUT_WR);
	l->shut = e->told = true;
	e->progress_us = now_us;
}

void
ending_progress(struct flow *f, int64_t now_us)
{
	struct ending *e = f->ending;
	size_t left;

	if (e->forced) {
		progress_forced(f, now_us);
		return;
	}
	if (!e->told) {
		const bool delivered = deliver(f, e->dead, e->to);

		if (f->state != FLOW_ENDING)
			return;
		left = backlog_len(leg_of(f, e->to)) + socket_unacked(leg_fd(leg_of(f, e->to))) +
		    (leg_of(f, e->dead)->fin ? 0 : socket_unread(leg_fd(leg_of(f, e->dead))));
		if (left < e->left) {
			e->left = left;
			e->progress_us = now_us;
		}
		if (delivered)
			tell(f, now_us);
		if (e->how == ON_DEAD_RESET && delivered && left == 0) {
			end(f, true, true);
			return;
		}
	}
	if (e->told && (has_closed(f, e->to) || now_us - e->progress_us > GOODBYE_US)) {
		end(f, e->to != CLIENT, e->to != BACKEND);
		return;
	}
	if (!e->told && now_us - e->progress_us > PATIENCE_US) {
		end(f, true, true);
		return;
	}
	flow_wake_at(f, now_us + LOOK_US);
}

int64_t
ending_tick(struct flow *f, int64_t now_us)
{
	ending_progress(f, now_us);
	return INT64_MAX;	/* it has set the timer itself */
}
