/*
 * session.c - drives the codec over the bytes of a flow. What the codec emits
 * is passed on; it does not emit replies to our heartbeats.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "relay/adopt.h"
#include "relay/ending.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/events.h"
#include "stent/log.h"

const struct codec *
session_codec(const struct session *ss)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): called only while there is a codec */
	const struct codec *inner = ss->codec->actual != NULL ? ss->codec->actual(ss->state) : NULL;

	return inner != NULL ? inner : ss->codec;
}

int
session_open(struct flow *f, const struct preface *preface, int64_t now_us)
{
	const struct codec *codec = f->route->codec;

	assert(codec->state_size <= CODEC_STATE_MAX);
	require_or(f, f->state == FLOW_OPEN && f->session == NULL && !f->has_old_settings, -EIO);
	f->session = calloc(1, sizeof(*f->session) + codec->state_size);
	if (f->session == NULL)
		return -ENOMEM;
	f->session->codec = codec;
	(void)codec->configure(f->session->state, &f->route->codec_settings);
	if (codec->seed != NULL)
		codec->seed(f->session->state, (uint64_t)relay_random(f->relay) << 32 | relay_random(f->relay));
	if (preface != NULL)
		preface_hand_over(f, preface, codec, f->session->state);
	heartbeats_open(f, now_us);
	require_promises_or(f, 0);	/* then it ends at once: see flow_work() */
	return 0;
}

void
session_free(struct flow *f)
{
	if (f->session != NULL)
		heartbeats_withdraw_trials(f);
	adopt_forget(f);
	free(f->session);
	f->session = NULL;
	require_promises_or(f, );	/* else the next flow would be ended for it */
}

static void
enter_passthrough(struct flow *f, enum side from, const struct codec_out *out)
{
	char client[ADDRESS_TEXT_MAX];

	const struct log_field fields[] = {
		LOG_INT("id", f->id),
		LOG_TEXT("route", f->route->name),
		LOG_TEXT("client", address_text(&f->client, client)),
		LOG_TEXT("protocol", session_codec(f->session)->name),
		LOG_TEXT("reason", out->passthrough),
		LOG_TEXT("from", side_name(from)),
		LOG_INT("offset", f->leg[from].bytes + codec_emitted(out) + out->early),
	};

	require_void(f, f->session->codec != NULL && f->session->passthrough == NULL);	/* it steps aside once */
	passthrough_add(counters_of(f)->passthrough, out->passthrough, 1);
	log_event(LEVEL_INFO, "protocol passthrough", fields, 7);
	events_say(EVENT_PASSTHROUGH, fields, 7);
	f->session->codec = NULL;
	adopt_forget(f);
	f->session->passthrough = out->passthrough;
}

/*
 * If this process dies while a FIN would make a truncated message look complete
 * (the bytes sent early have not come yet, or a body is delimited by the FIN),
 * the kernel must reset that leg.
 */
void
session_update_reset_at_close(struct flow *f, enum side to)
{
	struct leg *l = leg_of(f, to);
	const bool needs = session_is_early(f, to) || session_ends_at_fin(f, to);

	assert(f->session != NULL);
	if (l->reset_at_close == needs)
		return;
	l->reset_at_close = needs;
	transport_reset_at_close(&l->transport, needs);
}

/* Passes on what the codec emitted. */
static struct verdict
pass_on(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	const uint64_t n = codec_emitted(out);
	struct verdict v;

	require(f, out->replies == 0 || f->session->heartbeat[from].sent > 0);	/* who was sent none does not reply */
	require(f, out->early == 0 || f->session->heartbeat[side_other(from)].sent > 0);	/* that was sent early as a heartbeat */
	if (out->replies > 0) {
		const bool is_timed = f->session->heartbeat[from].oldest_ping_us != 0;
		const unsigned accepted = heartbeat_replied(&f->session->heartbeat[from], out->replies, now_us);

		if (is_timed)
			histogram_add(&counters_of(f)->round_trip[from], f->session->heartbeat[from].rtt_us);
		if (accepted != 0)
			trial_accepted(&relay_route(f)->trial[from], accepted);
		counter_add(&counters_of(f)->replies[from], out->replies);
	}
	if (out->refused != NULL)
		heartbeats_refused(f, from, out->refused);
	if (out->complaint != NULL && heartbeats_are_fresh(f, from, now_us))
		heartbeats_refused(f, from, out->complaint);
	require_promises(f);
	if (n + out->early == 0)
		return VERDICT(GO_ON);
	l->bytes += n + out->early;
	counter_add(&counters_of(f)->bytes[from], n + out->early);
	require(f, now_us >= f->session->app_us[from]);
	f->session->app_us[from] = now_us;
	v = pump_write(f, side_other(from), out->spans, out->n_spans, now_us);
	if (v.kind == GO_ON && (!to->reset_at_close || to->backlog == NULL))
		session_update_reset_at_close(f, side_other(from));
	return v;
}

