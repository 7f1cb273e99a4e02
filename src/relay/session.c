/*
 * session.c - the codec of a flow over its bytes: what it lets through is
 * passed on, and the replies to heartbeats stay out.
 */
#include <errno.h>
#include <stdlib.h>

#include "relay/flow.h"
#include "stent/log.h"

const struct codec *
session_codec(const struct session *v)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked only while there is a codec */
	const struct codec *inner = v->codec->actual != NULL ? v->codec->actual(v->state) : NULL;

	return inner != NULL ? inner : v->codec;
}

int
session_open(struct flow *f, int64_t now_us)
{
	const struct codec *codec = f->route->codec;

	f->session = calloc(1, sizeof(*f->session) + codec->state_size);
	if (f->session == NULL)
		return -ENOMEM;
	f->session->codec = codec;
	(void)codec->configure(f->session->state, &f->route->codec_settings);
	if (codec->seed != NULL)
		codec->seed(f->session->state, (uint64_t)relay_random(f->relay) << 32 | relay_random(f->relay));
	heartbeats_open(f, now_us);
	return 0;
}

void
session_free(struct flow *f)
{
	if (f->session != NULL)
		heartbeats_withdraw_trials(f);
	free(f->session);
	f->session = NULL;
}

static uint64_t
emitted(const struct codec_out *out)
{
	uint64_t n = 0;

	for (size_t i = 0; i < out->n_spans; i++)
		n += out->spans[i].iov_len;
	return n;
}

static void
let_go(struct flow *f, enum side from, const struct codec_out *out)
{
	char client[ADDRESS_TEXT_MAX];

	passthrough_add(f->relay->counters->passthrough, out->passthrough, 1);
	log_event(LEVEL_INFO, "protocol passthrough", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("protocol", session_codec(f->session)->name),
	    LOG_TEXT("reason", out->passthrough),
	    LOG_TEXT("from", side_name(from)),
	    LOG_INT("offset", f->leg[from].bytes + emitted(out) + out->early),
	}, 7);
	f->session->codec = NULL;
	f->session->passthrough = out->passthrough;
}

/*
 * Whatever ends this process while a FIN would make a part look whole (bytes
 * sent ahead are not covered, or a body ends with its connection alone), the
 * kernel resets that leg.
 */
void
session_guard(struct flow *f, enum side to)
{
	struct leg *l = leg_of(f, to);
	const bool needs = session_is_early(f, to) || session_ends_at_fin(f, to);

	if (l->guarded == needs)
		return;
	l->guarded = needs;
	transport_reset_at_close(&l->transport, needs);
}

/* Passes on what a codec let through. */
static struct verdict
pass_on(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	const uint64_t n = emitted(out);
	struct verdict v;

	if (out->replies > 0) {
		const unsigned borne = heartbeat_replied(&f->session->heartbeat[from], out->replies, now_us);

		if (borne != 0)
			trial_borne(&relay_route(f)->trial[from], borne);
		counter_add(&f->relay->counters->replies[from], out->replies);
	}
	if (out->refused != NULL)
		heartbeats_refused(f, from, out->refused);
	if (out->complaint != NULL && heartbeats_are_fresh(f, from, now_us))
		heartbeats_refused(f, from, out->complaint);
	if (n + out->early == 0)
		return VERDICT(GO_ON);
	l->bytes += n + out->early;
	counter_add(&f->relay->counters->bytes[from], n + out->early);
	f->session->app_us[from] = now_us;
	v = pump_write(f, side_other(from), out->spans, out->n_spans, now_us);
	if (v.kind == GO_ON && (!to->guarded || to->backlog == NULL))
		session_guard(f, side_other(from));
	return v;
}

