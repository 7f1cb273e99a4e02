/*
 * ending.c - the ends of a flow that are not two FINs.
 *
 * One side is dead (reset, timeout): what was received from it is delivered to
 * the surviving peer, which is then notified: by a reset after a reset; else as
 * on_dead says, by the protocol's close message and a FIN. A reset discards what
 * the kernel has not delivered, so it waits until all is acknowledged, but not
 * for a peer that takes nothing for STALL_MAX_US.
 *
 * Forced (drain, kill, idle, out of memory): a side for which the protocol has a
 * close message gets it and a FIN, and CLOSE_WAIT_US to close. What it still
 * sends is read and dropped, as unread bytes would turn the close into a reset,
 * which may overtake the message. A side without one is reset at once; but at rest
 * (retire.c) it gets a FIN, and what was sent before is delivered first.
 */
#include <assert.h>
#include <errno.h>

#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"

#define CHECK_US (20 * US_PER_MS)	/* how often an ending flow is checked */
#define STALL_MAX_US US_PER_S		/* limit without progress of the delivery */
#define CLOSE_WAIT_US (2 * US_PER_S)	/* limit for a peer to close after the close message */
#define ROUNDS 16			/* reads per check */

void
ending_begin(struct ending *e, enum side dead, enum on_dead how)
{
	assert(dead == CLIENT || dead == BACKEND);
	*e = (struct ending){ .dead = dead, .to = side_other(dead), .how = how, .left = SIZE_MAX };
}

void
ending_begin_forced(struct ending *e, const bool notified[2], bool at_rest)
{
	*e = (struct ending){ .forced = true, .at_rest = at_rest, .waits_for = { notified[0], notified[1] }, .left = SIZE_MAX,
		.progress_us = clock_us() };
}

bool
ending_holds(const struct flow *f, const struct ending *e)
{
	require_or(f, !e->at_rest || e->forced, false);
	require_or(f, e->preface == NULL || (e->forced && f->session == NULL), false);	/* it is of a flow that never opened */
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const bool is_told = transport_is_open(&f->leg[s].transport) && f->leg[s].shut;

		require_or(f, !e->waits_for[s] || (e->forced && is_told), false);	/* only who was told closes */
		require_or(f, f->leg[s].dead == (!e->forced && s == e->dead), false);
	}
	if (e->forced)
		return true;
	require_or(f, e->to == side_other(e->dead), false);
	require_or(f, transport_is_open(&f->leg[CLIENT].transport) && transport_is_open(&f->leg[BACKEND].transport), false);
	require_or(f, !e->notified || f->leg[e->to].shut, false);
	return true;
}

/* Sends the close message if the protocol has one and no bytes to that side are unsent. */
static bool
send_close_message(struct flow *f, enum side to, bool at_rest)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct leg *l = leg_of(f, to);
	size_t n;

	if (l->backlog != NULL || l->shut || l->dead)
		return false;
	n = session_close_message(f, to, at_rest, buf);
	assert(n <= sizeof(buf));		/* else it wrote past it */
	return n > 0 && transport_write(&l->transport, &(struct iovec){ buf, n }, 1) == (ssize_t)n;
}

bool
ending_notify(struct flow *f, enum side s, bool at_rest)
{
	struct leg *l = leg_of(f, s);

	require_or(f, f->state == FLOW_OPEN && !l->dead, false);
	if (!send_close_message(f, s, at_rest) && (!at_rest || l->shut || l->backlog != NULL))
		return false;
	(void)transport_shutdown(&l->transport);
	l->shut = true;
	return true;
}

/* Reads and drops what a notified side still sends. True: it has closed. */
static bool
has_closed(struct flow *f, enum side to)
{
	struct transport *t = &leg_of(f, to)->transport;
	ssize_t n = -EAGAIN;

	require_or(f, leg_of(f, to)->shut, true);	/* what it sends is dropped only after our FIN */
	if (transport_unsent(t) > 0)
		(void)transport_flush(t);	/* the close message; what fails shows below */
	for (int i = 0; i < ROUNDS; i++) {
		n = transport_read(t, f->relay->buf, RELAY_BUFFER);
		if (n <= 0)
			break;
	}
	return n <= 0 && n != -EAGAIN;
}

static bool
is_over(struct ending *e, bool reset_client, bool reset_backend)
{
	e->reset[CLIENT] = reset_client;
	e->reset[BACKEND] = reset_backend;
	return true;
}

static bool
check_again(struct flow *f, int64_t now_us)
{
	flow_wake_at(f, now_us + CHECK_US);
	return false;
}