/* Passes on bytes that the codec no longer sees. */
static struct verdict
pass_plain(struct flow *f, enum side from, const uint8_t *buf, size_t len, int64_t now_us)
{
	struct codec_out *out = &f->relay->out;

	require(f, f->session->codec == NULL && len > 0);
	codec_out_clear(out);
	codec_emit(out, buf, len);
	require(f, codec_emitted(out) == len);
	return pass_on(f, from, out, now_us);
}

static void
note(struct flow *f, const struct codec_out *out)
{
	if (out->note != NULL)
		log_event(LEVEL_INFO, "codec note", (struct log_field[]){
		    LOG_INT("id", f->id), LOG_TEXT("route", f->route->name), LOG_TEXT("note", out->note) }, 3);
}

/*
 * After passthrough the codec is not called again. If bytes that were sent
 * early then do not come as expected, the flow must be reset.
 */
static struct verdict
check_passthrough(struct flow *f, enum side from, const struct codec_out *out)
{
	bool is_early;

	if (out->passthrough == NULL)
		return VERDICT(GO_ON);
	is_early = session_is_early(f, CLIENT) || session_is_early(f, BACKEND);
	if (heartbeats_are_fresh(f, from, clock_us()))
		heartbeats_refused(f, from, out->passthrough);
	heartbeats_withdraw_trials(f);
	enter_passthrough(f, from, out);
	return is_early ? VERDICT_CUT_OFF(reason_on_side(REASON_CLIENT_ERROR, from)) : VERDICT(GO_ON);
}

/* Acts on the output of one call of the codec. */
static struct verdict
settle(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct verdict v;

	note(f, out);
	if (out->passthrough == NULL)
		f->session->codec = codec_next(f->session->codec, f->session->state);
	require_promises(f);
	require(f, f->session->codec != NULL && f->session->codec->state_size <= CODEC_STATE_MAX);
	if (f->first_goodbye == 0 && session_said_goodbye(f, from))
		f->first_goodbye = from == CLIENT ? 1 : 2;
	v = check_passthrough(f, from, out);
	if (v.kind == GO_ON)
		v = pass_on(f, from, out, now_us);
	if (v.kind == GO_ON && out->ends != NULL)
		v = VERDICT_CUT_OFF(reason_on_side(REASON_CLIENT_TLS, out->ends_on));
	return v;
}

#ifdef STENT_DEAR
static bool
is_outside_of(const struct iovec *v, const uint8_t *room, size_t len)
{
	const uint8_t *at = v->iov_base;

	return at < room || at >= room + len || v->iov_len <= (size_t)(room + len - at);
}

/* A span that begins in the bytes that were consumed, or in scratch, ends there; none is empty. */
static bool
spans_are_whole(const struct codec_out *out, const uint8_t *buf, size_t used)
{
	for (size_t i = 0; i < out->n_spans; i++)
		if (out->spans[i].iov_len == 0 || !is_outside_of(&out->spans[i], buf, used) ||
		    !is_outside_of(&out->spans[i], out->scratch, out->scratch_used))
			return false;
	return true;
}
#endif

/* Side `from` has sent bytes: heartbeats to the other side that heartbeat_limit had stopped resume. That leg has no timer. */
static void
resume_after_limit(struct flow *f, enum side from)
{
	struct heartbeat_leg *h = &f->session->heartbeat[side_other(from)];

	require_void(f, f->session->codec != NULL);
	if (h->hold != HEARTBEAT_HOLD_LIMIT)
		return;
	h->hold = HEARTBEAT_HOLD_NONE;
	flow_wake_at(f, leg_of(f, from)->rx_us + heartbeats_gap_us(f, side_other(from)));
}

struct verdict
session_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len)
{
	struct session *ss = f->session;
	struct codec_out *out = &f->relay->out;
	const int64_t now_us = leg_of(f, from)->rx_us;

	require(f, len > 0 && !f->leg[from].fin);
	if (ss->codec != NULL)
		resume_after_limit(f, from);
	while (len > 0 && ss->codec != NULL) {
		struct verdict verdict;
		size_t used;

		codec_out_clear(out);
		require_dear(f, !promise_is_broken());	/* by another flow: then its caller did not ask */
		used = ss->codec->feed(ss->state, from, buf, len, out);
		assert(out->n_spans <= CODEC_SPANS && out->scratch_used <= CODEC_SCRATCH);	/* else it wrote past the relay's memory */
		require_promises(f);
		require(f, used <= len);
		require(f, used > 0 || out->n_spans > 0 || out->passthrough != NULL);	/* it goes on: else this never ends */
		require_dear(f, codec_emitted(out) + out->early <= used + CODEC_STATE_MAX);	/* what it was given, and what it had held */
		require(f, out->ends == NULL || out->ends_on == CLIENT || out->ends_on == BACKEND);
		require_dear(f, spans_are_whole(out, buf, used));
		buf += used;
		len -= used;
		verdict = settle(f, from, out, now_us);
		if (verdict.kind != GO_ON)
			return verdict;
	}
	return len == 0 ? VERDICT(GO_ON) : pass_plain(f, from, buf, len, now_us);
}