/* Bytes that the codec saw, or need not see any more. */
static struct verdict
pass_plain(struct flow *f, enum side from, const uint8_t *buf, size_t len, int64_t now_us)
{
	struct codec_out *out = &f->relay->out;

	codec_out_clear(out);
	codec_emit(out, buf, len);
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
 * A codec that lets go is not asked again. Where what was sent ahead to a side
 * will not come as promised, only a reset is honest.
 */
static struct verdict
settle_doubt(struct flow *f, enum side from, const struct codec_out *out)
{
	bool is_early;

	if (out->passthrough == NULL)
		return VERDICT(GO_ON);
	is_early = session_is_early(f, CLIENT) || session_is_early(f, BACKEND);
	if (heartbeats_are_fresh(f, from, clock_us()))
		heartbeats_refused(f, from, out->passthrough);
	heartbeats_withdraw_trials(f);
	let_go(f, from, out);
	return is_early ? VERDICT_CUT_OFF(reason_on_side(REASON_CLIENT_ERROR, from)) : VERDICT(GO_ON);
}

/* What one call of the codec gave. */
static struct verdict
settle(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct verdict v;

	note(f, out);
	if (out->passthrough == NULL)
		f->session->codec = codec_next(f->session->codec, f->session->state);
	v = settle_doubt(f, from, out);
	return v.kind == GO_ON ? pass_on(f, from, out, now_us) : v;
}

/* Side `from` has spoken: a leg that waited for that has no timer of its own. */
static void
wake_held(struct flow *f, enum side from)
{
	struct heartbeat_leg *b = &f->session->heartbeat[side_other(from)];

	if (b->hold != HEARTBEAT_HOLD_LIMIT)
		return;
	b->hold = HEARTBEAT_HOLD_NONE;
	flow_wake_at(f, leg_of(f, from)->rx_us + heartbeats_gap_us(f, side_other(from)));
}

struct verdict
session_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len)
{
	struct session *v = f->session;
	struct codec_out *out = &f->relay->out;
	const int64_t now_us = leg_of(f, from)->rx_us;

	if (v->codec != NULL)
		wake_held(f, from);
	while (len > 0 && v->codec != NULL) {
		struct verdict verdict;
		size_t used;

		codec_out_clear(out);
		used = v->codec->feed(v->state, from, buf, len, out);
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
	struct session *v = f->session;
	struct codec_out *out = &f->relay->out;

	if (v->codec == NULL || v->codec->finish == NULL)
		return VERDICT(NOTHING);
	codec_out_clear(out);
	v->codec->finish(v->state, from, out);
	return settle(f, from, out, clock_us());
}

uint64_t
session_skippable(const struct flow *f, enum side from)
{
	const struct session *v = f->session;

	if (v->codec == NULL)
		return UINT64_MAX;
	return v->codec->skippable != NULL ? v->codec->skippable(v->state, from) : 0;
}

void
session_skipped(struct flow *f, enum side from, uint64_t n)
{
	struct session *v = f->session;

	v->app_us[from] = leg_of(f, from)->rx_us;
	if (v->codec == NULL)
		return;
	wake_held(f, from);
	v->codec->skipped(v->state, from, n);
}

bool
session_ends_at_fin(const struct flow *f, enum side to)
{
	const struct session *v = f->session;

	return v != NULL && v->codec != NULL && v->codec->ends_at_fin != NULL && !f->leg[to].shut &&
	    v->codec->ends_at_fin(v->state, to);
}

bool
session_is_early(const struct flow *f, enum side to)
{
	const struct session *v = f->session;

	return v->codec != NULL && v->codec->is_early != NULL && v->codec->is_early(v->state, to);
}

bool
session_said_goodbye(const struct flow *f, enum side s)
{
	const struct session *v = f->session;

	return v != NULL && v->codec != NULL && v->codec->said_goodbye != NULL && v->codec->said_goodbye(v->state, s);
}

int64_t
session_app_us(const struct flow *f, enum side s)
{
	return f->session != NULL ? f->session->app_us[s] : f->leg[s].rx_us;
}

const char *
session_protocol(const struct flow *f)
{
	return f->session != NULL && f->session->codec != NULL ? session_codec(f->session)->name : "tcp";
}

size_t
session_close_message(struct flow *f, enum side to, enum side dead, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct session *v = f->session;
	const struct codec_close_info o = {
		.dead = dead,
		.reason = reason_text((enum close_reason)f->reason),
		.quiet_ms = (clock_us() - leg_of(f, dead)->rx_us) / US_PER_MS,
	};

	if (v == NULL || v->codec == NULL || v->codec->close_message == NULL || session_is_early(f, to))
		return 0;
	return v->codec->close_message(v->state, to, &o, buf);
}

size_t
session_cancel(const struct flow *f, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	const struct session *v = f->session;

	return v != NULL && v->codec != NULL && v->codec->cancel != NULL ? v->codec->cancel(v->state, buf) : 0;
}