/* Waits for the sides that were notified to close. */
static bool
check_forced(struct flow *f, struct ending *e, int64_t now_us)
{
	bool waits = false;
	size_t left = 0;

	for (enum side s = CLIENT; s <= BACKEND; s++) {
		e->waits_for[s] = e->waits_for[s] && !has_closed(f, s);
		waits |= e->waits_for[s];
		if (e->waits_for[s] && e->at_rest)
			left += (size_t)transport_unacked(&leg_of(f, s)->transport);
	}
	if (!e->at_rest)
		left = SIZE_MAX;
	else if (left < e->left) {	/* a slow reader gets its last message whole */
		e->left = left;
		if (!e->hurried)
			e->progress_us = now_us;
	}
	if (waits && now_us - e->progress_us <= CLOSE_WAIT_US)
		return check_again(f, now_us);
	/* A peer that sleeps reads its goodbye when it wakes up: what was delivered needs no reset. */
	return is_over(e, e->waits_for[CLIENT] && left > 0, e->waits_for[BACKEND] && left > 0);
}

/* One read of what the dead side sent before. On its error the codec releases the bytes it holds back: they were no reply. */
static struct verdict
read_dead(struct flow *f, enum side dead)
{
	struct leg *l = leg_of(f, dead);
	struct verdict v;

	require(f, l->dead && !l->fin && f->state == FLOW_ENDING);
	l->hup = true;		/* read to the end: no edge will follow */
	v = pump_once(f, dead);
	if (v.kind != LEG_FAILED || v.side != dead)
		return v;
	l->fin = true;
	return f->session != NULL ? session_finish(f, dead) : VERDICT(NOTHING);
}

/* Passes on what is left of the dead side's bytes. GO_ON: there is more; NOTHING: the survivor's socket has taken all. */
static struct verdict
deliver(struct flow *f, const struct ending *e)
{
	struct leg *l = leg_of(f, e->dead), *survivor = leg_of(f, e->to);
	struct verdict v = VERDICT(GO_ON);

	require(f, l->dead && !survivor->dead);
	if (survivor->backlog != NULL)
		v = backlog_drain(f, e->to);
	for (int i = 0; i < ROUNDS && survivor->backlog == NULL && l->readable && !l->fin; i++) {
		if (v.kind != GO_ON && v.kind != NOTHING)
			return v;
		v = read_dead(f, e->dead);
	}
	if (v.kind != GO_ON && v.kind != NOTHING)
		return v;
	return VERDICT(survivor->backlog == NULL && (l->fin || !l->readable) ? NOTHING : GO_ON);
}

/* All was passed on: notifies the surviving peer as e->how says. */
static void
notify(struct flow *f, struct ending *e, int64_t now_us)
{
	struct leg *l = leg_of(f, e->to);

	require_void(f, l->backlog == NULL && !e->notified);
	if (f->session != NULL && session_is_early(f, e->to))
		e->how = ON_DEAD_RESET;
	/* Regardless of on_dead: a truncated body must not look complete. */
	if (e->how == ON_DEAD_CLOSE && session_ends_at_fin(f, e->to))
		e->how = ON_DEAD_RESET;
	if (e->how == ON_DEAD_NOTIFY && !send_close_message(f, e->to, false))
		e->how = ON_DEAD_RESET;
	if (e->how == ON_DEAD_RESET)
		return;
	if (!l->shut)
		(void)transport_shutdown(&l->transport);
	l->shut = e->notified = true;
	e->progress_us = now_us;
}

/* Bytes that the surviving peer has not acknowledged, or that are not passed to it yet. */
static size_t
undelivered(struct flow *f, const struct ending *e)
{
	const struct leg *dead = leg_of(f, e->dead), *survivor = leg_of(f, e->to);
	/* What is left unread of a record that was cut off is never read. */
	const bool is_read = dead->fin || (leg_is_tls(dead) && !dead->readable);

	return backlog_len(survivor) + transport_unacked(&survivor->transport) + (is_read ? 0 : transport_unread(&dead->transport));
}

bool
ending_check(struct flow *f, struct ending *e, int64_t now_us)
{
	assert(f->state == FLOW_ENDING && f->ending == e);
	require_or(f, !f->leg[e->to].dead, is_over(e, true, true));
	if (e->forced)
		return check_forced(f, e, now_us);
	if (!e->notified) {
		const struct verdict v = deliver(f, e);
		const size_t left = undelivered(f, e);

		if (v.kind == CUT_OFF)
			f->reason = v.reason;
		if (v.kind != GO_ON && v.kind != NOTHING)
			return is_over(e, true, true);
		if (left < e->left) {
			e->left = left;
			e->progress_us = now_us;
		}
		if (v.kind == NOTHING)
			notify(f, e, now_us);
		if (v.kind == NOTHING && e->how == ON_DEAD_RESET && left == 0)
			return is_over(e, true, true);
	}
	if (e->notified && (has_closed(f, e->to) || now_us - e->progress_us > CLOSE_WAIT_US))
		return is_over(e, e->to != CLIENT, e->to != BACKEND);
	if (!e->notified && now_us - e->progress_us > STALL_MAX_US)
		return is_over(e, true, true);
	return check_again(f, now_us);
}
