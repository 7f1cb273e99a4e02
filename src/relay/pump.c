/*
 * pump.c - bytes from one leg to the other; the same code for both directions.
 *
 * A round reads once and sends at once. Rounds go on while the socket has more
 * and the other one takes it, up to ROUNDS; then other flows get their turn. A
 * short read means that the socket is empty (epoll(7)), so no read is spent on
 * an EAGAIN. The exceptions are a FIN (EV_CLOSED shows it) and an urgent byte:
 * see flow_recheck().
 *
 * A side with large reads is bulk: its bytes go by splice() through a pooled
 * pipe, without being copied to user space. Not those of TLS.
 *
 * TLS reads records: bytes may be left that no edge will tell of
 * (transport_is_pending()), and what it writes, also in answer to what it reads,
 * may not be sent at once (transport_unsent()): that is a backlog.
 */
#include <assert.h>
#include <errno.h>

#include "relay/ending.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/urgent.h"

#define ROUNDS 4			/* before other flows get their turn */
#define SPLICE_MIN (16 * 1024)		/* a splice of fewer bytes ends bulk mode */
#define URGENT_CHECK_US (10 * US_PER_S)	/* how long reads check for an urgent byte after a signal for one */
#define BULK_MIN (64 * 1024)		/* a read of this many bytes begins bulk mode */

_Static_assert(BULK_MIN <= RELAY_BUFFER && SPLICE_MIN < BULK_MIN, "a read can begin bulk mode, and its first splice does not end it");
_Static_assert(CODEC_SPANS <= TRANSPORT_SPANS_MAX, "what a codec emits is written by one call");

void
pump_sent(struct flow *f, enum side to, int64_t now_us)
{
	const int64_t timeout_ms = leg_settings(f, to)->keepalive.user_timeout_ms;
	const int64_t look_us = now_us + timeout_ms * US_PER_MS / 2;

	require_void(f, now_us > 0 && timeout_ms >= 0);
	leg_of(f, to)->tx_us = now_us;
	if (timeout_ms == 0 || f->state != FLOW_OPEN)
		return;
	/* There is one watch for both legs, whose timeouts may differ: the earlier time is kept. */
	if (f->watch_us != 0 && f->watch_us <= look_us)
		return;
	f->watch_us = look_us;
	flow_wake_at(f, look_us);
}

/* Out of memory: what was sent last may be a part of a message, so nothing may follow it. The leg is reset. */
static struct verdict
cut_short(struct leg *l)
{
	l->shut = true;
	return VERDICT_CUT_OFF(REASON_MEMORY);
}

/* Adds what v holds beyond the first `skip` bytes to the backlog. */
static int
store_rest(struct leg *l, const struct iovec *v, size_t n, size_t skip)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (skip < v[i].iov_len)
			r = backlog_add(l, (const uint8_t *)v[i].iov_base + skip, v[i].iov_len - skip);
		skip -= skip < v[i].iov_len ? skip : v[i].iov_len;
	}
	require_or(flow_of_leg(l), skip == 0 || r != 0, -EIO);	/* no more was sent than there is */
	return r;
}

/* Unsent bytes of TLS are a backlog. False: out of memory. */
static bool
holds_unsent(struct leg *l)
{
	return !leg_is_tls(l) || l->backlog != NULL || transport_unsent(&l->transport) == 0 || backlog_hold(l) == 0;
}

struct verdict
pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us)
{
	struct leg *l = leg_of(f, to);
	size_t total = 0;
	ssize_t r = 0;

	require(f, !l->dead && !l->shut);	/* nothing follows our FIN */
	require(f, n <= TRANSPORT_SPANS_MAX);
	for (size_t i = 0; i < n; i++)
		total += v[i].iov_len;
	if (total == 0)
		return VERDICT(GO_ON);
	if (l->backlog == NULL) {
		r = transport_write(&l->transport, v, n);
		if (r < 0 && r != -EAGAIN)
			return VERDICT_FAILED(to, (int)-r);
	}
	require(f, r <= (ssize_t)total);
	if (r > 0)
		pump_sent(f, to, now_us);
	if (r < (ssize_t)total && store_rest(l, v, n, r > 0 ? (size_t)r : 0) != 0)
		return cut_short(l);
	return holds_unsent(l) ? VERDICT(GO_ON) : VERDICT_CUT_OFF(REASON_MEMORY);
}

static void
received(struct flow *f, enum side from, uint64_t n)
{
	struct leg *l = leg_of(f, from);

	require_void(f, n > 0 && l->rx_us > 0);
	l->bytes += n;
	counter_add(&counters_of(f)->bytes[from], n);
}