struct verdict
session_finish(struct flow *f, enum side from)
{
	struct session *ss = f->session;
	struct codec_out *out = &f->relay->out;

	require(f, f->leg[from].fin);
	if (ss->codec == NULL || ss->codec->finish == NULL)
		return VERDICT(NOTHING);
	codec_out_clear(out);
	ss->codec->finish(ss->state, from, out);
	assert(out->n_spans <= CODEC_SPANS && out->scratch_used <= CODEC_SCRATCH);
	require_promises(f);
	require(f, codec_emitted(out) <= CODEC_STATE_MAX);	/* no more than it can have held */
	return settle(f, from, out, clock_us());
}

uint64_t
session_skippable(const struct flow *f, enum side from)
{
	const struct session *ss = f->session;
	uint64_t n;

	if (ss->codec == NULL)
		return UINT64_MAX;
	n = ss->codec->skippable != NULL ? ss->codec->skippable(ss->state, from) : 0;
	require_promises_or(f, 0);
	return n;
}

void
session_skipped(struct flow *f, enum side from, uint64_t n)
{
	struct session *ss = f->session;

	require_void(f, n > 0);
	ss->app_us[from] = leg_of(f, from)->rx_us;
	if (ss->codec == NULL)
		return;
	require_void(f, n <= session_skippable(f, from));
	resume_after_limit(f, from);
	ss->codec->skipped(ss->state, from, n);
	require_promises_or(f, );
}

bool
session_ends_at_fin(const struct flow *f, enum side to)
{
	const struct session *ss = f->session;
	const bool does = ss != NULL && ss->codec != NULL && ss->codec->ends_at_fin != NULL && !f->leg[to].shut &&
	    ss->codec->ends_at_fin(ss->state, to);

	require_promises_or(f, false);
	return does;
}

bool
session_is_early(const struct flow *f, enum side to)
{
	const struct session *ss = f->session;
	const bool does = ss->codec != NULL && ss->codec->is_early != NULL && ss->codec->is_early(ss->state, to);

	require_promises_or(f, false);
	return does;
}

bool
session_said_goodbye(const struct flow *f, enum side s)
{
	const struct session *ss = f->session;
	const bool does = ss != NULL && ss->codec != NULL && ss->codec->said_goodbye != NULL && ss->codec->said_goodbye(ss->state, s);

	require_promises_or(f, false);
	return does;
}

int64_t
session_app_us(const struct flow *f, enum side s)
{
	return f->session != NULL ? f->session->app_us[s] : f->leg[s].rx_us;
}

const char *
session_protocol(const struct flow *f)
{
	if (f->session != NULL)
		return f->session->codec != NULL ? session_codec(f->session)->name : "tcp";
	return f->route->codec != NULL ? f->route->codec->name : "tcp";		/* it has not opened */
}

size_t
session_close_message(struct flow *f, enum side to, bool at_rest, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct session *ss = f->session;
	const enum side dead = side_other(to);
	const struct codec_close_info info = {
		.dead = dead,
		.reason = reason_text((enum close_reason)f->reason),
		.idle_ms = (clock_us() - leg_of(f, dead)->rx_us) / US_PER_MS,
		.at_rest = at_rest,
	};
	size_t n;

	if (ss == NULL || ss->codec == NULL || ss->codec->close_message == NULL || session_is_early(f, to))
		return 0;
	require_or(f, !f->leg[to].shut && f->leg[to].backlog == NULL, 0);	/* nothing follows our FIN, or goes before what waits */
	n = ss->codec->close_message(ss->state, to, &info, buf);
	require_promises_or(f, 0);
	require_or(f, n <= CODEC_CLOSE_MESSAGE_MAX, 0);
	return n;
}

size_t
session_cancel(const struct flow *f, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	const struct session *ss = f->session;

	const size_t n = ss != NULL && ss->codec != NULL && ss->codec->cancel != NULL ? ss->codec->cancel(ss->state, buf) : 0;

	require_promises_or(f, 0);
	return n;
}