static struct verdict
read_fin(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);

	require(f, !l->fin && leg_of(f, side_other(from))->backlog == NULL);	/* its FIN is passed on behind all its bytes */
	require(f, f->state == FLOW_OPEN || f->state == FLOW_ENDING);
	l->fin = true;
	l->readable = false;
	/* Behind a close message nothing can be missing. Few servers send a close_notify then. */
	l->truncated = leg_is_tls(l) && f->state == FLOW_OPEN && f->first_goodbye == 0 && transport_is_truncated(&l->transport);
	if (f->reason == REASON_NONE)
		f->reason = (uint8_t)reason_on_side(REASON_CLIENT_FIN, flow_who_left(f, from));
	if (f->session == NULL)
		return VERDICT(NOTHING);
	if (f->state == FLOW_OPEN)
		heartbeats_judge_end(f, from, clock_us());
	return session_finish(f, from);
}

/* A read that gave no bytes: the end (0), nothing now, or an error. */
static struct verdict
read_nothing(struct flow *f, enum side from, ssize_t n)
{
	struct leg *l = leg_of(f, from);

	require(f, n <= 0 && !l->fin);
	if (n == 0)
		return l->error != 0 ? VERDICT_FAILED(from, l->error) : read_fin(f, from);
	if (n != -EAGAIN)
		return VERDICT_FAILED(from, (int)-n);
	l->readable = false;
	if (leg_is_tls(l))	/* a part of a record may have come, by an edge that stands for a reset, too */
		flow_recheck(f, from, clock_us());
	return VERDICT(NOTHING);
}

/*
 * The next read may begin with an urgent byte: one is there, or was signalled recently for any flow of this worker
 * and may still be under way. Without signals this costs nothing.
 */
static bool
may_be_urgent(struct flow *f, const struct leg *l)
{
	const unsigned signals = urgent_signals();
	struct relay *r = f->relay;

	if (!f->route->urgent || signals == 0)
		return l->urgent;
	if (r->urgent_signals != signals) {
		r->urgent_signals = signals;
		r->urgent_until_us = clock_us() + URGENT_CHECK_US;
	}
	if (f->urgent_seen != (uint8_t)signals) {
		f->urgent_seen = (uint8_t)signals;
		for (enum side s = CLIENT; s <= BACKEND; s++)
			if (transport_is_open(&leg_of(f, s)->transport))
				leg_of(f, s)->urgent |= (transport_look(&leg_of(f, s)->transport) & SOCKET_URGENT) != 0;
	}
	return l->urgent || clock_us() < r->urgent_until_us;
}

/* Passes on the urgent byte alone, as urgent. The codec does not see it, as it is not part of the peer's normal stream. */
static struct verdict
pump_urgent(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	uint8_t byte;
	ssize_t n;

	require(f, to->backlog == NULL && !to->shut);
	require(f, !l->fin);
	n = transport_read(&l->transport, &byte, 1);
	if (n != 1)
		return read_nothing(f, from, n);
	l->urgent = false;
	l->rx_us = clock_us();
	if (f->session != NULL)
		f->session->app_us[from] = l->rx_us;
	received(f, from, 1);
	n = transport_write_urgent(&to->transport, byte);
	require(f, n <= 1);
	if (n == 1)
		pump_sent(f, to->side, l->rx_us);
	else if (n != -EAGAIN)
		return VERDICT_FAILED(to->side, (int)-n);
	else if (backlog_add_urgent(to, byte) != 0)
		return cut_short(to);
	return holds_unsent(to) ? VERDICT(GO_ON) : VERDICT_CUT_OFF(REASON_MEMORY);
}

/* Moves the pipe's contents to side `to`; what it does not take becomes its backlog. */
static struct verdict
splice_out(struct flow *f, enum side to, struct pipe *p)
{
	struct leg *l = leg_of(f, to);
	struct verdict v = VERDICT(GO_ON);

	assert(l->backlog == NULL && p->len > 0 && p->len <= PIPE_BYTES);
	while (p->len > 0 && v.kind == GO_ON) {
		const ssize_t n = transport_write_from_pipe(&l->transport, p->out, p->len);

		assert(n <= (ssize_t)p->len);		/* else its length would wrap around */
		if (n > 0) {
			p->len -= (size_t)n;
			pump_sent(f, to, leg_of(f, side_other(to))->rx_us);
		} else if (n == -EAGAIN) {
			if (backlog_add_pipe(l, p) == 0)
				return v;
			v = cut_short(l);
		} else {
			v = VERDICT_FAILED(to, n == 0 ? EPIPE : (int)-n);
		}
	}
	relay_give_pipe(f->relay, p);
	return v;
}

/* An error of splice() that comes from the socket, not from the pipe or the call. */
static bool
is_socket_error(ssize_t n)
{
	return n < 0 && n != -EAGAIN && n != -EINVAL && n != -ENOMEM;
}

/* NOTHING: nothing came by splice(); read instead. */
static struct verdict
pump_splice(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);
	const uint64_t max = f->session != NULL ? session_skippable(f, from) : UINT64_MAX;
	struct pipe *p;
	ssize_t n;

	if (max < SPLICE_MIN || !transport_can_splice(&l->transport) || !transport_can_splice(&leg_of(f, side_other(from))->transport))
		return VERDICT(NOTHING);
	require(f, leg_of(f, side_other(from))->backlog == NULL && !leg_of(f, side_other(from))->shut);
	p = relay_take_pipe(f->relay);
	if (p == NULL)
		return VERDICT(NOTHING);
	n = transport_read_into_pipe(&l->transport, p->in, max < PIPE_BYTES ? (size_t)max : PIPE_BYTES);
	if (n < SPLICE_MIN)
		l->bulk = false;
	if (n <= 0) {
		/*
		 * The end, nothing, or an urgent byte that splice() does not pass: a
		 * read shows which. An error is kept: the read would show it as the end.
		 */
		if (is_socket_error(n))
			l->error = (uint8_t)-n;
		relay_give_pipe(f->relay, p);
		return VERDICT(NOTHING);
	}
	p->len = (size_t)n;
	assert(n <= PIPE_BYTES && (uint64_t)n <= max);	/* the codec must see what is behind that */
	l->rx_us = clock_us();
	received(f, from, (uint64_t)n);
	if (f->session != NULL)
		session_skipped(f, from, (uint64_t)n);
	return splice_out(f, side_other(from), p);
}

struct verdict
pump_once(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);
	uint8_t *buf = f->relay->buf;
	const bool urgent = may_be_urgent(f, l);
	const int at_urgent = urgent ? transport_at_urgent(&l->transport) : 0;
	struct verdict v;
	ssize_t n;

	require(f, !l->fin && leg_of(f, side_other(from))->backlog == NULL);	/* only what can be passed on is read */
	if (at_urgent < 0)
		return read_nothing(f, from, at_urgent);
	if (at_urgent > 0)
		return pump_urgent(f, from);
	if (l->bulk) {
		v = pump_splice(f, from);	/* this also stops before an urgent byte */
		if (v.kind != NOTHING)
			return v;
	}
	n = transport_read(&l->transport, buf, RELAY_BUFFER);
	if (!holds_unsent(l))
		return VERDICT_CUT_OFF(REASON_MEMORY);
	if (n <= 0)
		return read_nothing(f, from, n);
	l->rx_us = clock_us();
	assert(n <= RELAY_BUFFER);
	l->bulk = n >= BULK_MIN;
	if (n < RELAY_BUFFER && !l->hup && !urgent && !(leg_is_tls(l) && transport_is_pending(&l->transport)))
		l->readable = false;
	if (f->session != NULL) {
		v = session_forward(f, from, buf, (size_t)n);
	} else {
		received(f, from, (uint64_t)n);
		v = pump_write(f, side_other(from), &(struct iovec){ buf, (size_t)n }, 1, l->rx_us);
	}
	if (v.kind == GO_ON && !l->readable)
		flow_recheck(f, from, l->rx_us);
	return v;
}

/* The second FIN, to side `to`: closing sends it, but not TLS's close_notify, nor what TLS has not sent yet. */
static struct verdict
close_both(struct flow *f, struct leg *to)
{
	const struct leg *from = leg_of(f, side_other(to->side));
	int r;

	require(f, from->fin && from->shut && to->fin && to->shut);
	r = leg_is_tls(to) ? transport_shutdown(&to->transport) : 0;
	/* Another error: this side has said all and is gone. */
	if (r == -ENOMEM || r == -ENOBUFS || (r == 0 && !holds_unsent(to)))
		return VERDICT_CUT_OFF(REASON_MEMORY);
	return VERDICT(from->backlog == NULL && to->backlog == NULL ? BOTH_CLOSED : GO_ON);
}

/* All that side `from` sent has been passed on, and its FIN was read. */
static struct verdict
pass_fin(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	int r;

	require(f, l->fin && !to->shut && to->backlog == NULL);
	require(f, !l->shut || to->fin);	/* our FIN to a side is the other side's */
	/* A FIN after bytes that were sent early would make a truncated message look complete. */
	if (f->session != NULL && session_is_early(f, to->side))
		return VERDICT_CUT_OFF(f->reason);
	to->shut = true;
	if (l->shut)
		return close_both(f, to);
	if (f->session != NULL)
		session_update_reset_at_close(f, to->side);
	r = transport_shutdown(&to->transport);
	if (r != 0 && r != -ENOTCONN)
		return VERDICT_FAILED(to->side, -r);
	if (!holds_unsent(to))
		return VERDICT_CUT_OFF(REASON_MEMORY);
	flow_half_closed(f);
	return VERDICT(GO_ON);
}

struct verdict
pump(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	int rounds = ROUNDS;

	require(f, f->state == FLOW_OPEN && !l->dead && !to->dead);
	while (l->readable && !l->fin && to->backlog == NULL) {
		struct verdict v;

		if (rounds-- == 0) {
			flow_requeue(f);
			return VERDICT(GO_ON);
		}
		v = pump_once(f, from);
		if (v.kind != GO_ON && v.kind != NOTHING)
			return v;
	}
	if (l->fin && !to->shut && to->backlog == NULL)
		return pass_fin(f, from);
	if (l->fin && to->fin && l->shut && to->shut && l->backlog == NULL && to->backlog == NULL)
		return VERDICT(BOTH_CLOSED);	/* what TLS had not sent is sent now */
	return VERDICT(GO_ON);
}
